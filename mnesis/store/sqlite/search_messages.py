"""The messages of search hits, read a page at a time."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from mnesis.formats.text import message_text
from mnesis.models.message import Message
from mnesis.models.search import Search
from mnesis.redaction import get_logger
from mnesis.search.pagination import page_limit
from mnesis.store.codec import DamagedValueError
from mnesis.store.sqlite.queries import sql
from mnesis.store.sqlite.rows import message_from_row
from mnesis.store.sqlite.search_scope import SearchScope, seq_of

logger = get_logger(__name__)


def readable_messages(
    connection: sqlite3.Connection, scope: SearchScope, keys: Iterable[int], search: Search
) -> Iterator[tuple[int, Message, str | None]]:
    """Yield messages in the order of `keys`, each with the summary that covers it. Reads a page of them at a time.

    A damaged message raises if one session is searched. In a search of all sessions it is skipped, so that it does not
    hide the others.
    """
    remaining = iter(keys)
    while batch := list(islice(remaining, page_limit(search.limit) + 1)):
        parameters = {"keys": json.dumps(batch), "fork_pk": scope.fork_pk}
        rows = {row[9]: row for row in connection.execute(sql("search_messages"), parameters)}
        for key in batch:
            try:
                message = _message_from_row(scope, key, rows.get(key))
            except DamagedValueError as error:
                if search.session_id is not None:
                    raise
                logger.warning("%s is damaged and is left out of the results; run mnesis doctor", error)
                continue
            yield key, message, rows[key][10]


def read_texts(connection: sqlite3.Connection, scope: SearchScope, keys: Sequence[int]) -> dict[int, str]:
    """Return the texts of messages by key, without those of damaged messages."""
    texts: dict[int, str] = {}
    for row in connection.execute(sql("search_messages"), {"keys": json.dumps(keys), "fork_pk": scope.fork_pk}):
        with suppress(DamagedValueError):
            texts[row[9]] = message_text(_message_from_row(scope, row[9], row))
    return texts


def _message_from_row(scope: SearchScope, key: int, row: tuple[Any, ...] | None) -> Message:
    log = scope.log(key)
    if row is None:
        raise DamagedValueError(f"message {seq_of(key)} of session {log.session_id!r}, which is missing,")
    return message_from_row(log.session_id, (*row[:9], log.owner_id or log.session_id))
