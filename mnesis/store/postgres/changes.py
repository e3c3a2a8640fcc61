"""Transactions on the list of changes: noting the changes of a transaction, and reading them as events."""

from __future__ import annotations

import json
from collections.abc import Sequence
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
from mnesis.store.postgres.rows import Parameters, Row, from_text
from mnesis.store.postgres.transaction import Transaction

Details = dict[int, tuple[CompactionResult, dict[int, str]]]
"""The results of sweeps by row, with the ids of the messages that they changed, by seq."""
SessionNames = dict[int, str]
"""The ids of sessions by row, so that a deletion, which keeps no id, can be published. Row numbers are never given twice."""


def note_created(transaction: Transaction, session_pk: int, session: SessionRecord) -> None:
    """Note that a session was created."""
    origin = () if session.forked_from is None else (session.forked_from.session_id,)
    _insert(transaction, "created", [session.model, session.parent_id, *origin], session_pk=session_pk)


def append_change(transaction: Transaction, first_seq: int, after: SessionRecord) -> Parameters:
    """Return the parameters of a statement that notes appended messages, from `first_seq` to the end of the log."""
    transaction.has_change = True
    body = [first_seq, after.last_seq, after.context_tokens, after.turn_count]
    return {"origin": transaction.origin, "body": _encode_body(body)}


def note_update(transaction: Transaction, session_pk: int, after: SessionRecord) -> None:
    """Note that the context, a setting or something else about a session changed."""
    _insert(transaction, "update", [after.context_tokens, after.turn_count], session_pk=session_pk)


def note_compaction(
    transaction: Transaction,
    session_pk: int,
    compaction_pk: int,
    diff: CoverDiff,
    prunes: list[tuple[int, int, int]],
    after: SessionRecord,
) -> None:
    """Note that a sweep was committed."""
    body = [compaction_pk, folded_spans(diff), prunes, after.context_tokens, after.turn_count]
    _insert(transaction, "compaction", body, session_pk=session_pk)


def note_deleted(transaction: Transaction, session_pk: int, session: SessionRecord) -> None:
    """Note that a session is being purged, without its id: a purge leaves nothing that names the session."""
    _insert(transaction, "deleted", [session.created_at], session_pk=session_pk)


def note_run_started(transaction: Transaction, run_pk: int, run: MapRun) -> None:
    """Note that a map run was created."""
    _insert(transaction, "run_started", [run.total, run.model, run.kind], run_pk=run_pk)


def note_run_items(transaction: Transaction, run_pk: int, before: MapRun, successes: list[bool]) -> None:
    """Note that items of a run are finished, in order, and whether they were the last ones."""
    if not successes:
        return
    done = before.done + before.failed
    _insert(transaction, "run_items", [done, before.total, [int(each) for each in successes]], run_pk=run_pk)
    if before.total is not None and done + len(successes) == before.total:
        note_run_completed(transaction, run_pk, before.total)


def note_run_completed(transaction: Transaction, run_pk: int, total: int) -> None:
    """Note that all items of a run are finished."""
    _insert(transaction, "run_completed", [total], run_pk=run_pk)


def note_run_deleted(transaction: Transaction) -> None:
    """Note that a run is being purged, without naming it."""
    _insert(transaction, "run_deleted", [])


def _insert(
    transaction: Transaction, kind: str, body: object, *, session_pk: int | None = None, run_pk: int | None = None
) -> None:
    transaction.has_change = True
    transaction.send(
        "insert_change",
        {
            "origin": transaction.origin,
            "kind": kind,
            "session_pk": session_pk,
            "run_pk": run_pk,
            "body": _encode_body(body),
        },
    )


def _encode_body(body: object) -> str:
    # Escaped, because a text column holds neither NUL nor lone surrogates; JSON escapes both.
    return json.dumps(body, separators=(",", ":"))


def snapshot(transaction: Transaction) -> str:
    """Return the running transactions, for `horizon`."""
    return str(transaction.value("snapshot"))


def horizon(transaction: Transaction, running: str) -> int:
    """Return a position before which every transaction has ended.

    A transaction without a change does not count, so a long transaction of another application does not delay changes.
    `running` must be an earlier `snapshot`: later transactions have larger numbers.
    """
    return int(transaction.value("change_horizon", {"snapshot": running}))


def session_names(transaction: Transaction) -> SessionNames:
    """Load the ids of all sessions."""
    return {pk: from_text(session_id) for pk, _, session_id in transaction.rows("change_sessions")}


def load_page(transaction: Transaction, after: int, limit: int, before: int | None) -> list[Row]:
    """Load the changes of at most `limit` transactions after a position, with one statement, which needs no transaction.

    `before` is a `horizon`. None means the oldest running transaction of the whole server, which costs nothing to find.
    """
    return transaction.rows("changes_page", {"after": after, "limit": limit, "horizon": before})


def has_compactions(rows: Sequence[Row]) -> bool:
    """Return whether a page of changes needs `load_compactions`."""
    return any(row[3] == "compaction" for row in rows)


def events_of_page(
    rows: Sequence[Row], names: SessionNames, details: Details, own_origin: int
) -> tuple[list[StoredChange], bool]:
    """Convert rows of changes to events. Each element has the changes of one transaction.

    `details` are the answers of `load_compactions`. Returns also whether there are committed changes at or after the
    horizon.
    """
    safe = [row for row in rows if row[1]]
    changes: dict[int, StoredChange] = {}
    for row in safe:
        position, _, origin = row[:3]
        earlier = changes[position].events if position in changes else ()
        events = (*earlier, *_events(row, names, details))
        changes[position] = StoredChange(position, origin == own_origin, events)
    return list(changes.values()), len(safe) < len(rows)


def _events(row: Row, names: SessionNames, details: Details) -> list[Event]:
    kind, session_pk, text, session_id, created_at, run_id, *headers = row[3:]
    body = json.loads(text)
    if run_id is not None:
        return _run_events(kind, from_text(run_id), body)
    if session_pk is None:
        return []
    if kind == "deleted":
        deleted_id = names.get(session_pk)
        return [(MnesisEvent.SESSION_DELETED, SessionDeletedPayload(deleted_id))] if deleted_id is not None else []
    if session_id is None or created_at is None:
        return []
    name = names[session_pk] = from_text(session_id)
    if kind == "created":
        return [(MnesisEvent.SESSION_CREATED, SessionCreatedPayload(name, *body))]
    if kind == "append":
        _, _, context_tokens, turn_count = body
        return append_events(name, _headers(headers), context_tokens, turn_count)
    if kind == "compaction":
        return _compaction_events(name, details.get(body[0]), *body[1:])
    return [updated_event(name, *body)]


def _run_events(kind: str, run_id: str, body: list[Any]) -> list[Event]:
    if kind == "run_started":
        started = MapStartedPayload(total=body[0], model=body[1], type=body[2], run_id=run_id)
        return [(MnesisEvent.MAP_STARTED, started)]
    if kind == "run_completed":
        return [(MnesisEvent.MAP_COMPLETED, MapCompletedPayload(body[0], body[0], run_id))]
    done, total, successes = body
    return [
        (MnesisEvent.MAP_ITEM_COMPLETED, MapItemCompletedPayload(number, total, bool(success), run_id))
        for number, success in enumerate(successes, done + 1)
    ]


def _headers(columns: Sequence[Any]) -> list[MessageHeader]:
    """Return the data of events about messages, which are read as one list per column."""
    seqs, ids, roles, token_counts, parts = columns
    return [
        MessageHeader(seq, from_text(message_id), role, tokens, _part_types(encoded))
        for seq, message_id, role, tokens, encoded in zip(
            seqs or (), ids or (), roles or (), token_counts or (), parts or (), strict=True
        )
    ]


def _part_types(parts: bytes) -> tuple[str, ...]:
    """Return the types of the parts of a message; an empty list if it is damaged."""
    try:
        decoded = from_json(parts)
        return ("text",) if isinstance(decoded, str) else tuple(str(part["type"]) for part in decoded)
    except (ValueError, TypeError, KeyError):
        return ()


def load_compactions(transaction: Transaction, rows: Sequence[Row]) -> Details:
    """Load the results of the sweeps among some changes, and the ids of the messages that they changed."""
    details: Details = {}
    for row in rows:
        kind, session_pk, text, session_id = row[3:7]
        if kind != "compaction" or session_id is None:
            continue
        compaction_pk, folds, prunes, *_ = json.loads(text)
        result = transaction.row("change_compaction", {"pk": compaction_pk})
        spans = [*((first, last) for first, last, _ in folds), *((seq, seq) for seq, _, _ in prunes)]
        ids: dict[int, str] = {}
        if spans:
            parameters = {"first": [first for first, _ in spans], "last": [last for _, last in spans]}
            found = transaction.rows("change_message_ids", {"session_pk": session_pk, **parameters})
            ids = {seq: from_text(message_id) for seq, message_id in found}
        if result is not None:  # None: the session was purged after the change was read
            details[compaction_pk] = CompactionResult(**from_json(result[0])), ids
    return details


def _compaction_events(
    session_id: str,
    details: tuple[CompactionResult, dict[int, str]] | None,
    folds: list[tuple[int, int, str | None]],
    prunes: list[tuple[int, int, int]],
    context_tokens: int,
    turn_count: int,
) -> list[Event]:
    if details is None:
        return []
    return [
        *compaction_events(session_id, details[0], folds, prunes, details[1]),
        updated_event(session_id, context_tokens, turn_count),
    ]
