"""Text for people: unsafe characters replaced, fitted to one line or truncated."""

from __future__ import annotations

import re
from datetime import datetime

# C0 and C1 controls except newline and tab, marks that reorder text or are invisible, tags, and lone surrogates.
_UNSAFE_CHARACTERS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060\u2066-\u2069\ufeff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_BAR_EIGHTHS = " ▁▂▃▄▅▆▇█"


def clean(text: str) -> str:
    """Replace every character that could control a terminal or reorder a line with a visible mark."""
    return _UNSAFE_CHARACTERS.sub(REPLACEMENT, text.replace("\r\n", "\n"))


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
