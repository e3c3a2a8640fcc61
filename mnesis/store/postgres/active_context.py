"""Reading the active context. The server does not send items that this store has decoded already."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mnesis.errors import SessionNotFoundError
from mnesis.models.context import ActiveContext, Prune
from mnesis.models.session import SessionRecord
from mnesis.store.context_cache import (
    CachedContext,
    SharedContextCache,
    find_empty_extras,
    is_continuation,
    seqs_with_containers,
)
from mnesis.store.covers import order_items, visible_spans
from mnesis.store.damaged import refuse_gaps
from mnesis.store.postgres.accounts import read_record_heads
from mnesis.store.postgres.context import covers_from_rows
from mnesis.store.postgres.log import span_parameters
from mnesis.store.postgres.rows import Row, message_from_row, summary_from_row
from mnesis.store.postgres.stored_session import intact_session
from mnesis.store.postgres.transaction import Transaction, session_parameters, stored_session
from mnesis.store.record_heads import refuse_damaged_context

if TYPE_CHECKING:
    from mnesis.store.postgres.database import PostgresDatabase

MESSAGE_COLUMNS = 9
"""The columns of messages at the end of a row of `session_since`."""


async def read_active_context(
    database: PostgresDatabase, cache: SharedContextCache, session_id: str, shared: bool
) -> ActiveContext:
    """Load the items that currently represent the log. Decodes only items that this store has not decoded yet."""
    cached = cache.get(session_id)
    if cached is not None:
        extended = await database.read_one_statement(_extend_context, session_id, cached)
        if extended is not None:
            record, context = extended
            if context is not cached:
                cache.put(session_id, context)
            return _show(record, context, shared)
    record, context = await database.read(_load_context, session_id)
    cache.put(session_id, context)
    return _show(record, context, shared)


def _show(record: SessionRecord, context: CachedContext, shared: bool) -> ActiveContext:
    items = context.share_items() if shared else context.copy_items()
    return ActiveContext(record, context.covers, items, dict(context.prunes), context.pins)


def _extend_context(
    transaction: Transaction, session_id: str, cached: CachedContext
) -> tuple[SessionRecord, CachedContext] | None:
    """Return a cached context with the messages appended since, in one round trip.

    Returns None if its covers, summaries, prunes or pins changed, or if the log does not continue the one it was read
    from.
    """
    row = transaction.row("session_since", session_parameters(session_id) | {"after_seq": cached.last_seq})
    if row is None:
        raise SessionNotFoundError(session_id)
    stored, columns = intact_session(row[:-MESSAGE_COLUMNS]), row[-MESSAGE_COLUMNS:]
    if stored.record_head != cached.record_head:
        return None
    if stored.log_head == cached.log_head:
        return stored.record, cached
    rows = [] if columns[0] is None else list(zip(*columns, strict=True))
    if not is_continuation(cached.log_head, (row[5] for row in rows), stored.log_head):
        return None
    messages = [message_from_row(session_id, row) for row in rows]
    return stored.record, cached.extend(stored.log_head, stored.record.last_seq, messages, _stored_bytes(rows))


def _stored_bytes(rows: Iterable[Row]) -> int:
    return sum(len(row[3]) + len(row[4] or b"") for row in rows)


def _load_context(transaction: Transaction, session_id: str) -> tuple[SessionRecord, CachedContext]:
    """Load the whole active context, in one round trip."""
    parameters = session_parameters(session_id)
    names = ("session", "covers", "visible_messages", "visible_summaries", "visible_prunes", "pins", "record_heads")
    found, *answers = [transaction.send(name, parameters) for name in names]
    stored = stored_session(session_id, found)
    heads = read_record_heads(answers.pop(), session_id)
    cover_rows, message_rows, summary_rows, prune_rows, pin_rows = [answer.rows() for answer in answers]
    covers, pins = covers_from_rows(cover_rows), frozenset(seq for (seq,) in pin_rows)
    refuse_damaged_context(heads, stored.record_head, covers, pins, session_id)
    summaries = [summary_from_row(session_id, row) for row in summary_rows]
    if stored.record.inherited_seq:
        shared_spans = visible_spans(covers, stored.record.inherited_seq)
        message_rows += transaction.rows(
            "inherited_in_spans", {"session_pk": stored.pk, **span_parameters(shared_spans)}
        )
    messages = [message_from_row(session_id, row) for row in message_rows]
    spans = visible_spans(covers, stored.record.last_seq)
    if len(messages) != sum(last - first + 1 for first, last in spans):
        refuse_gaps(session_id, messages, (seq for first, last in spans for seq in range(first, last + 1)))
    with_containers = seqs_with_containers(messages)
    context = CachedContext(
        log_head=stored.log_head,
        record_head=stored.record_head,
        last_seq=stored.record.last_seq,
        covers=covers,
        items=order_items(covers, {summary.id: summary for summary in summaries}, messages),
        prunes={(seq, index): Prune(seq, index, saved) for seq, index, saved in prune_rows},
        pins=pins,
        size_bytes=_stored_bytes(message_rows),
        with_containers=with_containers,
        empty_extras=find_empty_extras(messages, with_containers),
    )
    return stored.record, context
