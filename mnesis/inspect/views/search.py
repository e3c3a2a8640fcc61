"""Search results, with the reasons for their rank."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from mnesis.errors import ConfigurationError, NotFoundError
from mnesis.formats.text import message_text
from mnesis.ids import now_ms
from mnesis.inspect.views.session_list import PERIODS_MS
from mnesis.models.message import Message
from mnesis.models.search import Search, SearchHit, SearchPage
from mnesis.search.analysis import query_terms, speaker
from mnesis.search.dates import find_dates, match_score, utc_day
from mnesis.store.base import Store

PAGE_HITS = 20
NEIGHBOUR_MESSAGES = 2
_WORD = re.compile(r"[^\W_]+")
ROLES = ("user", "assistant", "tool", "system")


@dataclass(frozen=True, slots=True)
class Reason:
    """A reason for the rank of a message, in one phrase."""

    text: str


@dataclass(frozen=True, slots=True)
class RankedHit:
    """A hit, its reasons, its score relative to the best hit of the page, and its excerpt in marked and unmarked pieces."""

    hit: SearchHit
    reasons: tuple[str, ...]
    relative_score: float
    pieces: tuple[tuple[str, bool], ...]


@dataclass(frozen=True, slots=True)
class SearchView:
    """A search and its results. `problem` says why the search could not be run."""

    query: Mapping[str, str]
    hits: tuple[RankedHit, ...]
    next_cursor: str | None
    problem: str = ""


async def run_search(store: Store, query: Mapping[str, str]) -> SearchView:
    """Search as the query string says: `q`, `session`, `mode`, `role`, `tool`, `period` and `cursor`."""
    text = query.get("q", "").strip()
    if not text:
        return SearchView(query, (), None)
    role, period = query.get("role"), query.get("period", "")
    request = Search(
        text,
        query.get("session") or None,
        PAGE_HITS,
        query.get("cursor") or None,
        "substring" if query.get("mode") == "substring" else "words",
        role if role in ROLES else None,  # type: ignore[arg-type]  # checked
        query.get("tool") or None,
        now_ms() - PERIODS_MS[period] if period in PERIODS_MS else None,
        now=datetime.now(UTC),
    )
    try:
        page = await store.search(request)
        return SearchView(query, await _explain(store, request, page), page.next_cursor)
    except (ConfigurationError, NotFoundError) as error:
        return SearchView(query, (), None, str(error))


async def _explain(store: Store, request: Search, page: SearchPage) -> tuple[RankedHit, ...]:
    best = max((hit.score for hit in page), default=0.0)
    hits = []
    for hit in page:
        first = max(0, hit.seq - 1 - NEIGHBOUR_MESSAGES)
        around = await store.messages(hit.session_id, after_seq=first, until_seq=hit.seq + NEIGHBOUR_MESSAGES)
        reasons = explain_rank(request, hit, around)
        relative = hit.score / best if best > 0 and request.mode == "words" else 0.0
        hits.append(RankedHit(hit, tuple(reasons), relative, tuple(mark_matches(request, hit.excerpt))))
    return tuple(hits)


def explain_rank(request: Search, hit: SearchHit, around: Sequence[Message]) -> list[str]:
    """Say why a hit has its rank: its words, the words of its neighbours, the speaker and the date."""
    if request.mode == "substring":
        return ["contains the text literally; newest first"]
    message = next((each for each in around if each.seq == hit.seq), None)
    if message is None:
        return []
    reasons, nearby, missing = [], [], []
    own_words = _count_words(message_text(message))
    for group in query_terms(request.query):
        count = _occurrences(own_words, group)
        if count:
            reasons.append(f"“{group[0]}” × {count}")
            continue
        places = [
            each.seq for each in around if each.seq != hit.seq and _occurrences(_count_words(message_text(each)), group)
        ]
        if places:
            nearby.append(f"“{group[0]}” in neighbouring {', '.join(f'#{seq}' for seq in places)}")
        else:
            missing.append(f"without “{group[0]}”")
    dates = find_dates(request.query)
    if dates and match_score(utc_day(hit.created_at), dates) > 0:
        reasons.append("near the date in the query")
    name = speaker(message)
    words = {group[0] for group in query_terms(request.query)}
    if name and words.intersection(name.split()):
        reasons.append(f"said by {name}, whom the query names")
    return [*reasons, *nearby, *missing]


def mark_matches(request: Search, excerpt: str) -> list[tuple[str, bool]]:
    """Split an excerpt into pieces, each with whether it matches the query."""
    if request.mode == "substring":
        pattern = re.compile(re.escape(request.query), re.IGNORECASE)
        spans = [match.span() for match in pattern.finditer(excerpt)]
    else:
        groups = query_terms(request.query)
        spans = [
            match.span() for match in _WORD.finditer(excerpt) if any(_matches(match.group(), group) for group in groups)
        ]
    pieces, end = [], 0
    for start, stop in spans:
        pieces += [(excerpt[end:start], False), (excerpt[start:stop], True)]
        end = stop
    return [piece for piece in (*pieces, (excerpt[end:], False)) if piece[0]]


def _count_words(text: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for word in _WORD.findall(text):
        counts[word.lower()] = counts.get(word.lower(), 0) + 1
    return counts


def _occurrences(words: Mapping[str, int], group: Sequence[str]) -> int:
    return sum(count for word, count in words.items() if _matches(word, group))


def _matches(word: str, group: Sequence[str]) -> bool:
    """Return whether a word is a form of a term. Words are compared by their beginnings, because the index stems words
    and does not reveal the stems.
    """
    lowered = word.lower()
    return any(
        lowered == form or (len(form) > 3 and lowered.startswith(form[: max(len(form) - 3, 4)])) for form in group
    )
