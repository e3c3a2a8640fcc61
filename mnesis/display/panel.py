"""What a display says, before it is HTML or a console renderable: a title, facts, bars, tables, trees, charts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

MAX_ROWS = 50
MAX_NODES = 200
MAX_DEPTH = 12
CELL_CHARS = 120
PROSE_CHARS = 2_000
PLAIN_WIDTH = 100

# Mid tones, legible on light and on dark ground: (HTML colour, console style, sign in the gauge).
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
    """Shares of `total`, by names of `COLOURS`; `marks` are names and amounts. What is left of `total` is free."""

    shares: tuple[tuple[str, int], ...]
    total: int
    marks: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells, of which `MAX_ROWS` are shown. `right` names the columns of numbers; `more` rows were not given."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    right: tuple[str, ...] = ()
    more: int = 0


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a tree: one line that names it, the beginning of its text, whether it is marked, what is below it."""

    label: str
    text: str = ""
    mark: str = ""
    children: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Tree:
    """Nodes side by side, of which `MAX_NODES` are shown, `MAX_DEPTH` deep."""

    roots: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Prose:
    """Text as it is, `PROSE_CHARS` characters of it."""

    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Amounts in order, some of them marked (by place); `lines` are named heights; `first` and `last` name the ends."""

    values: tuple[int, ...]
    marked: frozenset[int] = frozenset()
    lines: tuple[tuple[str, int], ...] = ()
    first: str = ""
    last: str = ""

    @property
    def top(self) -> int:
        """The height of the chart: lines far above all amounts would leave nothing to be seen of these."""
        highest = max((*self.values, 1))
        return max((highest, *(height for _, height in self.lines if height <= highest * 4)))


Block = Bar | Table | Tree | Prose | Chart


@dataclass(frozen=True, slots=True)
class Panel:
    """One value as people see it. `facts` are names and values on one line under the title."""

    title: str
    badges: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    blocks: tuple[Block, ...] = field(default=())


def context_bar(
    shares: dict[str, int], *, usable_tokens: int, soft_tokens: int | None = None, reserved_tokens: int = 0
) -> Bar:
    """The gauge of a context: its shares, the soft mark, the hard one where the room ends that is kept for answers."""
    marks = (("hard", usable_tokens),) if soft_tokens is None else (("soft", soft_tokens), ("hard", usable_tokens))
    held = tuple((name, tokens) for name, tokens in shares.items() if tokens > 0)
    return Bar((*held, ("reserved", reserved_tokens)), max(usable_tokens + reserved_tokens, 1), marks)


def span(first_seq: int, last_seq: int) -> str:
    """`#3–17`, a stretch of the log."""
    return f"#{first_seq}–{last_seq}"
