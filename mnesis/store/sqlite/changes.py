"""Transactions on the list of changes: noting the changes of a transaction, and reading them as events."""

from __future__ import annotations

import json
import sqlite3
import zlib
from dataclasses import dataclass, field
from typing import Any

from mnesis.events.bus import MnesisEvent
from mnesis.events.payloads import (
    MapCompletedPayload,
    MapItemCompletedPayload,
    MapStartedPayload,
    SessionCreatedPayload,
    SessionDeletedPayload,
)
from mnesis.models.results import CompactionResult
from mnesis.models.run import MapRun
from mnesis.models.session import SessionRecord
from mnesis.store.change_log import (
    Event,
    MessageHeader,
    StoredChange,
    append_events,
    compaction_events,
    updated_event,
)
from mnesis.store.codec import from_json
from mnesis.store.covers import CoverDiff, folded_spans
from mnesis.store.sqlite.connection import ConnectionState
from mnesis.store.sqlite.queries import sql

_encode = json.JSONEncoder(separators=(",", ":")).encode


@dataclass
class SessionNames:
    """The ids of sessions by row and creation time, so that a deletion, which keeps no id, can be published.

    The creation time is part of the key because SQLite gives the row number of a deleted session to a new one.
    """

    ids: dict[tuple[int, int], str] = field(default_factory=dict)
    is_loaded: bool = False


def note_created(connection: sqlite3.Connection, session_pk: int, session: SessionRecord) -> int:
    """Note that a session was created. Returns the row, like all notes on sessions."""
    origin = [session.forked_from.session_id] if session.forked_from is not None else []
    return _insert(connection, "created", [session.model, session.parent_id, *origin], session_pk=session_pk)


def note_append(connection: sqlite3.Connection, session_pk: int, first_seq: int, after: SessionRecord) -> int:
    """Note that messages were appended, from `first_seq` to the end of the log."""
    # Written without the encoder, which takes several times as long, because every append writes this.
    body = f"[{first_seq},{after.last_seq},{after.context_tokens},{after.turn_count}]"
    return _insert(connection, "append", body, session_pk=session_pk)


def note_update(connection: sqlite3.Connection, session_pk: int, after: SessionRecord) -> int:
    """Note that the context, a setting or something else about a session changed."""
    return _insert(connection, "update", [after.context_tokens, after.turn_count], session_pk=session_pk)


def note_compaction(
    connection: sqlite3.Connection,
    session_pk: int,
    compaction_pk: int,
    diff: CoverDiff,
    prunes: list[tuple[int, int, int]],
    after: SessionRecord,
) -> int:
    """Note that a sweep was committed."""
    body = [compaction_pk, folded_spans(diff), prunes, after.context_tokens, after.turn_count]
    return _insert(connection, "compaction", body, session_pk=session_pk)


def note_deleted(connection: sqlite3.Connection, session_pk: int, session: SessionRecord) -> None:
    """Note that a session is being purged, without its id: a purge leaves nothing that names the session.

    Call it before the rows of the session are deleted, so that the largest position stays in use.
    """
    _insert(connection, "deleted", [session.created_at], session_pk=session_pk)


def note_run_started(connection: sqlite3.Connection, run_pk: int, run: MapRun) -> None:
    """Note that a map run was created."""
    _insert(connection, "run_started", [run.total, run.model, run.kind], run_pk=run_pk)


def note_run_items(connection: sqlite3.Connection, run_pk: int, before: MapRun, successes: list[bool]) -> None:
    """Note that items of a run are finished, in order, and whether they were the last ones."""
    if not successes:
        return
    done = before.done + before.failed
    _insert(connection, "run_items", [done, before.total, [int(each) for each in successes]], run_pk=run_pk)
    if before.total is not None and done + len(successes) == before.total:
        note_run_completed(connection, run_pk, before.total)


def note_run_completed(connection: sqlite3.Connection, run_pk: int, total: int) -> None:
    """Note that all items of a run are finished."""
    _insert(connection, "run_completed", [total], run_pk=run_pk)


def note_run_deleted(connection: sqlite3.Connection) -> None:
    """Note that a run is being purged, without naming it. Call it first, so that the largest position stays in use."""
    _insert(connection, "run_deleted", [])


def _insert(
    connection: sqlite3.Connection, kind: str, body: object, *, session_pk: int | None = None, run_pk: int | None = None
) -> int:
    """Insert a change and return its row number. If it is a change of a session, the caller adds the number to the
    session's sum.

    `body` is a value, or the JSON of one.
    """
    origin = connection.origin if isinstance(connection, ConnectionState) else 0
    row = (origin, kind, session_pk, run_pk, body if isinstance(body, str) else _encode(body))
    change_pk = connection.execute(sql("insert_change"), (*row, change_crc(row))).lastrowid or 0
    if run_pk is not None:
        connection.execute(sql("count_run_change"), {"run_pk": run_pk, "change_pk": change_pk})
    elif session_pk is None or kind == "deleted":
        connection.execute(sql("count_deletion"), {"change_pk": change_pk})
    return change_pk


def change_crc(row: tuple[Any, ...]) -> int:
    """Return the checksum of a change: origin, kind, session, run and body. Its row number is in the sum of its session."""
    return zlib.crc32(repr(row).encode("utf-8", "surrogatepass"))


def version(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return the number of commits by other connections and of changed rows by this one (sqlite.org/pragma.html)."""
    return connection.execute("PRAGMA data_version").fetchone()[0], connection.total_changes


def last(connection: sqlite3.Connection, names: SessionNames) -> int:
    """Return the newest position. Loads the names of all sessions once."""
    if not names.is_loaded:
        rows = connection.execute(sql("change_sessions"))
        names.ids.update(((pk, created_at), session_id) for pk, created_at, session_id in rows)
        names.is_loaded = True
    return int(connection.execute(sql("last_change")).fetchone()[0])


def page(connection: sqlite3.Connection, names: SessionNames, after: int, limit: int) -> list[StoredChange]:
    """Load changes after a position, as events."""
    origin = connection.origin if isinstance(connection, ConnectionState) else 0
    rows = connection.execute(sql("changes_page"), {"after": after, "limit": limit}).fetchall()
    return [
        StoredChange(position, row_origin == origin, tuple(_events(connection, names, *details)))
        for position, row_origin, *details in rows
    ]


def _events(
    connection: sqlite3.Connection,
    names: SessionNames,
    kind: str,
    session_pk: int | None,
    body: str,
    session_id: str | None,
    created_at: int | None,
    run_id: str | None,
) -> list[Event]:
    details = json.loads(body)
    if run_id is not None:
        return _run_events(kind, run_id, details)
    if session_pk is None:
        return []
    if kind == "deleted":
        deleted_id = names.ids.get((session_pk, details[0]))
        return [(MnesisEvent.SESSION_DELETED, SessionDeletedPayload(deleted_id))] if deleted_id is not None else []
    if session_id is None or created_at is None:
        return []
    names.ids[session_pk, created_at] = session_id
    if kind == "created":
        return [(MnesisEvent.SESSION_CREATED, SessionCreatedPayload(session_id, *details))]
    if kind == "append":
        first_seq, last_seq, context_tokens, turn_count = details
        headers = _headers(connection, session_pk, first_seq, last_seq)
        return append_events(session_id, headers, context_tokens, turn_count)
    if kind == "compaction":
        return _compaction_events(connection, session_pk, session_id, *details)
    return [updated_event(session_id, *details)]


def _run_events(kind: str, run_id: str, details: list[Any]) -> list[Event]:
    if kind == "run_started":
        return [
            (
                MnesisEvent.MAP_STARTED,
                MapStartedPayload(total=details[0], model=details[1], type=details[2], run_id=run_id),
            )
        ]
    if kind == "run_completed":
        return [(MnesisEvent.MAP_COMPLETED, MapCompletedPayload(details[0], details[0], run_id))]
    done, total, successes = details
    return [
        (MnesisEvent.MAP_ITEM_COMPLETED, MapItemCompletedPayload(number, total, bool(success), run_id))
        for number, success in enumerate(successes, done + 1)
    ]


def _headers(connection: sqlite3.Connection, session_pk: int, first_seq: int, last_seq: int) -> list[MessageHeader]:
    parameters = {"session_pk": session_pk, "first_seq": first_seq, "last_seq": last_seq}
    rows = connection.execute(sql("change_messages"), parameters)
    return [
        MessageHeader(seq, message_id, role, tokens, _part_types(parts))
        for seq, message_id, role, tokens, parts in rows
    ]


def _part_types(parts: bytes) -> tuple[str, ...]:
    """Return the types of the parts of a message, none if it is damaged."""
    try:
        decoded = from_json(parts)
        return ("text",) if isinstance(decoded, str) else tuple(str(part["type"]) for part in decoded)
    except (ValueError, TypeError, KeyError):
        return ()


def _compaction_events(
    connection: sqlite3.Connection,
    session_pk: int,
    session_id: str,
    compaction_pk: int,
    folds: list[tuple[int, int, str | None]],
    prunes: list[tuple[int, int, int]],
    context_tokens: int,
    turn_count: int,
) -> list[Event]:
    ids: dict[int, str] = {}
    for first_seq, last_seq in [*((first, last) for first, last, _ in folds), *((seq, seq) for seq, _, _ in prunes)]:
        parameters = {"session_pk": session_pk, "first_seq": first_seq, "last_seq": last_seq}
        ids.update(connection.execute(sql("change_message_ids"), parameters))
    (text,) = connection.execute(sql("change_compaction"), {"pk": compaction_pk}).fetchone()
    result = CompactionResult(**json.loads(text))
    return [
        *compaction_events(session_id, result, folds, prunes, ids),
        updated_event(session_id, context_tokens, turn_count),
    ]
