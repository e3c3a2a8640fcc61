"""Panels for consoles: rich renderables made of plain text only, so that markup in the content has no effect."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import StringIO
from itertools import islice
from typing import TYPE_CHECKING

from mnesis.display.panel import (
    COLOURS,
    MAX_CELL_CHARS,
    MAX_DEPTH,
    MAX_NODES,
    MAX_PROSE_CHARS,
    MAX_ROWS,
    PLAIN_WIDTH_CHARS,
    Bar,
    Block,
    Chart,
    Node,
    Panel,
    Prose,
    Table,
    Tree,
)
from mnesis.display.text import chart_rows as chart_rows
from mnesis.display.text import gauge_cells, one_line, truncate

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.text import Text
    from rich.tree import Tree as RichTree

CHART_WIDTH, CHART_HEIGHT = 72, 6
BAR_WIDTH = 60
FREE_SIGN, COMPACTION_SIGN = "·", "▼"


def render_rich(panel: Panel) -> RenderableType:
    """Render a panel for a `rich` console."""
    from rich.console import Group

    return Group(_title(panel), *_facts(panel.facts), *(part for block in panel.blocks for part in _block(block)))


def render_plain_text(panel: Panel, width: int = PLAIN_WIDTH_CHARS) -> str:
    """Render a panel as text without colours, `width` cells wide."""
    from rich.console import Console

    out = StringIO()
    # Without force_jupyter=False a console in a notebook displays its output instead of writing it to the file.
    console = Console(
        file=out, width=width, no_color=True, force_terminal=False, force_jupyter=False, legacy_windows=False
    )
    console.print(render_rich(panel), markup=False, emoji=False, highlight=False)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _line(text: str, style: str = "") -> Text:
    from rich.text import Text

    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _title(panel: Panel) -> Text:
    badges = "".join(f"  [{one_line(badge, 60)}]" for badge in panel.badges)
    return _line(f"{one_line(panel.title, MAX_CELL_CHARS)}{badges}", "bold")


def _facts(facts: Iterable[tuple[str, str]]) -> Iterator[Text]:
    from rich.text import Text

    labels = [f"{name} {one_line(value, MAX_CELL_CHARS)}" for name, value in facts]
    if labels:
        yield Text(" · ".join(labels))


def _block(block: Block) -> list[RenderableType]:
    match block:
        case Bar():
            return [_Gauge(block), *_legend(block)]
        case Table():
            return _table(block)
        case Tree():
            return [_tree(block)]
        case Prose():
            return [_prose(block)]
        case Chart():
            return [_ChartView(block)] if block.values else []


def _prose(prose: Prose) -> Text:
    from rich.text import Text

    return Text(truncate(prose.text, MAX_PROSE_CHARS, "").expandtabs(4), overflow="fold")


class _Gauge:
    def __init__(self, bar: Bar) -> None:
        self._bar = bar

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = max(1, min(BAR_WIDTH, options.max_width - 2))
        signs = {COLOURS[name][2]: COLOURS[name][1] for name in COLOURS}
        yield _cells(gauge_cells(_gauge_shares(self._bar), self._bar.total, width), signs)
        places = {min(width - 1, amount * width // self._bar.total) for _, amount in self._bar.marks}
        yield _line(" " + "".join("^" if place in places else " " for place in range(width)).rstrip(), "dim")


def _gauge_shares(bar: Bar) -> list[tuple[int, str]]:
    """Return the amount and sign of each share, with the free tokens before the reserved ones."""
    used = [(amount, COLOURS[name][2]) for name, amount in bar.shares if name != "reserved"]
    reserved = sum(amount for name, amount in bar.shares if name == "reserved")
    free = max(0, bar.total - reserved - sum(amount for amount, _ in used))
    return [*used, (free, FREE_SIGN), (reserved, COLOURS["reserved"][2])]


def _cells(cells: Iterable[str], styles: dict[str, str]) -> Text:
    from rich.text import Text

    line = Text("[", no_wrap=True, overflow="crop")
    for cell in cells:
        line.append(cell, styles.get(cell, "dim"))
    return line.append("]")


def _legend(bar: Bar) -> Iterator[Text]:
    for name, amount in bar.shares:
        _, style, sign = COLOURS[name]
        yield _line(f"  {sign} {name:<14}{amount:>12,} {amount / bar.total:>6.0%}", style)
    free = max(0, bar.total - sum(amount for _, amount in bar.shares))
    yield _line(f"  {FREE_SIGN} {'free':<14}{free:>12,} {free / bar.total:>6.0%}")
    for name, amount in bar.marks:
        yield _line(f"  ^ {name:<14}{amount:>12,} {amount / bar.total:>6.0%}", "dim")


def _table(table: Table) -> list[RenderableType]:
    from rich.table import Table as RichTable

    rows = [[one_line(cell, MAX_CELL_CHARS) for cell in row] for row in islice(table.rows, MAX_ROWS)]
    lengths = [max((len(row[column]) for row in rows), default=0) for column in range(len(table.columns))]
    rich_table = RichTable(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name, length in zip(table.columns, lengths, strict=True):
        # rich shrinks columns that may wrap first. Therefore only the longest column may wrap; its cells are cut.
        rich_table.add_column(
            _line(name), justify="right" if name in table.right else "left", no_wrap=length < max(lengths)
        )
    for row in rows:
        rich_table.add_row(*map(_line, row))
    more = max(0, len(table.rows) - MAX_ROWS) + table.more
    return [rich_table, _line(f"… {more:,} more", "dim")] if more else [rich_table]


def _tree(tree: Tree) -> RenderableType:
    from rich.tree import Tree as RichTree

    root = RichTree("", hide_root=True)
    if _add_nodes(root, tree.roots, 0, MAX_NODES) < 0:
        root.add(_line("… more, omitted to save space", "dim"))
    return root


def _add_nodes(branch: RichTree, nodes: Iterable[Node], depth: int, available_nodes: int) -> int:
    """Add the nodes and their descendants, at most `available_nodes` of them.

    Returns how many more could be added, or -1 if nodes were omitted.
    """
    for node in nodes:
        if available_nodes <= 0:
            return -1
        child_branch = branch.add(_node(node))
        if node.children and depth >= MAX_DEPTH:
            child_branch.add(_line("… deeper", "dim"))
            available_nodes -= 1
        else:
            available_nodes = _add_nodes(child_branch, node.children, depth + 1, available_nodes - 1)
    return available_nodes


def _node(node: Node) -> Text:
    line = _line(one_line(node.label, MAX_CELL_CHARS))
    if node.mark:
        line.append(f"  {one_line(node.mark, 40)}", "green")
    if node.text:
        line.append(f"\n  {one_line(node.text, 80)}", "dim")
    return line


class _ChartView:
    """A column chart: each column is as high as the highest of its values, with marks above and labels at the side."""

    def __init__(self, chart: Chart) -> None:
        self._chart = chart

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        drawn, side = self._chart, 16
        width = max(1, min(CHART_WIDTH, len(drawn.values), options.max_width - side))
        places = [
            range(len(drawn.values) * n // width, max(len(drawn.values) * (n + 1) // width, 1)) for n in range(width)
        ]
        marks = "".join(COMPACTION_SIGN if any(p in drawn.marked for p in column) else " " for column in places)
        rows = chart_rows([max(drawn.values[p] for p in column) for column in places], drawn.top, CHART_HEIGHT)
        if marks.strip():
            yield _line(f"{'':{side}}{marks}", "red")
        for name, row in zip(self._row_labels(), rows, strict=True):
            yield _line(f"{name:>{side - 2}} ┤{row}")
        yield _line(f"{'':{side}}{one_line(drawn.first, 40)} … {one_line(drawn.last, 40)}", "dim")

    def _row_labels(self) -> list[str]:
        top = self._chart.top
        names = {0: f"{top:,}", CHART_HEIGHT - 1: f"{top // CHART_HEIGHT:,}"}
        for name, height in self._chart.lines:
            if height <= top:
                names[max(0, CHART_HEIGHT - 1 - height * CHART_HEIGHT // top)] = f"{one_line(name, 6)} {height:,}"
        return [names.get(row, "") for row in range(CHART_HEIGHT)]
