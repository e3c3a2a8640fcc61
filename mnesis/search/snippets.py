"""Passages of texts around the terms of a query. Pure functions, no I/O."""

from __future__ import annotations

import heapq
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from mnesis.tokens.estimator import TokenCounter

MAX_EXCERPT_CHARS = 300
MAX_PASSAGE_CHARS = 400
MAX_MATCHES_PER_TERM = 500
"""Matches of one term that are examined: a term with more says little about where to look."""
MAX_SCANNED_CHARS = 4_000_000
"""Of a longer text, only this much is searched for passages, which bounds the time."""
MAX_LINE_CHARS = 240
"""A passage is extended to whole lines if they are at most this long."""
STEM_MATCH_WEIGHT = 0.5
"""What a word counts that shares only its beginning with a term."""

Span = tuple[int, int]


class TermMatch(NamedTuple):
    """An occurrence of a term in a text: its place, the number of the term, and what it counts."""

    start: int
    term: int
    weight: float


def best_excerpt(text: str, terms: Iterable[Sequence[str]], max_chars: int = MAX_EXCERPT_CHARS) -> str:
    """Return about `max_chars` of a text, where the most distinct and rarest terms occur together. "…" marks a cut.

    Each term is a group of word forms. Words are compared by their beginnings, because the stems of the index are not known here.
    """
    if len(text) <= max_chars:
        return text.strip()
    matches = find_matches(text, terms)
    start = max(_windows(matches, max_chars * 2 // 3), default=(0.0, 0))[1]
    start = max(0, min(-start - max_chars // 4, len(text) - max_chars))
    end = start + max_chars
    start = text.find(" ", start, start + 24) + 1 or start if start else 0
    end = text.rfind(" ", end - 24, end) if end < len(text) and text.rfind(" ", end - 24, end) > start else end
    return f"{'…' if start else ''}{text[start:end].strip()}{'…' if end < len(text) else ''}"


def passage_weight(matches: Sequence[TermMatch]) -> float:
    """Return the weight of the distinct terms that occur together in the best passage of a text."""
    return max((weight for weight, _ in _windows(matches, MAX_EXCERPT_CHARS * 2 // 3)), default=0.0)


def passage_factor(matches: Sequence[TermMatch], term_count: int) -> float:
    """Return what a message counts, up to twice, that has many of the `term_count` terms of a query in one passage.

    The index does not know where words stand, and in a long message they may be far apart.
    """
    return 1 + passage_weight(matches) / max(term_count, 1)


def find_passages(text: str, matches: Sequence[TermMatch], max_chars: int) -> list[Span]:
    """Return spans of a text with the most and rarest terms, in order, about `max_chars` together; none without matches."""
    passage_chars = min(MAX_EXCERPT_CHARS, max_chars)
    spans: list[Span] = []
    for _, negative_start in heapq.nlargest(64, _windows(matches, passage_chars * 2 // 3)):
        start = -negative_start
        if any(first <= start < end for first, end in spans):
            continue
        span = _extend(text, max(0, start - passage_chars // 4), min(len(text), start + passage_chars * 3 // 4))
        if sum(end - first for first, end in spans) + span[1] - span[0] > max_chars and spans:
            break
        spans = _merge([*spans, span])
    return spans


def passages_excerpt(
    text: str, matches: Sequence[TermMatch], max_tokens: int, count: TokenCounter, message_id: str
) -> str | None:
    """Return the passages of a text that answer a query in at most `max_tokens`, with a pointer to the rest.

    `matches` are those of the query's terms. Returns None if there are none, or if not even a short passage fits.
    """
    pointer = f'[… passages; all of it is kept: lcm_expand("{message_id}") …]'
    sample = text[:MAX_SCANNED_CHARS][-20_000:]
    max_chars = int((max_tokens - count(pointer)) * len(sample) / max(count(sample), 1))
    while matches and max_chars >= 40:
        spans = find_passages(text, matches, max_chars)
        pieces = [text[start:end].strip() for start, end in spans]
        body = "\n…\n".join(pieces)
        first = "" if spans[0][0] == 0 else "…\n"
        excerpt = f"{first}{body}\n{pointer}"
        if count(excerpt) <= max_tokens:
            return excerpt
        max_chars = max_chars * 3 // 4
    return None


def passages_around(text: str, matches: Iterable[Span], max_chars: int) -> str:
    """Return the passages of a text around matches, about `max_chars` for each, with whole lines if they are short.

    "…" marks what is left out. Passages that touch are joined; a match that is longer than a passage is cut.
    """
    spans: list[Span] = []
    for start, end in matches:
        end = min(end, start + max_chars)
        margin = (max_chars - (end - start)) // 2
        spans = _merge([*spans, _extend(text, max(0, start - margin), min(len(text), end + margin))])
    body = "\n…\n".join(text[start:end].strip() for start, end in spans)
    is_cut_before, is_cut_after = bool(text[: spans[0][0]].strip()), bool(text[spans[-1][1] :].strip())
    return f"{'… ' if is_cut_before else ''}{body}{' …' if is_cut_after else ''}"


def find_matches(text: str, terms: Iterable[Sequence[str]]) -> list[TermMatch]:
    """Return the matches of all terms in order. Rare terms of the text weigh more."""
    text = text[:MAX_SCANNED_CHARS]
    found: list[tuple[int, int, float]] = []
    for number, forms in enumerate(terms):
        pattern = re.compile("|".join(_pattern(form) for form in forms if form), re.IGNORECASE)
        matches = pattern.finditer(text) if forms else iter(())
        for match, _ in zip(matches, range(MAX_MATCHES_PER_TERM), strict=False):
            is_exact = any(match.group().lower() == form for form in forms)
            found.append((match.start(), number, 1.0 if is_exact else STEM_MATCH_WEIGHT))
    counts = Counter(number for _, number, _ in found)
    return sorted(TermMatch(start, number, weight / math.log2(1 + counts[number])) for start, number, weight in found)


def _pattern(form: str) -> str:
    if form.isdigit():
        return r"(?<![^\W_])" + r"[.,'’_ ]?".join(form)
    if not form.isascii() and len(form) <= 2:
        # Scripts without spaces have no word beginnings to compare.
        return re.escape(form)
    return r"(?<![^\W_])" + re.escape(form[: max(len(form) - 3, 4)]) + r"[^\W_]*"


def _windows(matches: Sequence[TermMatch], width: int) -> Iterator[tuple[float, int]]:
    """Yield the weight of the distinct terms in the window that begins at each match, and the negated start of the match."""
    inside: dict[int, list[float]] = {}
    last = 0
    for match in matches:
        while last < len(matches) and matches[last].start - match.start <= width:
            inside.setdefault(matches[last].term, []).append(matches[last].weight)
            last += 1
        yield sum(max(weights) for weights in inside.values() if weights), -match.start
        inside[match.term].pop(0)


def _extend(text: str, start: int, end: int) -> Span:
    """Extend a span to whole lines, or to whole words if lines are long."""
    line_start, line_end = text.rfind("\n", 0, start) + 1, text.find("\n", end)
    line_end = len(text) if line_end < 0 else line_end
    if start - line_start > MAX_LINE_CHARS:
        line_start = text.find(" ", start, start + 24) + 1 or start
    if line_end - end > MAX_LINE_CHARS:
        word_end = text.rfind(" ", end - 24, end)
        line_end = word_end if word_end > start else end
    return line_start, line_end


def _merge(spans: Sequence[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged
