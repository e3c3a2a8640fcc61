"""Text for people: harmless whatever it holds, on one line or cut where there is no room."""

from __future__ import annotations

import re
from datetime import datetime

# C0 and C1 controls but newline and tab; marks that reorder text or hide in it; tags; what UTF-8 cannot hold.
_HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060\u2066-\u2069\ufeff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
STAND_IN = "\N{REPLACEMENT CHARACTER}"
_BAR_EIGHTHS = " ▁▂▃▄▅▆▇█"


def clean(text: str) -> str:
    """`text` with everything that could drive a terminal or reorder a line replaced by a visible mark."""
    return _HARMFUL.sub(STAND_IN, text.replace("\r\n", "\n"))


def one_line(text: str, width: int) -> str:
    """The beginning of `text` on one line of at most `width` characters."""
    start = " ".join(clean(text[: width * 8]).split())
    return start if len(start) <= width and len(text) <= width * 8 else start[: width - 1] + "…"


def shortened(text: str, max_chars: int, hint: str = " (--raw shows all)") -> str:
    """`text`, cleaned; beyond `max_chars` characters it says how many are not shown, and `hint`."""
    if len(text) <= max_chars:
        return clean(text)
    return f"{clean(text[:max_chars])}\n… {len(text) - max_chars:,} more characters{hint}"


def when(milliseconds: int) -> str:
    """A time as the local clock shows it; "-" for none, or for one that no calendar has."""
    try:
        return (
            datetime.fromtimestamp(milliseconds / 1000).astimezone().strftime("%Y-%m-%d %H:%M") if milliseconds else "-"
        )
    except (OverflowError, OSError, ValueError):
        return "-"


def counted(number: int, noun: str) -> str:
    """`1 message`, `1,204 messages`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def gauge(shares: list[tuple[int, str]], total: int, width: int) -> list[str]:
    """A bar of `width` cells, one character per cell: each share of `total` fills as many as it takes, at least one."""
    cells: list[str] = []
    for amount, mark in shares:
        cells += [mark] * (max(1, round(amount * width / total)) if amount else 0)
    return (cells + [" "] * width)[:width]


def chart(values: list[int], top: int, height: int) -> list[str]:
    """Rows of a bar chart of `values`, highest row first; `top` fills all `height` rows."""
    rows = []
    for row in reversed(range(height)):
        filled = [value * height * 8 / top - row * 8 for value in values]
        rows.append("".join(_BAR_EIGHTHS[max(0, min(8, round(part)))] for part in filled))
    return rows
