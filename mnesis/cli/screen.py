"""Text for people and programs: harmless whatever it holds, coloured only on a terminal."""

from __future__ import annotations

import json
import re
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

# C0 and C1 controls but newline and tab; marks that reorder text or hide in it; tags; what UTF-8 cannot hold.
_HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060\u2066-\u2069\ufeff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
STAND_IN = "\N{REPLACEMENT CHARACTER}"
PIPE_WIDTH = 160
ROLE_STYLES = {"system": "magenta", "user": "bold cyan", "assistant": "bold green", "tool": "yellow"}
_BAR_EIGHTHS = " ▁▂▃▄▅▆▇█"


def clean(text: str) -> str:
    """`text` with everything that could drive a terminal or reorder a line replaced by a visible mark."""
    return _HARMFUL.sub(STAND_IN, text.replace("\r\n", "\n"))


def one_line(text: str, width: int) -> str:
    """The beginning of `text` on one line of at most `width` characters."""
    start = " ".join(clean(text[: width * 8]).split())
    return start if len(start) <= width and len(text) <= width * 8 else start[: width - 1] + "…"


def shortened(text: str, max_chars: int) -> str:
    """`text`, cleaned; beyond `max_chars` characters it says how many are not shown."""
    if len(text) <= max_chars:
        return clean(text)
    return f"{clean(text[:max_chars])}\n… {len(text) - max_chars:,} more characters (--raw shows all)"


def print_json(value: Any) -> None:
    """One JSON document on standard output, in ASCII, so that no character of the content reaches a terminal."""
    print(to_json(value, indent=2))


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON in printable ASCII."""
    return json.dumps(value, indent=indent)


def console() -> Console:
    """Standard output; colours only on a terminal and unless NO_COLOR is set; markup in content means nothing."""
    from rich.console import Console

    class Rim(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would end the process with 1; the command decides

    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Rim(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False, soft_wrap=True)


def table(*columns: str, right: tuple[str, ...], shrinks: str) -> Table:
    """A plain table; the columns named in `right` are numbers, and the one named in `shrinks` gives way on narrow screens."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", no_wrap=name != shrinks)
    return made


def cut(text: str, width: int) -> Text:
    """A cell on one line of at most `width` characters, fewer where the column has shrunk."""
    from rich.text import Text

    return Text(one_line(text, width), no_wrap=True, overflow="ellipsis")


def note(text: str) -> None:
    """A message for people, on standard error."""
    print(clean(text), file=sys.stderr)


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
