"""Search hits and pages, built from matching messages. Shared by all stores. Pure functions, no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from mnesis.formats.text import message_text
from mnesis.models.message import Message
from mnesis.models.search import Search, SearchHit, SearchPage
from mnesis.search.analysis import excerpt_terms
from mnesis.search.pagination import SearchPosition, format_search_cursor, page_limit
from mnesis.search.snippets import MAX_EXCERPT_CHARS, best_excerpt


def build_page(
    hits_in_order: Iterable[SearchHit], search: Search, position: SearchPosition, last_seq: int
) -> SearchPage:
    """Build a page from the hits at a position. Consumes at most one hit more than the page holds."""
    limit = page_limit(search.limit)
    hits = tuple(islice(hits_in_order, limit + 1))
    if len(hits) <= limit:
        return SearchPage(hits)
    asked_at = max(0, round(search.now.timestamp() * 1000)) if search.now is not None else 0
    next_position = SearchPosition(position.offset + limit, last_seq, asked_at)
    return SearchPage(hits[:limit], format_search_cursor(search, next_position))


def build_hit(message: Message, score: float, search: Search, summary_id: str | None) -> SearchHit:
    """Build the hit for a matching message."""
    text = message_text(message)
    if search.mode == "substring":
        start = text.lower().find(search.query.lower())
        start = max(0, start - MAX_EXCERPT_CHARS // 3)
        end = start + MAX_EXCERPT_CHARS
        snippet = f"{'…' if start else ''}{text[start:end]}{'…' if end < len(text) else ''}"
    else:
        snippet = best_excerpt(text, excerpt_terms(search.query))
    return SearchHit(
        message_id=message.id,
        session_id=message.session_id,
        seq=message.seq,
        role=message.role,
        created_at=message.created_at,
        score=score,
        excerpt=snippet,
        summary_id=summary_id,
    )


def contains_text(message: Message, text: str) -> bool:
    """Return whether the text of a message contains `text`, ignoring case."""
    return text.lower() in message_text(message).lower()
