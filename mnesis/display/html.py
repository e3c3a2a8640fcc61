"""Panels as HTML that can do nothing: escaped, without scripts or anything from elsewhere, below `MAX_BYTES`.

Styles are inline and take their colours from the page (`currentColor`), so that dark themes work. What a reader strips of
it (code hosts remove styles and drawings) is said in words beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from itertools import islice

from mnesis.display.panel import (
    CELL_CHARS,
    COLOURS,
    MAX_DEPTH,
    MAX_NODES,
    MAX_ROWS,
    PROSE_CHARS,
    Bar,
    Block,
    Chart,
    Node,
    Panel,
    Prose,
    Table,
    Tree,
)
from mnesis.display.text import one_line, shortened

MAX_BYTES = 95_000
TABLE_BYTES = 40_000
TREE_BYTES = 80_000
NODE_BYTES = 90  # of the elements around one node
CHART_WIDTH, CHART_HEIGHT = 640, 140
MAX_POINTS = 400
_DIM = "opacity:.7"
_MARK_COLOUR = "#d0543c"


def page(panel: Panel) -> str:
    """The panel as one element. The classes keep notebooks from reading formulas into the content."""
    head = (_title(panel), _facts(panel.facts))
    body = "".join(_within(MAX_BYTES, [*head, *map(_block, panel.blocks)]))
    return f'<div class="mathjax_ignore tex2jax_ignore" style="line-height:1.4">{body}</div>'


def _said(text: str, chars: int = CELL_CHARS) -> str:
    return escape(one_line(text, chars))


def _within(
    limit: int, pieces: Iterable[str], left: str = "<div>… more, not shown for want of room</div>"
) -> Iterator[str]:
    """The pieces that fit into `limit` bytes altogether, and `left` in place of the others."""
    for piece in pieces:
        limit -= len(piece.encode())
        if limit < 0:
            yield left
            return
        yield piece


def _title(panel: Panel) -> str:
    style = "border:1px solid currentColor;border-radius:.6em;padding:0 .5em;margin-left:.5em;font-size:85%"
    badges = "".join(f' <span style="{style}">{_said(badge, 60)}</span>' for badge in panel.badges)
    return f"<div><strong>{_said(panel.title)}</strong>{badges}</div>"


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    said = " · ".join(f"{_said(name, 40)} <strong>{_said(value)}</strong>" for name, value in facts)
    return f"<div>{said}</div>" if said else ""


def _block(block: Block) -> str:
    match block:
        case Bar():
            return _bar(block)
        case Table():
            return _table(block)
        case Tree():
            return _tree(block)
        case Prose():
            return f'<pre style="white-space:pre-wrap;margin:.3em 0">{escape(shortened(block.text, PROSE_CHARS, "").expandtabs(4))}</pre>'
        case Chart():
            return _chart(block)


def _bar(bar: Bar) -> str:
    pieces, left = [], 100.0
    for name, amount in bar.shares:
        width = min(left, 100 * amount / bar.total)
        left -= width
        pieces.append(f'<span style="width:{width:.2f}%;background:{COLOURS[name][0]}"></span>')
    for _, amount in bar.marks:
        place = min(100.0, 100 * amount / bar.total)
        pieces.append(
            f'<span style="position:absolute;left:{place:.2f}%;top:0;bottom:0;border-left:2px dashed currentColor"></span>'
        )
    style = "display:flex;position:relative;height:1em;max-width:48em;margin:.3em 0;border:1px solid currentColor"
    return f'<div style="{style}">{"".join(pieces)}</div>{_legend(bar)}'


def _legend(bar: Bar) -> str:
    free = max(0, bar.total - sum(amount for _, amount in bar.shares))
    named = [
        f'<span style="color:{COLOURS[name][0]}">■</span> {escape(name)} {amount:,} ({amount / bar.total:.0%})'
        for name, amount in bar.shares
    ]
    marks = [f"┆ {escape(name)} {amount:,}" for name, amount in bar.marks]
    return f'<div style="{_DIM}">{" · ".join([*named, f"□ free {free:,} ({free / bar.total:.0%})", *marks])}</div>'


def _table(table: Table) -> str:
    aligned = ["right" if name in table.right else "left" for name in table.columns]
    rows = [_row("td", aligned, row) for row in islice(table.rows, MAX_ROWS)]
    shown = list(_within(TABLE_BYTES, rows, left=""))
    count = sum(1 for row in shown if row)
    more = len(table.rows) - count + table.more
    note = f'<div style="{_DIM}">… {more:,} more</div>' if more else ""
    head = _row("th", aligned, table.columns)
    return f'<table style="border-collapse:collapse;margin:.3em 0">{head}{"".join(shown)}</table>{note}'


def _row(tag: str, aligned: Iterable[str], cells: Iterable[str]) -> str:
    drawn = (
        f'<{tag} style="text-align:{side};padding:.1em .6em;background:none">{_said(cell)}</{tag}>'
        for side, cell in zip(aligned, cells, strict=True)
    )
    return f"<tr>{''.join(drawn)}</tr>"


def _tree(tree: Tree) -> str:
    pieces: list[str] = []
    left = _nodes(tree.roots, 0, TREE_BYTES, pieces)
    note = f'<div style="{_DIM}">… more, not shown for want of room</div>' if left < 0 else ""
    return "".join(pieces) + note


def _nodes(nodes: Iterable[Node], depth: int, left: int, pieces: list[str]) -> int:
    """Append the nodes and what is below them to `pieces`, while there are bytes `left`. Returns the rest, -1 for none."""
    for node in nodes:
        line = _node_line(node)
        left -= max(len(line.encode()) + NODE_BYTES, TREE_BYTES // MAX_NODES)
        if left < 0:
            return -1
        if not node.children:
            pieces.append(f'<div style="margin-left:1.1em">{line}</div>')
            continue
        pieces.append(f'<details open style="margin-left:1em"><summary>{line}</summary>')
        if depth < MAX_DEPTH:
            left = _nodes(node.children, depth + 1, left, pieces)
        else:
            pieces.append("<div>… deeper</div>")
        pieces.append("</details>")
        if left < 0:
            return -1
    return left


def _node_line(node: Node) -> str:
    mark = f' <strong style="color:{COLOURS["messages"][0]}">{_said(node.mark, 40)}</strong>' if node.mark else ""
    text = f'<br><span style="{_DIM}">{_said(node.text, 80)}</span>' if node.text else ""
    return f"{_said(node.label)}{mark}{text}"


def _chart(chart: Chart) -> str:
    """A line of the amounts with dots where they are marked; long ones show the highest of each stretch."""
    if not chart.values:
        return ""
    points = list(_points(chart))
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{_MARK_COLOUR}"/>' for x, y, hot in points if hot)
    heights = "".join(_height_line(chart, height) for _, height in chart.lines if height <= chart.top)
    drawing = (
        f'<svg viewBox="0 0 {CHART_WIDTH} {CHART_HEIGHT}" style="max-width:48em;width:100%;display:block" role="img">'
        f'{heights}<polyline points="{line}" fill="none" stroke="{COLOURS["summaries"][0]}" stroke-width="1.5"/>{dots}</svg>'
    )
    lines = "".join(f" · {_said(name, 40)} {height:,}" for name, height in chart.lines)
    ends = f"{_said(chart.first, 40)} … {_said(chart.last, 40)}"
    return f'{drawing}<div style="{_DIM}">{ends} · highest {max(chart.values):,}{lines}</div>'


def _points(chart: Chart) -> Iterator[tuple[float, float, bool]]:
    count = len(chart.values)
    columns = min(count, MAX_POINTS)
    for column in range(columns):
        places = range(count * column // columns, count * (column + 1) // columns)
        x = 4 + (CHART_WIDTH - 8) * column / max(columns - 1, 1)
        marked = any(place in chart.marked for place in places)
        yield x, _y(chart, max(chart.values[place] for place in places)), marked


def _y(chart: Chart, amount: int) -> float:
    return CHART_HEIGHT - 6 - (CHART_HEIGHT - 12) * amount / chart.top


def _height_line(chart: Chart, height: int) -> str:
    y = _y(chart, height)
    return f'<line x1="0" x2="{CHART_WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="currentColor" stroke-dasharray="6 4" opacity=".6"/>'
