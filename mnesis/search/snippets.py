"""The stretch of a text that shows best why it was found. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

MAX_CHARS = 300
MAX_PLACES = 2_000
_WORD = re.compile(r"[^\W_]+")


def excerpt(text: str, words: Iterable[Sequence[str]], max_chars: int = MAX_CHARS) -> str:
    """At most about `max_chars` of `text`, around the place with most of the different words; … marks a cut.

    `words` are groups of forms. The index knows stems, this does not: forms of one word are told by their beginning.
    """
    if len(text) <= max_chars:
        return text.strip()
    places = _places(text, list(words))
    start = _best_start(places, max_chars)
    start = max(0, min(start - max_chars // 6, len(text) - max_chars))
    end = start + max_chars
    start = text.find(" ", start, start + 24) + 1 or start if start else 0
    end = text.rfind(" ", end - 24, end) if end < len(text) and text.rfind(" ", end - 24, end) > start else end
    return f"{'…' if start else ''}{text[start:end].strip()}{'…' if end < len(text) else ''}"


def _places(text: str, groups: Sequence[Sequence[str]]) -> list[tuple[int, int]]:
    """Where words stand, and to which group they belong."""
    beginnings = [(form[: max(len(form) - 3, 4)], number) for number, group in enumerate(groups) for form in group]
    found = []
    for match in _WORD.finditer(text):
        word = match.group().lower()
        for beginning, number in beginnings:
            if word.startswith(beginning):
                found.append((match.start(), number))
                break
        if len(found) == MAX_PLACES:
            break
    # Scripts without spaces have no beginnings of words.
    inside = [(text.find(form), number) for number, group in enumerate(groups) for form in group]
    return found or sorted(place for place in inside if place[0] >= 0)


def _best_start(places: Sequence[tuple[int, int]], max_chars: int) -> int:
    best, best_count = places[0][0] if places else 0, 0
    first = 0
    for last, (end, _) in enumerate(places):
        while end - places[first][0] > max_chars * 2 // 3:
            first += 1
        count = len({number for _, number in places[first : last + 1]})
        if count > best_count:
            best, best_count = places[first][0], count
    return best
