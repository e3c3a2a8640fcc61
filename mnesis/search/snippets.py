"""Passages of texts around the terms of a query. Pure functions, no I/O."""

from __future__ import annotations

import heapq
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from mnesis.tokens.estimator import TokenCounter

MAX_EXCERPT_CHARS = 300
MAX_PASSAGE_CHARS = 400
MAX_MATCHES_PER_TERM = 500
"""The number of matches of one term that are examined. A term with more matches does not help to find a passage."""
MAX_CANDIDATE_PLACES = 200_000
"""Places of a text, for all terms together, where a term may begin: in base64, short terms are inside words everywhere."""
MAX_SCANNED_CHARS = 4_000_000
"""The length of the part of a longer text that is searched for passages, which bounds the time."""
MAX_LINE_CHARS = 240
"""A passage is extended to whole lines if they are at most this long."""
STEM_MATCH_WEIGHT = 0.5
"""The weight of a word that shares only its beginning with a term."""
REPETITION_DAMPING = 0.1
"""The fraction of the weight that a term loses for each doubling of its occurrences in a text. It decides between equal
passages."""

Span = tuple[int, int]


class TermMatch(NamedTuple):
    """An occurrence of a term in a text: its place, the number of the term, and its weight."""

    start: int
    term: int
    weight: float


def best_excerpt(text: str, matches: Sequence[TermMatch], max_chars: int = MAX_EXCERPT_CHARS) -> str:
    """Return about `max_chars` of a text, where the most distinct and rarest terms occur together. "…" marks a cut."""
    if len(text) <= max_chars:
        return text.strip()
    start = max(_windows(matches, max_chars // 2), default=(0.0, 0))[1]
    start = max(0, min(-start - max_chars // 4, len(text) - max_chars))
    end = start + max_chars
    start = text.find(" ", start, start + 24) + 1 or start if start else 0
    end = text.rfind(" ", end - 24, end) if end < len(text) and text.rfind(" ", end - 24, end) > start else end
    return f"{'…' if start else ''}{text[start:end].strip()}{'…' if end < len(text) else ''}"


def passage_weight(matches: Sequence[TermMatch]) -> float:
    """Return the weight of the distinct terms that occur together in the best passage of a text."""
    return max((weight for weight, _ in _windows(matches, MAX_EXCERPT_CHARS * 2 // 3)), default=0.0)


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

    `matches` are those of the query's terms. Returns None if there are no matches, or if not even a short passage fits.
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

    "…" marks omissions. Passages that touch are joined; a match that is longer than a passage is cut.
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
    """Return the matches of all terms in order. Terms that the text repeats weigh a little less.

    Each term is a group of word forms. Words are compared by their beginnings, because the stems of the index are not known here.
    """
    words = _find_words(text, terms)
    counts = Counter(number for _, number, _ in words)
    damping = {number: 1 + REPETITION_DAMPING * math.log2(count) for number, count in counts.items()}
    return [
        TermMatch(start, number, (1.0 if is_exact else STEM_MATCH_WEIGHT) / damping[number])
        for start, number, is_exact in words
    ]


def term_weights(matches_of_texts: Sequence[Sequence[TermMatch]], term_count: int) -> list[float]:
    """Return the weight of each term among some texts: that of BM25. A term that few of them have counts more."""
    counts = Counter(term for matches in matches_of_texts for term in {match.term for match in matches})
    return [math.log(1 + len(matches_of_texts) / max(counts[term], 1)) for term in range(term_count)]


def weigh_matches(matches: Iterable[TermMatch], weights: Sequence[float]) -> list[TermMatch]:
    """Multiply the weights of matches by those of their terms."""
    return [TermMatch(start, term, weight * weights[term]) for start, term, weight in matches]


def _find_words(text: str, terms: Iterable[Sequence[str]]) -> list[tuple[int, int, bool]]:
    """Return the matches of terms in order: the place, the term, and whether the word equals the term."""
    text = _lower(text[:MAX_SCANNED_CHARS])
    found: list[tuple[int, int, bool]] = []
    terms = list(terms)
    max_places = MAX_CANDIDATE_PLACES // max(sum(map(len, terms)), 1)
    for number, forms in enumerate(terms):
        places: dict[int, bool] = {}
        for form in filter(None, forms):
            for start, is_exact in islice(_occurrences(text, form, max_places), MAX_MATCHES_PER_TERM):
                places[start] = is_exact or places.get(start, False)
        found += [(start, number, places[start]) for start in sorted(places)[:MAX_MATCHES_PER_TERM]]
    return sorted(found)


def _lower(text: str) -> str:
    """Return a text in lower case without moving any character, although "İ" has two characters in lower case."""
    lower = text.lower()
    return lower if len(lower) == len(text) else "".join(map(_lower_character, text))


def _lower_character(character: str) -> str:
    lower = character.lower()
    return lower if len(lower) == 1 else character


def _occurrences(text: str, form: str, max_places: int) -> Iterator[tuple[int, bool]]:
    """Yield the places of words that begin like a form, and whether they are equal to it, among the first places of the form.

    `str.find` is much faster than a pattern.
    """
    if form.isdigit():
        pattern = r"(?<![^\W_])" + r"[.,'’_ ]?".join(form)
        yield from ((match.start(), match.group() == form) for match in re.finditer(pattern, text))
        return
    # Scripts without spaces have no word beginnings to compare.
    is_pair = not form.isascii() and len(form) <= 2
    beginning = form if is_pair else form[: max(len(form) - 3, 4)]
    start = text.find(beginning)
    for _ in range(max_places):
        if start < 0:
            return
        if is_pair:
            yield start, True
        elif not text[start - 1 : start].isalnum():
            end = start + len(form)
            yield start, text.startswith(form, start) and not text[end : end + 1].isalnum()
        start = text.find(beginning, start + len(beginning))


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
