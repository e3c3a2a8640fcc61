"""Vectors of messages in the search index, on any connection that has its tables.

They can be computed again at any time, so a missing or damaged vector is never an error. Its message can be found by
words.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple
from zlib import crc32

from mnesis.formats.text import message_text
from mnesis.models.search import QueryVector, UnembeddedMessage
from mnesis.search.vectors import is_readable
from mnesis.store.codec import DamagedValueError
from mnesis.store.sqlite.queries import sql
from mnesis.store.sqlite.rows import message_from_row
from mnesis.store.sqlite.search_scope import SEQ_BITS, LogRange, SearchScope, key_of

MAX_VECTOR_BYTES = 64 << 20
"""The largest size of the vectors that one search reads, newest first: about 200,000 messages of one passage with 256
dimensions."""


class StoredVectors(NamedTuple):
    """The vectors of a scope in the order of keys, the number of messages without one, and keys whose vector is damaged."""

    vectors: list[tuple[int, bytes]]
    missing: int
    damaged_keys: tuple[int, ...]


def read_vectors(connection: sqlite3.Connection, scope: SearchScope, query: QueryVector) -> StoredVectors:
    """Read the vectors of the model of a query, the newest first until `MAX_VECTOR_BYTES` are read."""
    vectors: list[tuple[int, bytes]] = []
    damaged: list[int] = []
    size = 0
    for key, stored, crc in _rows(connection, scope, query.model):
        if crc is not None and vector_checksum(key, query.model, stored) != crc:
            damaged.append(key)
        elif is_readable(stored, len(query.values)):
            vectors.append((key, stored))
            size += len(stored)
        if size > MAX_VECTOR_BYTES:
            return StoredVectors(vectors[::-1], 0, tuple(damaged))
    return StoredVectors(vectors[::-1], scope.total - len(vectors), tuple(damaged))


def _rows(connection: sqlite3.Connection, scope: SearchScope, model: str) -> Iterator[tuple[int, bytes, int | None]]:
    for first_key, last_key in reversed(scope.spans):
        parameters = {"model": model, "first_key": first_key, "last_key": last_key}
        for row in connection.execute(sql("search_vectors"), parameters):
            if scope.contains(row[0]):
                yield row


def vector_checksum(key: int, model: str, stored: object) -> int:
    """Return the checksum of the stored vectors of a message."""
    start = crc32(f"{key} {model}".encode("utf-8", "surrogatepass"))
    return crc32(stored, start) if isinstance(stored, bytes) else -1


def save_vectors(connection: sqlite3.Connection, model: str, vectors: Mapping[int, bytes]) -> None:
    """Store the vectors of messages by key, replacing earlier ones of this model."""
    rows = [(key, model, stored, vector_checksum(key, model, stored)) for key, stored in vectors.items()]
    connection.executemany(sql("save_search_vectors"), rows)


def save_present_vectors(connection: sqlite3.Connection, model: str, vectors: Mapping[int, bytes]) -> None:
    """Store the vectors of messages whose session was not purged in the meantime."""
    present = {pk for pk in {key >> SEQ_BITS for key in vectors} if _is_session(connection, pk)}
    save_vectors(connection, model, {key: each for key, each in vectors.items() if key >> SEQ_BITS in present})


def _is_session(connection: sqlite3.Connection, session_pk: int) -> bool:
    return connection.execute(sql("search_session"), {"session_pk": session_pk}).fetchone() is not None


def unembedded_messages(
    connection: sqlite3.Connection, scope: SearchScope, model: str, after_seq: int, limit: int
) -> list[UnembeddedMessage]:
    """Return the next messages of a scope that have no vector of a model."""
    unembedded: list[UnembeddedMessage] = []
    for log in scope.logs:
        parameters = {
            "session_pk": log.pk,
            "first_seq": max(log.first_seq, after_seq + 1),
            "last_seq": log.last_seq,
            "model": model,
            "limit": limit - len(unembedded),
        }
        rows = connection.execute(sql("search_without_vectors"), parameters)
        unembedded += (UnembeddedMessage(key_of(log.pk, row[0]), _readable_text(log, row)) for row in rows)
        if len(unembedded) >= limit:
            break
    return unembedded


def _readable_text(log: LogRange, row: tuple[Any, ...]) -> str:
    """Return the text of a message, or "" if it is damaged: it then has a vector that resembles nothing."""
    try:
        return message_text(message_from_row(log.session_id, (*row, log.owner_id or log.session_id)))
    except DamagedValueError:
        return ""


def delete_vectors(connection: sqlite3.Connection, keys: Iterable[int]) -> None:
    """Delete the vectors of messages, of all models."""
    connection.executemany(sql("delete_search_vectors"), [(key, key) for key in keys])
