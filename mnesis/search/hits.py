"""From found messages to a page of hits. Pure, shared by all stores."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from mnesis.formats.text import readable
from mnesis.models.message import Message
from mnesis.models.search import Search, SearchHit, SearchPage
from mnesis.search.analysis import question_words
from mnesis.search.pagination import Place, format_place, page_limit
from mnesis.search.snippets import MAX_CHARS, excerpt


def page_of(found: Iterable[SearchHit], search: Search, place: Place, last_seq: int) -> SearchPage:
    """The first of the hits that are left, and where they go on. Takes no more of them than it shows, and one."""
    limit = page_limit(search.limit)
    hits = tuple(islice(found, limit + 1))
    if len(hits) <= limit:
        return SearchPage(hits)
    return SearchPage(hits[:limit], format_place(search, Place(place.offset + limit, last_seq)))


def hit_of(message: Message, score: float, search: Search, summary_id: str | None) -> SearchHit:
    """A message as a hit."""
    text = readable(message)
    if search.mode == "substring":
        start = text.lower().find(search.query.lower())
        start = max(0, start - MAX_CHARS // 3)
        shown = f"{'…' if start else ''}{text[start : start + MAX_CHARS]}{'…' if start + MAX_CHARS < len(text) else ''}"
    else:
        shown = excerpt(text, question_words(search.query))
    return SearchHit(
        message_id=message.id,
        session_id=message.session_id,
        seq=message.seq,
        role=message.role,
        created_at=message.created_at,
        score=score,
        excerpt=shown,
        summary_id=summary_id,
    )


def holds_text(message: Message, text: str) -> bool:
    """Whether a message says `text`, as it stands, in upper or lower case."""
    return text.lower() in readable(message).lower()
