"""Transactions on the log: appending and reading messages and turns."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from mnesis.errors import MessageNotFoundError
from mnesis.models.message import FileReference, Message
from mnesis.models.results import CompactionResult, TurnSnapshot
from mnesis.store.accounting import file_ids, grown, refuse_other_content, with_compactions
from mnesis.store.base import Append, Appended
from mnesis.store.codec import EncodedMessage
from mnesis.store.sqlite.queries import sql
from mnesis.store.sqlite.rows import (
    Row,
    StoredSession,
    compactions_of,
    message_from_row,
    message_row,
    save_accounts,
    stored_session,
    turn_from_row,
    turn_row,
)

NO_LIMIT = -1
END_OF_LOG = 2**63 - 1


def append(
    connection: sqlite3.Connection, session_id: str, append: Append, encoded: Sequence[EncodedMessage], where: str
) -> Appended:
    """Insert messages and snapshot and move the accounts, or find all of it done already."""
    stored = stored_session(connection, session_id, where)
    present = _rows_by_id(connection, stored.pk, [message.id for message in encoded])
    if present:
        return _repeated(connection, stored, encoded, present, where)
    after, snapshot = grown(stored.record, append)
    first_seq = stored.record.last_seq + 1
    connection.executemany(
        sql("insert_message"),
        [message_row(stored.pk, seq, message) for seq, message in enumerate(encoded, first_seq)],
    )
    files = [(stored.pk, seq, name) for seq, each in enumerate(append.messages, first_seq) for name in file_ids(each)]
    if files:
        connection.executemany(sql("insert_file_ref"), files)
    if snapshot is not None:
        connection.execute(sql("insert_turn"), turn_row(stored.pk, snapshot))
    save_accounts(connection, stored.pk, after)
    messages = tuple(
        message.model_copy(update={"session_id": session_id, "seq": seq})
        for seq, message in enumerate(append.messages, first_seq)
    )
    return Appended(after, messages, snapshot)


def _rows_by_id(connection: sqlite3.Connection, session_pk: int, ids: Iterable[str]) -> list[Row]:
    """Those of the messages that are stored, in order of the log."""
    found = (connection.execute(sql("message_by_id"), (session_pk, name)).fetchone() for name in ids)
    return sorted(row for row in found if row is not None)


def _repeated(
    connection: sqlite3.Connection,
    stored: StoredSession,
    encoded: Sequence[EncodedMessage],
    present: Sequence[Row],
    where: str,
) -> Appended:
    found = [EncodedMessage(*row[1:]) for row in present]
    refuse_other_content(encoded, found)
    messages = tuple(message_from_row(stored.record.id, row, where) for row in present)
    row = connection.execute(sql("turn_at"), {"session_pk": stored.pk, "seq": messages[-1].seq}).fetchone()
    return Appended(stored.record, messages, turn_from_row(row) if row else None, fresh=False)


def page(
    connection: sqlite3.Connection,
    session_id: str,
    after_seq: int,
    until_seq: int | None,
    limit: int | None,
    where: str,
) -> list[Message]:
    """A stretch of the log."""
    stored = stored_session(connection, session_id, where)
    parameters = {
        "session_pk": stored.pk,
        "after_seq": after_seq,
        "until_seq": END_OF_LOG if until_seq is None else until_seq,
        "limit": NO_LIMIT if limit is None else limit,
    }
    rows = connection.execute(sql("messages_page"), parameters)
    return [message_from_row(session_id, row, where) for row in rows]


def message(connection: sqlite3.Connection, session_id: str, message_id: str, where: str) -> Message:
    """One message."""
    stored = stored_session(connection, session_id, where)
    try:
        rows = _rows_by_id(connection, stored.pk, [message_id])
    except UnicodeEncodeError:
        rows = []
    if not rows:
        raise MessageNotFoundError(message_id, where=f"session {session_id!r}")
    return message_from_row(session_id, rows[0], where)


def turns(connection: sqlite3.Connection, session_id: str, where: str) -> list[TurnSnapshot]:
    """All snapshots, with the compactions they set off."""
    stored = stored_session(connection, session_id, where)
    found = connection.execute(sql("turns"), {"session_pk": stored.pk})
    return with_compactions([turn_from_row(row) for row in found], compactions_of(connection, stored.pk))


def compactions(connection: sqlite3.Connection, session_id: str, where: str) -> list[CompactionResult]:
    """What all sweeps did."""
    return compactions_of(connection, stored_session(connection, session_id, where).pk)


def file_references(
    connection: sqlite3.Connection, session_id: str | None, content_id: str | None, where: str
) -> list[FileReference]:
    """Which messages refer to which stored files."""
    session_pk = None if session_id is None else stored_session(connection, session_id, where).pk
    statement = {
        (False, False): "file_refs",
        (True, False): "file_refs_of_session",
        (False, True): "file_refs_to_file",
        (True, True): "file_refs_of_session_to_file",
    }[session_id is not None, content_id is not None]
    try:
        rows = connection.execute(sql(statement), {"session_pk": session_pk, "content_id": content_id}).fetchall()
    except UnicodeEncodeError:
        return []
    return [FileReference(*row) for row in rows]
