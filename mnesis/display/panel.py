"""The content of a display, independent of its format: a title, facts, bars, tables, trees, charts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

MAX_ROWS = 50
MAX_NODES = 200
MAX_DEPTH = 12
MAX_CELL_CHARS = 120
MAX_PROSE_CHARS = 2_000
PLAIN_WIDTH_CHARS = 100

# Mid tones, legible on light and dark backgrounds: (HTML colour, console style, sign in the gauge).
COLOURS = {
    "system prompt": ("#a06cc8", "magenta", "s"),
    "summaries": ("#4a8fd8", "blue", "S"),
    "messages": ("#3fa66b", "green", "m"),
    "tool outputs": ("#c9992e", "yellow", "t"),
    "other": ("#8a8f98", "dim", "+"),
    "reserved": ("#7a7f88", "dim", "/"),
}


@dataclass(frozen=True, slots=True)
class Bar:
    """Shares of `total`, named as in `COLOURS`. `marks` are names and amounts. The rest of `total` is free."""

    shares: tuple[tuple[str, int], ...]
    total: int
    marks: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells, of which `MAX_ROWS` are shown.

    `right` names the right-aligned columns. `more` is the number of rows that exist but are not in `rows`.
    """

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    right: tuple[str, ...] = ()
    more: int = 0


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a tree: a label of one line, a preview of its text, an optional mark, and its children."""

    label: str
    text: str = ""
    mark: str = ""
    children: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Tree:
    """A forest, of which at most `MAX_NODES` nodes and `MAX_DEPTH` levels are shown."""

    roots: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Prose:
    """Text, of which the first `MAX_PROSE_CHARS` characters are shown."""

    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A series of values. `marked` are indexes, `lines` are named heights, `first` and `last` label the ends."""

    values: tuple[int, ...]
    marked: frozenset[int] = frozenset()
    lines: tuple[tuple[str, int], ...] = ()
    first: str = ""
    last: str = ""

    @property
    def top(self) -> int:
        """The height of the chart. Lines far above every value are omitted, so that the values remain visible."""
        highest = max((*self.values, 1))
        return max((highest, *(height for _, height in self.lines if height <= highest * 4)))


Block = Bar | Table | Tree | Prose | Chart


@dataclass(frozen=True, slots=True)
class Panel:
    """The display of one value. `facts` are names and values on one line under the title."""

    title: str
    badges: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    blocks: tuple[Block, ...] = field(default=())


def context_bar(
    shares: dict[str, int], *, usable_tokens: int, soft_tokens: int | None = None, reserved_tokens: int = 0
) -> Bar:
    """Return the gauge of a context: its shares, and marks at the soft and the hard threshold.

    The reserved tokens follow the hard threshold. Shares of zero tokens are left out.
    """
    marks = (("hard", usable_tokens),) if soft_tokens is None else (("soft", soft_tokens), ("hard", usable_tokens))
    visible_shares = tuple((name, tokens) for name, tokens in shares.items() if tokens > 0)
    return Bar((*visible_shares, ("reserved", reserved_tokens)), max(usable_tokens + reserved_tokens, 1), marks)


def format_span(first_seq: int, last_seq: int) -> str:
    """Format a span of the log, such as `#3–17`."""
    return f"#{first_seq}–{last_seq}"
