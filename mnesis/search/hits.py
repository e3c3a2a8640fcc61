"""Search hits and pages, built from matching messages. Shared by all stores. Pure functions, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from mnesis.formats.text import message_text
from mnesis.models.message import Message
from mnesis.models.search import Search, SearchHit, SearchPage
from mnesis.search.analysis import excerpt_terms
from mnesis.search.pagination import SearchPosition, format_search_cursor, page_limit
from mnesis.search.snippets import MAX_EXCERPT_CHARS, best_excerpt, find_matches, term_weights, weigh_matches


class MatchingMessage(NamedTuple):
    """A message that matches a search, its score, and the id of the summary that covers it."""

    message: Message
    score: float
    summary_id: str | None


def build_page(
    matching: Iterable[MatchingMessage], search: Search, position: SearchPosition, last_seq: int
) -> SearchPage:
    """Build a page from the matching messages at a position. Consumes at most one message more than the page holds."""
    limit = page_limit(search.limit)
    messages = list(islice(matching, limit + 1))
    hits = tuple(_build_hits(messages[:limit], search))
    if len(messages) <= limit:
        return SearchPage(hits)
    asked_at = max(0, round(search.now.timestamp() * 1000)) if search.now is not None else 0
    next_position = SearchPosition(position.offset + limit, last_seq, asked_at)
    return SearchPage(hits, format_search_cursor(search, next_position))


def _build_hits(matching: Sequence[MatchingMessage], search: Search) -> Iterator[SearchHit]:
    texts = [message_text(each.message) for each in matching]
    excerpts = (
        _substring_excerpts(texts, search.query) if search.mode == "substring" else _word_excerpts(texts, search.query)
    )
    for (message, score, summary_id), excerpt in zip(matching, excerpts, strict=True):
        yield SearchHit(
            message_id=message.id,
            session_id=message.session_id,
            seq=message.seq,
            role=message.role,
            created_at=message.created_at,
            score=score,
            excerpt=excerpt,
            summary_id=summary_id,
        )


def _substring_excerpts(texts: Sequence[str], query: str) -> Iterator[str]:
    for text in texts:
        start = max(0, text.lower().find(query.lower()) - MAX_EXCERPT_CHARS // 3)
        end = start + MAX_EXCERPT_CHARS
        yield f"{'…' if start else ''}{text[start:end]}{'…' if end < len(text) else ''}"


def _word_excerpts(texts: Sequence[str], query: str) -> list[str]:
    """Return the excerpts of texts. Terms that occur in few of the texts count more."""
    if all(len(text) <= MAX_EXCERPT_CHARS for text in texts):
        return [text.strip() for text in texts]
    terms = excerpt_terms(query)
    matches = [find_matches(text, terms) for text in texts]
    weights = term_weights(matches, len(terms))
    return [best_excerpt(text, weigh_matches(each, weights)) for text, each in zip(texts, matches, strict=True)]


def contains_text(message: Message, text: str) -> bool:
    """Return whether the text of a message contains `text`, ignoring case."""
    return text.lower() in message_text(message).lower()
