"""Excerpts of texts around the terms of a query. Pure functions, no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

MAX_EXCERPT_CHARS = 300
MAX_MATCHES = 2_000
_WORD = re.compile(r"[^\W_]+")


def best_excerpt(text: str, terms: Iterable[Sequence[str]], max_chars: int = MAX_EXCERPT_CHARS) -> str:
    """Return about `max_chars` of a text, where the most distinct terms occur together. "…" marks a cut.

    Each term is a group of word forms. Words are compared by their beginnings, because the stems of the index are not known here.
    """
    if len(text) <= max_chars:
        return text.strip()
    matches = _find_matches(text, list(terms))
    start = _densest_start(matches, max_chars)
    start = max(0, min(start - max_chars // 6, len(text) - max_chars))
    end = start + max_chars
    start = text.find(" ", start, start + 24) + 1 or start if start else 0
    end = text.rfind(" ", end - 24, end) if end < len(text) and text.rfind(" ", end - 24, end) > start else end
    return f"{'…' if start else ''}{text[start:end].strip()}{'…' if end < len(text) else ''}"


def _find_matches(text: str, groups: Sequence[Sequence[str]]) -> list[tuple[int, int]]:
    """Return the offsets of matching words, each with the number of its group."""
    prefixes = [(form[: max(len(form) - 3, 4)], number) for number, group in enumerate(groups) for form in group]
    matches = []
    for match in _WORD.finditer(text):
        word = match.group().lower()
        for prefix, number in prefixes:
            if word.startswith(prefix):
                matches.append((match.start(), number))
                break
        if len(matches) == MAX_MATCHES:
            break
    # Scripts without spaces have no word beginnings to compare.
    substring_matches = [(text.find(form), number) for number, group in enumerate(groups) for form in group]
    return matches or sorted(match for match in substring_matches if match[0] >= 0)


def _densest_start(matches: Sequence[tuple[int, int]], max_chars: int) -> int:
    best, best_count = matches[0][0] if matches else 0, 0
    first = 0
    for last, (end, _) in enumerate(matches):
        while end - matches[first][0] > max_chars * 2 // 3:
            first += 1
        count = len({number for _, number in matches[first : last + 1]})
        if count > best_count:
            best, best_count = matches[first][0], count
    return best
