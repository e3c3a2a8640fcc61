"""Text for people: unsafe characters replaced, fitted to one line or truncated."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from itertools import pairwise

# C0 and C1 controls except newline and tab, marks that reorder text or are invisible, tags, and lone surrogates.
_UNSAFE_CHARACTERS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060\u2066-\u2069\ufeff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_BREAKS = re.compile("[\n\t]")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_BAR_EIGHTHS = " ▁▂▃▄▅▆▇█"


def clean(text: str) -> str:
    """Replace every character that could control a terminal or reorder a line with a visible mark."""
    return _UNSAFE_CHARACTERS.sub(REPLACEMENT, text.replace("\r\n", "\n"))


def clean_line(text: str) -> str:
    """Clean `text` and replace its line breaks and tabs too, so that an id or a name cannot start another row."""
    return _BREAKS.sub(REPLACEMENT, clean(text))


def one_line(text: str, width: int) -> str:
    """Return the beginning of `text` on one line of at most `width` characters."""
    start = " ".join(clean(text[: width * 8]).split())
    return start if len(start) <= width and len(text) <= width * 8 else start[: width - 1] + "…"


def truncate(text: str, max_chars: int, hint: str = " (--raw shows all)") -> str:
    """Clean `text` and cut it after `max_chars` characters. A cut text ends with the number of missing ones and `hint`."""
    if len(text) <= max_chars:
        return clean(text)
    return f"{clean(text[:max_chars])}\n… {len(text) - max_chars:,} more characters{hint}"


def format_time(milliseconds: int) -> str:
    """Format a time (milliseconds since 1970) in the local time zone. "-" for 0 and for times out of range."""
    try:
        return (
            datetime.fromtimestamp(milliseconds / 1000).astimezone().strftime("%Y-%m-%d %H:%M") if milliseconds else "-"
        )
    except (OverflowError, OSError, ValueError):
        return "-"


def relative_time(milliseconds: int, now_ms: int) -> str:
    """Format how long ago a time was, such as `5 min ago` or `3 days ago`; the date after four weeks."""
    seconds = (now_ms - milliseconds) // 1000
    if not milliseconds or not -60 <= seconds < 28 * 86_400:
        return format_time(milliseconds).partition(" ")[0]
    for unit, unit_seconds in (("day", 86_400), ("hour", 3_600), ("min", 60)):
        if (number := seconds // unit_seconds) > 0:
            return f"{number} {unit}{'s' if number > 1 and unit != 'min' else ''} ago"
    return "just now"


def shortest_unique_prefixes(ids: Iterable[str], min_chars: int) -> dict[str, str]:
    """Return the shortest beginning of each id that no other id shares, of at least `min_chars` characters."""
    ordered = sorted(set(ids))
    lengths = [min_chars] * len(ordered)
    for index, (one, other) in enumerate(pairwise(ordered)):
        shared = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
        lengths[index] = max(lengths[index], shared + 1)
        lengths[index + 1] = max(lengths[index + 1], shared + 1)
    # An id that is hardly longer than its prefix is shown whole.
    return {
        each: each if len(each) <= length + 4 else each[:length] for each, length in zip(ordered, lengths, strict=True)
    }


def pluralize(number: int, noun: str) -> str:
    """Return a number with its noun, such as `1 message` or `1,204 messages`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def gauge_cells(shares: list[tuple[int, str]], total: int, width: int) -> list[str]:
    """Return a bar of `width` cells, one character each. Each share of `total` fills its part, at least one cell."""
    cells: list[str] = []
    for amount, mark in shares:
        cells += [mark] * (max(1, round(amount * width / total)) if amount else 0)
    return (cells + [" "] * width)[:width]


def chart_rows(values: list[int], top: int, height: int) -> list[str]:
    """Return the rows of a bar chart of `values`, highest row first. The value `top` fills all `height` rows."""
    rows = []
    for row in reversed(range(height)):
        filled = [value * height * 8 / top - row * 8 for value in values]
        rows.append("".join(_BAR_EIGHTHS[max(0, min(8, round(part)))] for part in filled))
    return rows
