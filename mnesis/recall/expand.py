"""Resolve ids and expand summaries back to the original messages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import accumulate

from mnesis.errors import (
    MessageNotFoundError,
    NotFoundError,
    SummaryNotFoundError,
)
from mnesis.models.context import find_cover
from mnesis.models.cursor import Cursor, parse_cursor
from mnesis.models.message import Message, TextPart
from mnesis.models.page_sizes import LOG_PAGE_MESSAGES
from mnesis.models.results import Description, Expansion
from mnesis.models.search import SearchHit, SearchPage
from mnesis.models.summary import Summary
from mnesis.recall.stored_files import find_file_reference
from mnesis.search.time_parameters import TimeLimits, is_within
from mnesis.store.base import OnDamage, Store
from mnesis.validation import check_integer

MAX_PAGE_MESSAGES = 10_000
"""Larger limits are reduced to this, so that a page fits in memory."""


async def read_log(
    store: Store,
    session_id: str,
    *,
    after_seq: int = 0,
    page_size: int = LOG_PAGE_MESSAGES,
    on_damage: OnDamage = "raise",
) -> AsyncIterator[Message]:
    """Yield the messages of the log in order, reading a page of `page_size` messages at a time."""
    check_integer("page", page_size, minimum=1)
    while True:
        messages = await store.messages(session_id, after_seq=after_seq, limit=page_size, on_damage=on_damage)
        for message in messages:
            yield message
        if len(messages) < page_size:
            return
        after_seq = messages[-1].seq


async def insert_summaries(store: Store, session_id: str, messages: list[Message]) -> list[Message]:
    """Insert each summary of the active context after the last message it replaces. Changes and returns `messages`."""
    context = await store.active_context(session_id)
    for item in reversed(context.items):
        if isinstance(item, Summary):
            index = next((i for i, m in enumerate(messages) if m.seq > item.last_seq), len(messages))
            messages.insert(index, _summary_message(item))
    return messages


def _summary_message(summary: Summary) -> Message:
    return Message(
        id=summary.id,
        session_id=summary.session_id,
        seq=summary.last_seq,
        role="assistant",
        parts=(TextPart(text=summary.text),),
        created_at=summary.created_at,
        token_count=summary.token_count,
        model_id=summary.model_id,
        is_summary=True,
    )


async def add_neighbours(store: Store, page: SearchPage, neighbours: int) -> SearchPage:
    """Return the page with `neighbours` messages on each side of every hit. Neighbours may be hits themselves."""
    check_integer("neighbours", neighbours, minimum=0)
    if not neighbours:
        return page
    neighbours = min(neighbours, MAX_PAGE_MESSAGES)
    hits = [replace(hit, neighbours=await _read_neighbours(store, hit, neighbours)) for hit in page]
    return replace(page, hits=tuple(hits))


async def _read_neighbours(store: Store, hit: SearchHit, count: int) -> tuple[Message, ...]:
    first, last = max(hit.seq - count, 1), hit.seq + count
    messages = await store.messages(hit.session_id, after_seq=first - 1, until_seq=last)
    return tuple(message for message in messages if message.seq != hit.seq)


async def expand(
    store: Store,
    session_id: str,
    summary_id: str,
    *,
    cursor: str | None,
    limit: int,
    max_tokens: int | None = None,
    times: TimeLimits | None = None,
) -> Expansion:
    """Return a page of the originals that a summary replaces, or the one message with this id.

    A page has at most `limit` messages and `max_tokens` tokens (None: no limit), and at least one message if there is one. With
    `times`, only originals of that time are returned.

    Raises `SummaryNotFoundError`, and `ConfigurationError` for an invalid limit or cursor.
    """
    if max_tokens is not None:
        check_integer("max_tokens", max_tokens, minimum=1)
    check_integer("limit", limit, minimum=1)
    after_seq = 0 if cursor is None else parse_cursor(cursor, 1, of="this method").numbers[0]
    limit = min(limit, MAX_PAGE_MESSAGES)
    try:
        messages = await covered_messages(store, session_id, summary_id, after_seq, limit + 1, times)
    except SummaryNotFoundError as error:
        try:
            return Expansion(summary_id=summary_id, messages=(await store.message(session_id, summary_id),))
        except MessageNotFoundError:
            raise error from None
    page = _take_fitting(messages[:limit], max_tokens)
    next_cursor = str(Cursor((page[-1].seq,))) if len(page) < len(messages) else None
    return Expansion(summary_id=summary_id, messages=tuple(page), next_cursor=next_cursor)


async def covered_messages(
    store: Store, session_id: str, summary_id: str, after_seq: int, limit: int, times: TimeLimits | None
) -> list[Message]:
    """Return up to `limit` originals of a summary within `times`, reading page by page."""
    if times is None or (times.after, times.before) == (None, None):
        return await store.covered_messages(session_id, summary_id, after_seq=after_seq, limit=limit)
    found: list[Message] = []
    while len(found) < limit:
        page = await store.covered_messages(session_id, summary_id, after_seq=after_seq, limit=LOG_PAGE_MESSAGES)
        found += [message for message in page if is_within(message, times.after, times.before)]
        if len(page) < LOG_PAGE_MESSAGES:
            break
        after_seq = page[-1].seq
    return found[:limit]


def _take_fitting(messages: list[Message], max_tokens: int | None) -> list[Message]:
    """Return as many of the messages as fit, and always the first."""
    if max_tokens is None:
        return messages
    totals = accumulate(message.token_count for message in messages)
    return messages[: max(sum(1 for total in totals if total <= max_tokens), 1)]


async def expand_children(store: Store, session_id: str, summary_id: str) -> Expansion:
    """Return the summaries that a condensed summary was created from; an empty list for a leaf."""
    summary = await store.summary(session_id, summary_id)
    children = [await store.summary(session_id, child) for child in summary.child_ids]
    return Expansion(summary_id=summary_id, summaries=tuple(children))


async def describe(store: Store, session_id: str, id: str) -> Description:
    """Describe the session, summary, message or stored file that an id names.

    Raises `NotFoundError` if the session has nothing with this id.
    """
    if id == session_id:
        return await _describe_session(store, session_id)
    for describe_kind in (_describe_summary, _describe_message, _describe_file):
        try:
            return await describe_kind(store, session_id, id)
        except (SummaryNotFoundError, MessageNotFoundError):
            continue
    raise NotFoundError(id, location=f"session {session_id!r}")


async def _describe_session(store: Store, session_id: str) -> Description:
    record = await store.session(session_id)
    details = {
        "model": record.model,
        "messages": record.last_seq,
        "turns": record.turn_count,
        "context_tokens": record.context_tokens,
        "created_at": record.created_at,
    }
    return Description(id=session_id, kind="session", text=record.title, details=details)


async def _describe_summary(store: Store, session_id: str, id: str) -> Description:
    summary = await store.summary(session_id, id)
    return Description(id=id, kind="summary", text=summary.text, details=summary.model_dump(exclude={"id", "text"}))


async def _describe_message(store: Store, session_id: str, id: str) -> Description:
    message = await store.message(session_id, id)
    context = await store.active_context(session_id)
    cover = find_cover(context.covers, message.seq)
    details = message.model_dump(exclude={"id", "parts", "extra"}) | {"summary_id": cover.summary_id if cover else None}
    return Description(id=id, kind="message", text=message.text_content(), details=details)


async def _describe_file(store: Store, session_id: str, id: str) -> Description:
    found = await find_file_reference(store, session_id, id)
    if found is None:
        raise MessageNotFoundError(id, location=f"session {session_id!r}")
    message, part = found
    details = part.model_dump() | {"message_id": message.id, "seq": message.seq}
    return Description(id=part.content_id, kind="file", text=part.exploration_summary, details=details)
