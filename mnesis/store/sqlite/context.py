"""Transactions on the active context: reading it, folding, hiding, and what stands behind summaries."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from mnesis.errors import SummaryNotFoundError
from mnesis.models.context import ActiveContext, Cover, Prune
from mnesis.models.message import Message
from mnesis.models.session import SessionRecord
from mnesis.models.summary import Summary
from mnesis.store.accounting import completed, folded
from mnesis.store.base import Append, Appended, Compaction
from mnesis.store.codec import EncodedMessage, encode_summary, to_json
from mnesis.store.covers import (
    Change,
    Span,
    checked_change,
    contains,
    hiding,
    hiding_all,
    in_order,
    leaf_spans,
    named_summaries,
    refuse_pinned,
    refuse_unpinnable,
    visible,
)
from mnesis.store.sqlite import log
from mnesis.store.sqlite.log import NO_LIMIT
from mnesis.store.sqlite.queries import sql
from mnesis.store.sqlite.rows import (
    StoredSession,
    covers_of,
    message_from_row,
    prunes_in,
    save_accounts,
    stored_session,
    summary_from_row,
)


def active_context(connection: sqlite3.Connection, session_id: str, where: str) -> ActiveContext:
    """The items that stand for the log now."""
    stored = stored_session(connection, session_id, where)
    covers = covers_of(connection, stored.pk)
    spans = json.dumps(visible(covers, stored.record.last_seq))
    rows = connection.execute(sql("messages_in_spans"), {"session_pk": stored.pk, "spans": spans})
    messages = [message_from_row(session_id, row, where) for row in rows]
    shown = [cover.summary_id for cover in covers if cover.summary_id is not None]
    summaries = _summaries(connection, stored, shown, where)
    prunes = prunes_in(connection, stored.pk, spans)
    return ActiveContext(
        session=stored.record,
        covers=covers,
        items=in_order(covers, summaries, messages),
        prunes={(prune.seq, prune.part_index): prune for prune in prunes},
        pins=pins_of(connection, stored.pk),
    )


def compact(connection: sqlite3.Connection, session_id: str, sweep: Compaction, where: str) -> SessionRecord:
    """Commit a sweep, or nothing of it."""
    stored = stored_session(connection, session_id, where)
    current = covers_of(connection, stored.pk)
    ids = named_summaries(sweep).union(summary.id for summary in sweep.summaries)
    older = _lies(connection, stored.pk, ids)
    spans = {key: span for key, (span, _) in older.items()}
    change = checked_change(sweep, current, stored.record.last_seq, spans, session_id)
    refuse_pinned(pins_of(connection, stored.pk), change.hidden, session_id)
    for summary in sweep.summaries:
        _insert_summary(connection, stored.pk, summary, leaf_spans(summary, sweep.read_covers))
    weights = {key: tokens for key, (_, tokens) in older.items()}
    weights.update((summary.id, summary.token_count) for summary in sweep.summaries)
    after = _applied(connection, stored, current, change, weights, sweep.prunes)
    result = completed(sweep.result, after)
    body = to_json(result.model_dump(mode="json"), f"the compaction of session {session_id!r}")
    connection.execute(sql("insert_compaction"), {"session_pk": stored.pk, "result": body})
    return after


def hide(connection: sqlite3.Connection, session_id: str, first_seq: int, last_seq: int, where: str) -> SessionRecord:
    """Take a span out of the active context."""
    stored = stored_session(connection, session_id, where)
    current = covers_of(connection, stored.pk)
    change = hiding(current, (first_seq, last_seq), stored.record.last_seq)
    return _hidden(connection, stored, current, change, [(first_seq, last_seq)])


def revise(
    connection: sqlite3.Connection,
    session_id: str,
    spans: Sequence[Span],
    append: Append,
    encoded: Sequence[EncodedMessage],
    last_seq: int,
    where: str,
) -> Appended:
    """Take spans out of the active context and put messages at the end of the log."""
    stored = stored_session(connection, session_id, where)
    current = covers_of(connection, stored.pk)
    change = hiding_all(current, spans, stored.record.last_seq, last_seq)
    after = _hidden(connection, stored, current, change, spans)
    return log.append(connection, session_id, append, encoded, where) if encoded else Appended(after, ())


def _hidden(
    connection: sqlite3.Connection,
    stored: StoredSession,
    current: Sequence[Cover],
    change: Change,
    spans: Iterable[Span],
) -> SessionRecord:
    if change.covers == current:
        return stored.record
    for first_seq, last_seq in spans:
        parameters = {"session_pk": stored.pk, "first_seq": first_seq, "last_seq": last_seq}
        connection.execute(sql("insert_hidden_span"), parameters)
    kept = {cover.summary_id for cover in change.covers if cover.summary_id is not None}
    weights = {key: tokens for key, (_, tokens) in _lies(connection, stored.pk, kept).items()}
    return _applied(connection, stored, current, change, weights, ())


def pin(connection: sqlite3.Connection, session_id: str, seq: int, pinned: bool, where: str) -> None:
    """Keep a message as it is, or no longer."""
    stored = stored_session(connection, session_id, where)
    refuse_unpinnable(covers_of(connection, stored.pk), stored.record.last_seq, seq, session_id)
    parameters = {"session_pk": stored.pk, "seq": seq}
    connection.execute(sql("insert_pin" if pinned else "delete_pin"), parameters)


def pins_of(connection: sqlite3.Connection, session_pk: int) -> frozenset[int]:
    """The messages of a session that stay as they are."""
    return frozenset(seq for (seq,) in connection.execute(sql("pins"), {"session_pk": session_pk}))


def summary(connection: sqlite3.Connection, session_id: str, summary_id: str, where: str) -> Summary:
    """One summary."""
    stored = stored_session(connection, session_id, where)
    found = _summaries(connection, stored, [summary_id], where)
    if summary_id not in found:
        raise SummaryNotFoundError(summary_id, where=f"session {session_id!r}")
    return found[summary_id]


def summaries(connection: sqlite3.Connection, session_id: str, where: str) -> list[Summary]:
    """All summaries, in order of making."""
    stored = stored_session(connection, session_id, where)
    rows = connection.execute(sql("summaries"), {"session_pk": stored.pk})
    return [summary_from_row(session_id, row, where) for row in rows]


def covered_messages(
    connection: sqlite3.Connection, session_id: str, summary_id: str, after_seq: int, limit: int | None, where: str
) -> list[Message]:
    """The originals behind a summary."""
    stored = stored_session(connection, session_id, where)
    if not _lies(connection, stored.pk, [summary_id]):
        raise SummaryNotFoundError(summary_id, where=f"session {session_id!r}")
    parameters = {
        "session_pk": stored.pk,
        "id": summary_id,
        "after_seq": after_seq,
        "limit": NO_LIMIT if limit is None else limit,
    }
    rows = connection.execute(sql("covered_messages"), parameters)
    return sorted((message_from_row(session_id, row, where) for row in rows), key=lambda message: message.seq)


def _applied(
    connection: sqlite3.Connection,
    stored: StoredSession,
    current: Sequence[Cover],
    change: Change,
    weights: dict[str, int],
    prunes: Iterable[Prune],
) -> SessionRecord:
    """Put other covers and prunes in place and move the accounts; costs the spans that change, not the log."""
    hidden, hidden_tools = _weight(connection, stored.pk, change.hidden)
    shown, shown_tools = _weight(connection, stored.pk, change.shown)
    saved = _insert_prunes(connection, stored.pk, prunes, visible(change.covers, stored.record.last_seq))
    after = folded(
        stored.record,
        message_tokens=shown - hidden - saved,
        tool_tokens=shown_tools - hidden_tools - saved,
        summary_tokens=sum(weights[cover.summary_id] for cover in change.covers if cover.summary_id is not None),
    )
    _replace_covers(connection, stored.pk, current, change.covers)
    save_accounts(connection, stored.pk, after)
    return after


def _weight(connection: sqlite3.Connection, session_pk: int, spans: Sequence[Span]) -> tuple[int, int]:
    """Tokens, and tool tokens, that messages in `spans` take while they are shown."""
    if not spans:
        return 0, 0
    encoded = json.dumps(spans)
    parameters = {"session_pk": session_pk, "spans": encoded}
    tokens, tool_tokens = connection.execute(sql("tokens_in_spans"), parameters).fetchone()
    saved = sum(prune.tokens_saved for prune in prunes_in(connection, session_pk, encoded))
    return tokens - saved, tool_tokens - saved


def _insert_prunes(
    connection: sqlite3.Connection, session_pk: int, prunes: Iterable[Prune], shown: Sequence[Span]
) -> int:
    """Tokens that the new ones among `prunes` save in the stretches that are shown."""
    saved = 0
    for prune in prunes:
        row = (session_pk, prune.seq, prune.part_index, prune.tokens_saved)
        is_new = connection.execute(sql("insert_prune"), row).rowcount == 1
        saved += prune.tokens_saved if is_new and contains(shown, prune.seq) else 0
    return saved


def _replace_covers(
    connection: sqlite3.Connection, session_pk: int, before: Iterable[Cover], after: Iterable[Cover]
) -> None:
    gone, new = set(before) - set(after), set(after) - set(before)
    connection.executemany(sql("delete_cover"), [(session_pk, cover.first_seq) for cover in gone])
    connection.executemany(sql("insert_cover"), [{"session_pk": session_pk, **asdict(cover)} for cover in new])


def _insert_summary(connection: sqlite3.Connection, session_pk: int, summary: Summary, spans: Sequence[Span]) -> None:
    body, digest = encode_summary(summary)
    row = (session_pk, summary.id, summary.first_seq, summary.last_seq, summary.token_count, summary.message_count)
    summary_pk = connection.execute(sql("insert_summary"), (*row, digest, body)).lastrowid
    parameters: dict[str, object] = {"summary_pk": summary_pk, "session_pk": session_pk}
    if summary.kind == "leaf":
        connection.execute(sql("insert_leaf_edges"), {**parameters, "spans": json.dumps(spans)})
    else:
        connection.execute(sql("insert_child_edges"), {**parameters, "children": json.dumps(summary.child_ids)})


def _summaries(
    connection: sqlite3.Connection, stored: StoredSession, ids: Sequence[str], where: str
) -> dict[str, Summary]:
    if not ids:
        return {}
    rows = connection.execute(sql("summaries_by_id"), {"session_pk": stored.pk, "ids": json.dumps(ids)})
    return {row[0]: summary_from_row(stored.record.id, row, where) for row in rows}


def _lies(connection: sqlite3.Connection, session_pk: int, ids: Iterable[str]) -> dict[str, tuple[Span, int]]:
    """Span and tokens of those of the summaries that exist."""
    parameters = {"session_pk": session_pk, "ids": json.dumps(sorted(ids))}
    rows = connection.execute(sql("summary_spans"), parameters)
    return {key: ((first_seq, last_seq), token_count) for key, first_seq, last_seq, token_count in rows}
