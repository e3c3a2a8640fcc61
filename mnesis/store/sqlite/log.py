"""Transactions on the log: append and read messages, turns and file references."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence

from mnesis.errors import MessageNotFoundError, SessionNotFoundError
from mnesis.models.message import FileReference, Message
from mnesis.models.results import CompactionResult, TurnSnapshot
from mnesis.store.accounting import attach_compactions, file_ids, record_after_append, refuse_other_content
from mnesis.store.base import Append, AppendResult, OnDamage
from mnesis.store.chain import encode_turn, extend_chain
from mnesis.store.codec import DamagedValueError, EncodedMessage, hash_of
from mnesis.store.covers import Span
from mnesis.store.damaged import mark_damage, refuse_gaps
from mnesis.store.sqlite.accounts import (
    SessionChange,
    StoredSession,
    load_session,
    load_session_for_update,
    remember_session,
    save_session,
)
from mnesis.store.sqlite.changes import note_append
from mnesis.store.sqlite.connection import ConnectionState
from mnesis.store.sqlite.queries import sql
from mnesis.store.sqlite.refuse_damage import refuse_damaged_records, refuse_damaged_turns
from mnesis.store.sqlite.rows import (
    Row,
    encoded_from_row,
    load_compactions,
    message_from_row,
    message_row,
    turn_from_row,
    turn_row,
)
from mnesis.store.sqlite.turn_leases import refuse_lost_turn
from mnesis.store.turn_snapshot import role_at_end

NO_LIMIT = -1


def append(
    connection: sqlite3.Connection, session_id: str, append: Append, encoded: Sequence[EncodedMessage]
) -> AppendResult:
    """Insert messages and a turn snapshot and update the accounts. Does nothing if all of it is stored already."""
    stored = load_session_for_update(connection, session_id)
    if append.fence is not None or stored.record.forked_from is not None:
        if present := _present_rows(connection, stored, encoded):
            return _repeat_append(connection, stored, encoded, present)
        refuse_lost_turn(connection, stored.pk, session_id, append.fence)
    after = record_after_append(stored.record, append)
    first_seq = stored.record.last_seq + 1
    change = SessionChange(log_head=stored.log_head)
    try:
        rows = _insert_messages(connection, stored, first_seq, encoded, change)
    except sqlite3.IntegrityError:  # some ids are stored already
        present = [row for row in _present_rows(connection, stored, encoded) if row[0] < first_seq]
        if not present:
            raise
        return _repeat_append(connection, stored, encoded, present)
    references = [
        (stored.pk, seq, content_id)
        for seq, message in enumerate(append.messages, first_seq)
        for content_id in file_ids(message)
    ]
    if references:
        connection.executemany(sql("insert_file_ref"), references)
    if append.ends_turn:
        turn = turn_row(stored.pk, after, role_at_end(append.messages))
        connection.execute(sql("insert_turn"), turn)
        change.turn_head = extend_chain(stored.turn_head, encode_turn(turn[1:]))
    change.change_pk = note_append(connection, stored.pk, first_seq, after)
    saved = save_session(connection, stored, after, change)
    if isinstance(connection, ConnectionState):
        connection.contexts.note_append(stored.pk, stored.log_head, saved.log_head, rows)
    remember_session(connection, saved)
    return AppendResult.of_new(after, append)


def _insert_messages(
    connection: sqlite3.Connection,
    stored: StoredSession,
    first_seq: int,
    encoded: Sequence[EncodedMessage],
    change: SessionChange,
) -> list[Row]:
    """Insert messages, and return their rows as `load_rows()` would."""
    session_id, log_head = stored.record.id, change.log_head or b""
    rows = []
    for seq, message in enumerate(encoded, first_seq):
        message_hash = hash_of(session_id, seq, message)
        log_head = extend_chain(log_head, message_hash)
        row = message_row(stored.pk, seq, message, message_hash)
        change.message_pks += connection.execute(sql("insert_message"), row).lastrowid or 0
        rows.append(row[1:])
    change.log_head = log_head
    return rows


def _present_rows(
    connection: sqlite3.Connection, stored: StoredSession, encoded: Sequence[EncodedMessage]
) -> list[Row]:
    ids = [message.id for message in encoded]
    return _rows_by_id(connection, stored.pk, ids, stored.record.forked_from is not None)


def _rows_by_id(connection: sqlite3.Connection, session_pk: int, ids: Iterable[str], is_fork: bool) -> list[Row]:
    """Load the rows of those messages that are stored, in log order."""
    statements = ("message_by_id", "inherited_by_id") if is_fork else ("message_by_id",)
    rows = [
        row
        for message_id in ids
        for statement in statements
        if (row := connection.execute(sql(statement), (session_pk, message_id)).fetchone()) is not None
    ]
    return sorted(rows, key=_seq_of_row)


def _seq_of_row(row: Row) -> int:
    seq: int = row[0]
    return seq


def load_rows(connection: sqlite3.Connection, stored: StoredSession, spans: Sequence[Span]) -> list[Row]:
    """Load the messages of several spans, in the order of `spans`. Messages that a fork shares name their session."""
    parameters = {"session_pk": stored.pk, "spans": json.dumps(spans)}
    rows = connection.execute(sql("messages_in_spans"), parameters).fetchall()
    if stored.record.forked_from is None:
        return rows
    return sorted([*connection.execute(sql("inherited_in_spans"), parameters), *rows], key=_seq_of_row)


def _repeat_append(
    connection: sqlite3.Connection,
    stored: StoredSession,
    encoded: Sequence[EncodedMessage],
    present: Sequence[Row],
) -> AppendResult:
    refuse_other_content(encoded, [encoded_from_row(row) for row in present])
    messages = tuple(message_from_row(stored.record.id, row) for row in present)
    row = connection.execute(sql("turn_at"), {"session_pk": stored.pk, "seq": messages[-1].seq}).fetchone()
    return AppendResult(stored.record, messages, turn_from_row(row) if row else None, is_new=False)


def page(
    connection: sqlite3.Connection,
    session_id: str,
    after_seq: int,
    until_seq: int | None,
    limit: int | None,
    on_damage: OnDamage = "raise",
) -> list[Message]:
    """Load a range of the log. A message that is missing or damaged raises `DamagedValueError`, or is marked."""
    session_pk, end, is_fork = locate_session(connection, session_id)
    first_seq = max(after_seq, 0) + 1
    last_seq = end if until_seq is None else min(until_seq, end)
    if limit is not None and limit >= 0:
        last_seq = min(last_seq, first_seq + limit - 1)
    if on_damage == "mark":
        rows = (_row_at(connection, session_pk, seq, is_fork) for seq in range(first_seq, last_seq + 1))
        return list(mark_damage(session_id, rows, first_seq, message_from_row))
    parameters = {"session_pk": session_pk, "after_seq": first_seq - 1, "until_seq": last_seq}
    found = connection.execute(sql("messages_page"), parameters).fetchall()
    if is_fork:
        spans = {"session_pk": session_pk, "spans": json.dumps([(first_seq, last_seq)])}
        found = sorted([*connection.execute(sql("inherited_in_spans"), spans), *found], key=_seq_of_row)
    messages = [message_from_row(session_id, row) for row in found]
    if len(messages) != max(last_seq - first_seq + 1, 0):
        refuse_gaps(session_id, messages, range(first_seq, last_seq + 1))
    return messages


def locate_session(connection: sqlite3.Connection, session_id: str) -> tuple[int, int, bool]:
    """Return the key of a session, the end of its log, and whether it is a fork.

    This also works if its settings or accounts are damaged. The end is taken from intact accounts, so that messages
    missing at the end are noticed; otherwise it is the last message.
    """
    try:
        row = connection.execute(sql("locate_session"), {"id": session_id}).fetchone()
    except UnicodeEncodeError:
        row = None
    if row is None:
        raise SessionNotFoundError(session_id)
    session_pk, end, is_fork = row
    try:
        last_seq = connection.execute(sql("last_message_seq"), {"session_pk": session_pk}).fetchone()[0] or 0
    except sqlite3.DatabaseError:  # the index is unreadable, so only the accounts remain
        return session_pk, end or 0, bool(is_fork)
    if end != last_seq:
        try:
            return session_pk, load_session(connection, session_id).record.last_seq, bool(is_fork)
        except (DamagedValueError, SessionNotFoundError):
            return session_pk, last_seq, bool(is_fork)
    return session_pk, end, bool(is_fork)


def _row_at(connection: sqlite3.Connection, session_pk: int, seq: int, is_fork: bool) -> Row | None:
    try:
        row: Row | None = connection.execute(sql("message_at"), {"session_pk": session_pk, "seq": seq}).fetchone()
        if row is None and is_fork:
            spans = {"session_pk": session_pk, "spans": json.dumps([(seq, seq)])}
            row = connection.execute(sql("inherited_in_spans"), spans).fetchone()
    except sqlite3.DatabaseError:
        return None
    return row


def message(connection: sqlite3.Connection, session_id: str, message_id: str) -> Message:
    """Load one message. Raises `MessageNotFoundError`."""
    session_pk, _, is_fork = locate_session(connection, session_id)
    try:
        rows = _rows_by_id(connection, session_pk, [message_id], is_fork)
    except UnicodeEncodeError:
        rows = []
    if not rows:
        raise MessageNotFoundError(message_id, location=f"session {session_id!r}")
    return message_from_row(session_id, rows[0])


def turns(
    connection: sqlite3.Connection, session_id: str, after_turn: int = -1, limit: int | None = None
) -> list[TurnSnapshot]:
    """Load turn snapshots, each with the compaction it triggered. All turns are checked if the page begins with the
    first one.
    """
    stored = load_session(connection, session_id)
    if after_turn < 0:
        refuse_damaged_turns(connection, stored)
        refuse_damaged_records(connection, stored, "compactions")
    page = {"session_pk": stored.pk, "after_turn": after_turn, "limit": NO_LIMIT if limit is None else limit}
    rows = connection.execute(sql("turns"), page)
    return attach_compactions([turn_from_row(row) for row in rows], load_compactions(connection, stored.pk))


def compactions(connection: sqlite3.Connection, session_id: str) -> list[CompactionResult]:
    """Load the results of all compactions, oldest first."""
    stored = load_session(connection, session_id)
    refuse_damaged_records(connection, stored, "compactions")
    return load_compactions(connection, stored.pk)


def file_references(
    connection: sqlite3.Connection, session_id: str | None, content_id: str | None
) -> list[FileReference]:
    """Load the references of messages to stored files, of one session or to one file if given."""
    stored = None if session_id is None else load_session(connection, session_id)
    statement = {
        (False, False): "file_refs",
        (True, False): "file_refs_of_session",
        (False, True): "file_refs_to_file",
        (True, True): "file_refs_of_session_to_file",
    }[session_id is not None, content_id is not None]
    parameters = {"session_pk": stored.pk if stored is not None else None, "content_id": content_id}
    try:
        rows = connection.execute(sql(statement), parameters).fetchall()
        if stored is not None and stored.record.forked_from is not None:
            shared = connection.execute(sql("inherited_file_refs"), parameters)
            rows = [*((session_id, *row) for row in shared), *rows]
    except UnicodeEncodeError:
        return []
    return [FileReference(*row) for row in rows]
