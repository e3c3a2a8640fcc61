"""Transactions on the active context: read it, fold, hide and pin, and read summaries and the messages they cover."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace

from mnesis.errors import SummaryNotFoundError
from mnesis.models.context import ActiveContext, Cover, Prune
from mnesis.models.message import Message
from mnesis.models.session import SessionRecord
from mnesis.models.summary import Summary
from mnesis.store.accounting import accounts_after_fold, add_spending, finalize_result
from mnesis.store.base import Append, AppendResult, Compaction
from mnesis.store.codec import DamagedValueError, EncodedMessage, encode_summary, to_json
from mnesis.store.context_cache import (
    CachedContext,
    find_empty_extras,
    is_continuation,
    seqs_with_containers,
)
from mnesis.store.covers import (
    CoverDiff,
    Span,
    change_covers,
    contains,
    hide_span,
    hide_spans,
    leaf_spans,
    order_items,
    referenced_summary_ids,
    refuse_pinned,
    refuse_unpinnable,
    validate_compaction,
    visible_spans,
)
from mnesis.store.damaged import refuse_gaps
from mnesis.store.forks import seqs_to_spans
from mnesis.store.record_heads import RecordHeads, refuse_damaged_context
from mnesis.store.sqlite import log
from mnesis.store.sqlite.accounts import (
    SessionChange,
    StoredSession,
    load_session,
    load_session_again,
    load_session_for_update,
    save_session,
)
from mnesis.store.sqlite.changes import note_compaction, note_update
from mnesis.store.sqlite.connection import ConnectionState
from mnesis.store.sqlite.log import NO_LIMIT
from mnesis.store.sqlite.queries import sql
from mnesis.store.sqlite.records import load_record_heads, save_record_heads
from mnesis.store.sqlite.refuse_damage import load_intact_heads, refuse_damaged_records
from mnesis.store.sqlite.rows import Row, load_covers, load_prunes, message_from_row, summary_from_row
from mnesis.store.sqlite.turn_leases import refuse_lost_turn

MAX_DECODED_MESSAGES = 16
"""The maximum number of messages that an append decodes to return the context, because other writers wait for it. A
turn without tools has two."""


def active_context(connection: sqlite3.Connection, session_id: str, shared: bool) -> ActiveContext:
    """Load the items that currently represent the log. Decodes only items that this connection has not decoded yet."""
    stored = load_session_again(connection, session_id)
    if not isinstance(connection, ConnectionState) or stored.hash is None:
        return _show(stored, _load_context(connection, stored), shared)
    cache = connection.contexts
    cached = cache.find(stored.pk, stored.record_head)
    context = (cached and _extend_context(connection, stored, cached)) or _load_context(connection, stored)
    if context is not cached:
        cache.put(stored.pk, context)
    return _show(stored, context, shared)


def append(
    connection: sqlite3.Connection, session_id: str, append: Append, encoded: Sequence[EncodedMessage]
) -> AppendResult:
    """Append messages. Show the context after them if this connection has decoded nearly all of it.

    Otherwise the caller reads it, in a transaction for which no writer waits.
    """
    result = log.append(connection, session_id, append, encoded)
    if not isinstance(connection, ConnectionState):
        return result
    stored = load_session_for_update(connection, session_id)
    cached = connection.contexts.find(stored.pk, stored.record_head)
    if cached is None or stored.record.last_seq - cached.last_seq > MAX_DECODED_MESSAGES:
        return result
    try:
        context = _extend_context(connection, stored, cached)
    except (sqlite3.Error, DamagedValueError):
        if not connection.in_transaction:  # SQLite has undone the append
            raise
        return result  # the next reader meets the damage; the messages are stored
    if context is None:
        return result
    connection.contexts.put(stored.pk, context)
    return result.with_context(_show(stored, context, shared=True))


def _show(stored: StoredSession, context: CachedContext, shared: bool) -> ActiveContext:
    items = context.share_items() if shared else context.copy_items()
    return ActiveContext(stored.record, context.covers, items, dict(context.prunes), context.pins)


def _extend_context(
    connection: sqlite3.Connection, stored: StoredSession, cached: CachedContext
) -> CachedContext | None:
    """Return a cached context with the messages appended since. None if the log is not the one it was read from."""
    if stored.log_head == cached.log_head:
        return cached
    rows = None
    if isinstance(connection, ConnectionState):
        rows = connection.contexts.appended_rows(stored.pk, cached.log_head, stored.log_head)
    if rows is None:
        rows = log.load_rows(connection, stored, [(cached.last_seq + 1, stored.record.last_seq)])
    messages = [message_from_row(stored.record.id, row) for row in rows]
    if not is_continuation(cached.log_head, (row[5] for row in rows), stored.log_head):
        return None
    return cached.extend(stored.log_head, stored.record.last_seq, messages, _stored_bytes(rows))


def _load_context(connection: sqlite3.Connection, stored: StoredSession) -> CachedContext:
    covers = load_covers(connection, stored.pk)
    spans = visible_spans(covers, stored.record.last_seq)
    rows = log.load_rows(connection, stored, spans)
    messages = [message_from_row(stored.record.id, row) for row in rows]
    if len(messages) != sum(last - first + 1 for first, last in spans):
        refuse_gaps(stored.record.id, messages, (seq for first, last in spans for seq in range(first, last + 1)))
    shown_ids = [cover.summary_id for cover in covers if cover.summary_id is not None]
    summaries = _load_summaries(connection, stored, shown_ids)
    prunes = load_prunes(connection, stored.pk, json.dumps(spans))
    pins = load_pins(connection, stored.pk)
    if (heads := load_intact_heads(connection, stored)) is not None:
        refuse_damaged_context(heads, stored.record_head, covers, pins, stored.record.id)
    # Without a hash, an older release wrote the session, and the heads are not computed yet.
    log_head, record_head = (stored.log_head, stored.record_head) if stored.hash is not None else (b"", b"")
    with_containers = seqs_with_containers(messages)
    return CachedContext(
        log_head=log_head,
        record_head=record_head,
        last_seq=stored.record.last_seq,
        covers=covers,
        items=order_items(covers, summaries, messages),
        prunes={(prune.seq, prune.part_index): prune for prune in prunes},
        pins=pins,
        size_bytes=_stored_bytes(rows),
        with_containers=with_containers,
        empty_extras=find_empty_extras(messages, with_containers),
    )


def _stored_bytes(rows: Iterable[Row]) -> int:
    return sum(len(row[3]) + len(row[4] or b"") for row in rows)


def compact(connection: sqlite3.Connection, session_id: str, sweep: Compaction) -> SessionRecord:
    """Commit a sweep: its summaries, covers, prunes and result."""
    stored = load_session_for_update(connection, session_id)
    current_covers = load_covers(connection, stored.pk)
    ids = referenced_summary_ids(sweep).union(summary.id for summary in sweep.summaries)
    older_summaries = summary_spans(connection, stored.pk, ids)
    older_spans = {key: span for key, (span, _) in older_summaries.items()}
    diff = validate_compaction(sweep, current_covers, stored.record.last_seq, older_spans, session_id)
    refuse_pinned(load_pins(connection, stored.pk), diff.hidden, session_id)
    heads = load_record_heads(connection, stored.pk, session_id)
    for summary in sweep.summaries:
        _insert_summary(connection, stored, summary, leaf_spans(summary, sweep.read_covers), heads)
    tokens_by_summary = {key: tokens for key, (_, tokens) in older_summaries.items()}
    tokens_by_summary.update((summary.id, summary.token_count) for summary in sweep.summaries)
    stored = replace(stored, record=add_spending(stored.record, sweep))
    after = _apply_diff(connection, stored, current_covers, diff, tokens_by_summary, sweep.prunes, heads)
    result = finalize_result(sweep.result, after)
    body = to_json(result.model_dump(mode="json"), f"the compaction of session {session_id!r}")
    compaction_pk = (
        connection.execute(sql("insert_compaction"), {"session_pk": stored.pk, "result": body}).lastrowid or 0
    )
    heads.add_compaction(compaction_pk, body)
    prunes = [(prune.seq, prune.part_index, prune.tokens_saved) for prune in sweep.prunes]
    change_pk = note_compaction(connection, stored.pk, compaction_pk, diff, prunes, after)
    _save(connection, stored, after, change_pk, heads)
    return after


def hide(connection: sqlite3.Connection, session_id: str, first_seq: int, last_seq: int) -> SessionRecord:
    """Remove a span from the active context."""
    stored = load_session_for_update(connection, session_id)
    current_covers = load_covers(connection, stored.pk)
    diff = hide_span(current_covers, (first_seq, last_seq), stored.record.last_seq)
    return _apply_hide(connection, stored, current_covers, diff, [(first_seq, last_seq)])


def revise(
    connection: sqlite3.Connection,
    session_id: str,
    spans: Sequence[Span],
    append: Append,
    encoded: Sequence[EncodedMessage],
    last_seq: int,
) -> AppendResult:
    """Remove spans from the active context and append messages to the log."""
    stored = load_session_for_update(connection, session_id)
    refuse_lost_turn(connection, stored.pk, session_id, append.fence)
    current_covers = load_covers(connection, stored.pk)
    diff = hide_spans(current_covers, spans, stored.record.last_seq, last_seq)
    after = _apply_hide(connection, stored, current_covers, diff, spans)
    return log.append(connection, session_id, append, encoded) if encoded else AppendResult(after, ())


def replace_covers(
    connection: sqlite3.Connection,
    session_id: str,
    covers: Sequence[Cover],
    append: Append,
    encoded: Sequence[EncodedMessage],
    read_covers: Sequence[Cover],
    last_seq: int,
) -> AppendResult:
    """Show the log under other covers and append messages."""
    stored = load_session_for_update(connection, session_id)
    refuse_lost_turn(connection, stored.pk, session_id, append.fence)
    current_covers = load_covers(connection, stored.pk)
    summaries = summary_spans(connection, stored.pk, {c.summary_id for c in covers if c.summary_id is not None})
    diff = change_covers(
        current_covers,
        covers,
        stored.record.last_seq,
        read_covers=read_covers,
        expected_last_seq=last_seq,
        summary_spans={key: span for key, (span, _) in summaries.items()},
        session_id=session_id,
    )
    after = stored.record
    if diff.covers != current_covers:
        heads = load_record_heads(connection, stored.pk, session_id)
        new_covers = sorted(set(diff.covers) - set(current_covers), key=lambda cover: cover.first_seq)
        hidden = [(cover.first_seq, cover.last_seq) for cover in new_covers if cover.summary_id is None]
        insert_hidden_spans(connection, stored.pk, hidden, heads)
        tokens_by_summary = {key: tokens for key, (_, tokens) in summaries.items()}
        after = _apply_diff(connection, stored, current_covers, diff, tokens_by_summary, (), heads)
        _save(connection, stored, after, note_update(connection, stored.pk, after), heads)
    return log.append(connection, session_id, append, encoded) if encoded else AppendResult(after, ())


def insert_hidden_spans(
    connection: sqlite3.Connection, session_pk: int, spans: Iterable[Span], heads: RecordHeads
) -> None:
    """Record that spans were hidden on purpose."""
    for first_seq, last_seq in spans:
        parameters = {"session_pk": session_pk, "first_seq": first_seq, "last_seq": last_seq}
        inserted = connection.execute(sql("insert_hidden_span"), parameters)
        heads.add_hidden_span(inserted.lastrowid or 0, first_seq, last_seq)


def _save(
    connection: sqlite3.Connection, stored: StoredSession, after: SessionRecord, change_pk: int, heads: RecordHeads
) -> None:
    record_head = save_record_heads(connection, stored.pk, heads)
    save_session(connection, stored, after, SessionChange(change_pk, record_head=record_head))


def _apply_hide(
    connection: sqlite3.Connection,
    stored: StoredSession,
    current_covers: Sequence[Cover],
    diff: CoverDiff,
    spans: Iterable[Span],
) -> SessionRecord:
    if diff.covers == current_covers:
        return stored.record
    heads = load_record_heads(connection, stored.pk, stored.record.id)
    insert_hidden_spans(connection, stored.pk, spans, heads)
    kept_ids = {cover.summary_id for cover in diff.covers if cover.summary_id is not None}
    tokens_by_summary = {key: tokens for key, (_, tokens) in summary_spans(connection, stored.pk, kept_ids).items()}
    after = _apply_diff(connection, stored, current_covers, diff, tokens_by_summary, (), heads)
    _save(connection, stored, after, note_update(connection, stored.pk, after), heads)
    return after


def pin(connection: sqlite3.Connection, session_id: str, seq: int, pinned: bool) -> None:
    """Pin a message in the active context, or unpin it."""
    stored = load_session_for_update(connection, session_id)
    refuse_unpinnable(load_covers(connection, stored.pk), stored.record.last_seq, seq, session_id)
    parameters = {"session_pk": stored.pk, "seq": seq}
    connection.execute(sql("insert_pin" if pinned else "delete_pin"), parameters)
    heads = load_record_heads(connection, stored.pk, session_id)
    heads.set_pins(load_pins(connection, stored.pk))
    _save(connection, stored, stored.record, note_update(connection, stored.pk, stored.record), heads)


def load_pins(connection: sqlite3.Connection, session_pk: int) -> frozenset[int]:
    """Load the seqs of the pinned messages of a session."""
    return frozenset(seq for (seq,) in connection.execute(sql("pins"), {"session_pk": session_pk}))


def summary(connection: sqlite3.Connection, session_id: str, summary_id: str) -> Summary:
    """Load one summary. Raises `SummaryNotFoundError`."""
    stored = load_session(connection, session_id)
    summaries = _load_summaries(connection, stored, [summary_id])
    if summary_id not in summaries:
        raise SummaryNotFoundError(summary_id, location=f"session {session_id!r}")
    return summaries[summary_id]


def summaries(connection: sqlite3.Connection, session_id: str) -> list[Summary]:
    """Load all summaries in order of creation."""
    stored = load_session(connection, session_id)
    refuse_damaged_records(connection, stored, "summaries")
    rows = connection.execute(sql("summaries"), {"session_pk": stored.pk})
    return [summary_from_row(session_id, row) for row in rows]


def covered_messages(
    connection: sqlite3.Connection, session_id: str, summary_id: str, after_seq: int, limit: int | None
) -> list[Message]:
    """Load the original messages that a summary covers, however deep."""
    stored = load_session(connection, session_id)
    extent = connection.execute(sql("covered_extent"), {"session_pk": stored.pk, "id": summary_id}).fetchone()
    if extent is None:
        raise SummaryNotFoundError(summary_id, location=f"session {session_id!r}")
    first_seq, last_seq, message_count, reached_count, first_reached, last_reached = extent
    if reached_count != message_count or (reached_count and not first_seq <= first_reached <= last_reached <= last_seq):
        raise DamagedValueError(f"the list of messages behind summary {summary_id!r} of session {session_id!r}")
    parameters = {
        "session_pk": stored.pk,
        "id": summary_id,
        "after_seq": after_seq,
        "limit": NO_LIMIT if limit is None else limit,
    }
    if stored.record.forked_from is not None:
        return _covered_by_fork(connection, stored, parameters)
    rows = connection.execute(sql("covered_messages"), parameters).fetchall()
    missing = next((row[0] for row in rows if row[1] is None), None)
    if missing is not None:
        raise DamagedValueError(f"message {missing} of session {session_id!r}, which is missing,")
    return sorted((message_from_row(session_id, row) for row in rows), key=lambda message: message.seq)


def _covered_by_fork(
    connection: sqlite3.Connection, stored: StoredSession, parameters: dict[str, object]
) -> list[Message]:
    seqs = [seq for (seq,) in connection.execute(sql("covered_seqs"), parameters)]
    rows = log.load_rows(connection, stored, seqs_to_spans(seqs))
    messages = [message_from_row(stored.record.id, row) for row in rows]
    if len(messages) != len(seqs):
        refuse_gaps(stored.record.id, messages, seqs)
    return messages


def _apply_diff(
    connection: sqlite3.Connection,
    stored: StoredSession,
    current_covers: Sequence[Cover],
    diff: CoverDiff,
    tokens_by_summary: dict[str, int],
    prunes: Sequence[Prune],
    heads: RecordHeads,
) -> SessionRecord:
    """Replace covers, insert prunes and return the accounts. The cost depends on the changed spans, not on the log."""
    hidden_tokens, hidden_tool_tokens = span_tokens(connection, stored, diff.hidden)
    shown_tokens, shown_tool_tokens = span_tokens(connection, stored, diff.shown)
    saved_tokens = _insert_prunes(connection, stored.pk, prunes, visible_spans(diff.covers, stored.record.last_seq))
    after = accounts_after_fold(
        stored.record,
        message_tokens=shown_tokens - hidden_tokens - saved_tokens,
        tool_tokens=shown_tool_tokens - hidden_tool_tokens - saved_tokens,
        summary_tokens=sum(
            tokens_by_summary[cover.summary_id] for cover in diff.covers if cover.summary_id is not None
        ),
    )
    _replace_covers(connection, stored.pk, current_covers, diff.covers)
    heads.set_covers(diff.covers)
    if prunes:
        heads.set_prunes(connection.execute(sql("check_prunes"), {"session_pk": stored.pk}))
    return after


def span_tokens(
    connection: sqlite3.Connection, stored: StoredSession, spans: Sequence[Span], *, with_prunes: bool = True
) -> tuple[int, int]:
    """Return the tokens and tool tokens of the messages in `spans`, with their prunes applied unless told otherwise."""
    if not spans:
        return 0, 0
    encoded = json.dumps(spans)
    tokens = tool_tokens = 0
    is_fork = stored.record.forked_from is not None
    for statement in ("tokens_in_spans", "inherited_tokens_in_spans") if is_fork else ("tokens_in_spans",):
        counted = connection.execute(sql(statement), {"session_pk": stored.pk, "spans": encoded}).fetchone()
        tokens, tool_tokens = tokens + counted[0], tool_tokens + counted[1]
    saved = sum(prune.tokens_saved for prune in load_prunes(connection, stored.pk, encoded)) if with_prunes else 0
    return tokens - saved, tool_tokens - saved


def _insert_prunes(
    connection: sqlite3.Connection, session_pk: int, prunes: Iterable[Prune], shown: Sequence[Span]
) -> int:
    """Insert prunes. Returns the tokens that the new ones save inside the shown spans."""
    saved = 0
    for prune in prunes:
        row = (session_pk, prune.seq, prune.part_index, prune.tokens_saved)
        is_new = connection.execute(sql("insert_prune"), row).rowcount == 1
        saved += prune.tokens_saved if is_new and contains(shown, prune.seq) else 0
    return saved


def _replace_covers(
    connection: sqlite3.Connection, session_pk: int, before: Iterable[Cover], after: Iterable[Cover]
) -> None:
    removed, added = set(before) - set(after), set(after) - set(before)
    connection.executemany(sql("delete_cover"), [(session_pk, cover.first_seq) for cover in removed])
    connection.executemany(sql("insert_cover"), [{"session_pk": session_pk, **asdict(cover)} for cover in added])


def _insert_summary(
    connection: sqlite3.Connection, stored: StoredSession, summary: Summary, spans: Sequence[Span], heads: RecordHeads
) -> None:
    body, digest = encode_summary(summary)
    row = (stored.pk, summary.id, summary.first_seq, summary.last_seq, summary.token_count, summary.message_count)
    summary_pk = connection.execute(sql("insert_summary"), (*row, digest, body)).lastrowid or 0
    parameters: dict[str, object] = {"summary_pk": summary_pk, "session_pk": stored.pk}
    if summary.kind == "leaf":
        connection.execute(sql("insert_leaf_edges"), {**parameters, "spans": json.dumps(spans)})
        if stored.record.forked_from is not None:
            connection.execute(sql("insert_inherited_leaf_edges"), {**parameters, "spans": json.dumps(spans)})
    else:
        connection.execute(sql("insert_child_edges"), {**parameters, "children": json.dumps(summary.child_ids)})
    seqs = (seq for first, last in spans for seq in range(first, last + 1)) if summary.kind == "leaf" else ()
    heads.add_summary(summary_pk, (*row[1:], digest), seqs, summary.child_ids)


def _load_summaries(connection: sqlite3.Connection, stored: StoredSession, ids: Sequence[str]) -> dict[str, Summary]:
    if not ids:
        return {}
    parameters = {"session_pk": stored.pk, "ids": json.dumps(ids)}
    rows = connection.execute(sql("summaries_by_id"), parameters).fetchall()
    if stored.record.forked_from is not None:
        rows += connection.execute(sql("inherited_summaries_by_id"), parameters)
    return {row[0]: summary_from_row(stored.record.id, row) for row in rows}


def summary_spans(connection: sqlite3.Connection, session_pk: int, ids: Iterable[str]) -> dict[str, tuple[Span, int]]:
    """Load the span and token count of each of these summaries that exists."""
    parameters = {"session_pk": session_pk, "ids": json.dumps(sorted(ids))}
    rows = connection.execute(sql("summary_spans"), parameters)
    return {key: ((first_seq, last_seq), token_count) for key, first_seq, last_seq, token_count in rows}
