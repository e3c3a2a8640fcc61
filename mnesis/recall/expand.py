"""Looking things up in a session: what an id names, what stands behind a summary."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import accumulate

from mnesis.errors import (
    ConfigurationError,
    MessageNotFoundError,
    NotFoundError,
    SummaryNotFoundError,
)
from mnesis.models.message import Message, TextPart
from mnesis.models.results import Description, Expansion
from mnesis.models.search import SearchHit, SearchPage
from mnesis.models.summary import Summary
from mnesis.recall.stored_files import find_reference
from mnesis.store.base import Store
from mnesis.validation import check_integer

PAGE = 500
LARGEST_PAGE = 10_000


async def every_message(
    store: Store, session_id: str, *, after_seq: int = 0, page: int = PAGE
) -> AsyncIterator[Message]:
    """The log in order, read a page at a time."""
    check_integer("page", page, least=1)
    while True:
        found = await store.messages(session_id, after_seq=after_seq, limit=page)
        for message in found:
            yield message
        if len(found) < page:
            return
        after_seq = found[-1].seq


async def with_summaries(store: Store, session_id: str, messages: list[Message]) -> list[Message]:
    """The log with each summary of the active context after the last message it stands for."""
    context = await store.active_context(session_id)
    for item in reversed(context.items):
        if isinstance(item, Summary):
            place = next((i for i, m in enumerate(messages) if m.seq > item.last_seq), len(messages))
            messages.insert(place, _as_message(item))
    return messages


def _as_message(summary: Summary) -> Message:
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


async def with_neighbours(store: Store, page: SearchPage, neighbours: int) -> SearchPage:
    """The hits with so many messages on each side of them, which may be hits themselves."""
    check_integer("neighbours", neighbours, least=0)
    if not neighbours:
        return page
    neighbours = min(neighbours, LARGEST_PAGE)
    hits = [replace(hit, neighbours=await _around(store, hit, neighbours)) for hit in page]
    return replace(page, hits=tuple(hits))


async def _around(store: Store, hit: SearchHit, reach: int) -> tuple[Message, ...]:
    first, last = max(hit.seq - reach, 1), hit.seq + reach
    found = await store.messages(hit.session_id, after_seq=first - 1, until_seq=last)
    return tuple(message for message in found if message.seq != hit.seq)


async def expand(
    store: Store, session_id: str, summary_id: str, *, cursor: str | None, limit: int, max_tokens: int | None = None
) -> Expansion:
    """One page of the originals behind a summary, or the message of this id."""
    if max_tokens is not None:
        check_integer("max_tokens", max_tokens, least=1)
    check_integer("limit", limit, least=1)
    after_seq = _cursor_seq(cursor)
    limit = min(limit, LARGEST_PAGE)
    try:
        found = await store.covered_messages(session_id, summary_id, after_seq=after_seq, limit=limit + 1)
    except SummaryNotFoundError as error:
        try:
            return Expansion(summary_id=summary_id, messages=(await store.message(session_id, summary_id),))
        except MessageNotFoundError:
            raise error from None
    page = _within(found[:limit], max_tokens)
    more = len(page) < len(found)
    return Expansion(summary_id=summary_id, messages=tuple(page), next_cursor=str(page[-1].seq) if more else None)


def _within(messages: list[Message], max_tokens: int | None) -> list[Message]:
    """As many of the messages as fit, the first in any case."""
    if max_tokens is None:
        return messages
    totals = accumulate(message.token_count for message in messages)
    return messages[: max(sum(1 for total in totals if total <= max_tokens), 1)]


async def expand_children(store: Store, session_id: str, summary_id: str) -> Expansion:
    """The summaries a condensed summary was made of; none for a leaf."""
    summary = await store.summary(session_id, summary_id)
    children = [await store.summary(session_id, child) for child in summary.child_ids]
    return Expansion(summary_id=summary_id, summaries=tuple(children))


def _cursor_seq(cursor: str | None) -> int:
    if cursor is None:
        return 0
    # A seq has at most 18 digits; longer ones would not fit the database.
    if not isinstance(cursor, str) or not cursor.isascii() or not cursor.isdigit() or len(cursor) > 18:
        raise ConfigurationError(
            f"{str(cursor)[:80]!r} is no cursor of this method; pass the next_cursor of the page before"
        )
    return int(cursor)


async def describe(store: Store, session_id: str, id: str) -> Description:
    """What an id names in a session. Raises `NotFoundError`."""
    if id == session_id:
        return await _session(store, session_id)
    for look in (_summary, _message, _file):
        try:
            return await look(store, session_id, id)
        except (SummaryNotFoundError, MessageNotFoundError):
            continue
    raise NotFoundError(id, where=f"session {session_id!r}")


async def _session(store: Store, session_id: str) -> Description:
    state = await store.session(session_id)
    details = {
        "model": state.model,
        "messages": state.last_seq,
        "turns": state.turn_count,
        "context_tokens": state.context_tokens,
        "created_at": state.created_at,
    }
    return Description(id=session_id, kind="session", text=state.title, details=details)


async def _summary(store: Store, session_id: str, id: str) -> Description:
    summary = await store.summary(session_id, id)
    return Description(id=id, kind="summary", text=summary.text, details=summary.model_dump(exclude={"id", "text"}))


async def _message(store: Store, session_id: str, id: str) -> Description:
    message = await store.message(session_id, id)
    context = await store.active_context(session_id)
    covering = next((c.summary_id for c in context.covers if c.first_seq <= message.seq <= c.last_seq), None)
    details = message.model_dump(exclude={"id", "parts", "extra"}) | {"summary_id": covering}
    return Description(id=id, kind="message", text=message.text_content(), details=details)


async def _file(store: Store, session_id: str, id: str) -> Description:
    found = await find_reference(store, session_id, id)
    if found is None:
        raise MessageNotFoundError(id, where=f"session {session_id!r}")
    message, part = found
    details = part.model_dump() | {"message_id": message.id, "seq": message.seq}
    return Description(id=part.content_id, kind="file", text=part.exploration_summary, details=details)
