"""Panels as inert HTML: escaped, without scripts or external resources, smaller than `MAX_BYTES`.

Styles are inline and take their colours from the page (`currentColor`), so that dark themes work. Some viewers, such as code
hosts, remove styles and drawings, so everything they show is also given as text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from itertools import islice

from mnesis.display.panel import (
    COLOURS,
    MAX_CELL_CHARS,
    MAX_DEPTH,
    MAX_NODES,
    MAX_PROSE_CHARS,
    MAX_ROWS,
    Bar,
    Block,
    Chart,
    Node,
    Panel,
    Prose,
    Table,
    Tree,
)
from mnesis.display.text import one_line, truncate

MAX_BYTES = 95_000
MAX_TABLE_BYTES = 40_000
MAX_TREE_BYTES = 80_000
NODE_OVERHEAD_BYTES = 90  # the size of the HTML elements around one node
CHART_WIDTH, CHART_HEIGHT = 640, 140
MAX_POINTS = 400
_DIM = "opacity:.7"
_MARK_COLOUR = "#d0543c"


def render_html(panel: Panel) -> str:
    """Render a panel as one HTML element. Its classes stop notebooks from rendering the content as formulas."""
    head = (_title(panel), _facts(panel.facts))
    body = "".join(_limit_bytes(MAX_BYTES, [*head, *map(_block, panel.blocks)]))
    return f'<div class="mathjax_ignore tex2jax_ignore" style="line-height:1.4">{body}</div>'


def _escape_line(text: str, chars: int = MAX_CELL_CHARS) -> str:
    return escape(one_line(text, chars))


def _limit_bytes(
    limit: int, pieces: Iterable[str], replacement: str = "<div>… more, omitted to save space</div>"
) -> Iterator[str]:
    """Yield the pieces that fit into `limit` bytes in total, then `replacement` if any were omitted."""
    for piece in pieces:
        limit -= len(piece.encode())
        if limit < 0:
            yield replacement
            return
        yield piece


def _title(panel: Panel) -> str:
    style = "border:1px solid currentColor;border-radius:.6em;padding:0 .5em;margin-left:.5em;font-size:85%"
    badges = "".join(f' <span style="{style}">{_escape_line(badge, 60)}</span>' for badge in panel.badges)
    return f"<div><strong>{_escape_line(panel.title)}</strong>{badges}</div>"


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    line = " · ".join(f"{_escape_line(name, 40)} <strong>{_escape_line(value)}</strong>" for name, value in facts)
    return f"<div>{line}</div>" if line else ""


def _block(block: Block) -> str:
    match block:
        case Bar():
            return _bar(block)
        case Table():
            return _table(block)
        case Tree():
            return _tree(block)
        case Prose():
            return f'<pre style="white-space:pre-wrap;margin:.3em 0">{escape(truncate(block.text, MAX_PROSE_CHARS, "").expandtabs(4))}</pre>'
        case Chart():
            return _chart(block)


def _bar(bar: Bar) -> str:
    pieces, available_percent = [], 100.0
    for name, amount in bar.shares:
        width = min(available_percent, 100 * amount / bar.total)
        available_percent -= width
        pieces.append(f'<span style="width:{width:.2f}%;background:{COLOURS[name][0]}"></span>')
    for _, amount in bar.marks:
        percent = min(100.0, 100 * amount / bar.total)
        pieces.append(
            f'<span style="position:absolute;left:{percent:.2f}%;top:0;bottom:0;border-left:2px dashed currentColor"></span>'
        )
    style = "display:flex;position:relative;height:1em;max-width:48em;margin:.3em 0;border:1px solid currentColor"
    return f'<div style="{style}">{"".join(pieces)}</div>{_legend(bar)}'


def _legend(bar: Bar) -> str:
    free = max(0, bar.total - sum(amount for _, amount in bar.shares))
    labels = [
        f'<span style="color:{COLOURS[name][0]}">■</span> {escape(name)} {amount:,} ({amount / bar.total:.0%})'
        for name, amount in bar.shares
    ]
    marks = [f"┆ {escape(name)} {amount:,}" for name, amount in bar.marks]
    return f'<div style="{_DIM}">{" · ".join([*labels, f"□ free {free:,} ({free / bar.total:.0%})", *marks])}</div>'


def _table(table: Table) -> str:
    alignments = ["right" if name in table.right else "left" for name in table.columns]
    rows = [_row("td", alignments, row) for row in islice(table.rows, MAX_ROWS)]
    kept_rows = list(_limit_bytes(MAX_TABLE_BYTES, rows, replacement=""))
    count = sum(1 for row in kept_rows if row)
    more = len(table.rows) - count + table.more
    note = f'<div style="{_DIM}">… {more:,} more</div>' if more else ""
    head = _row("th", alignments, table.columns)
    return f'<table style="border-collapse:collapse;margin:.3em 0">{head}{"".join(kept_rows)}</table>{note}'


def _row(tag: str, alignments: Iterable[str], cells: Iterable[str]) -> str:
    cell_elements = (
        f'<{tag} style="text-align:{side};padding:.1em .6em;background:none">{_escape_line(cell)}</{tag}>'
        for side, cell in zip(alignments, cells, strict=True)
    )
    return f"<tr>{''.join(cell_elements)}</tr>"


def _tree(tree: Tree) -> str:
    pieces: list[str] = []
    available_bytes = _append_nodes(tree.roots, 0, MAX_TREE_BYTES, pieces)
    note = f'<div style="{_DIM}">… more, omitted to save space</div>' if available_bytes < 0 else ""
    return "".join(pieces) + note


def _append_nodes(nodes: Iterable[Node], depth: int, available_bytes: int, output: list[str]) -> int:
    """Append the nodes and their descendants to `output`, at most `available_bytes` of them.

    Returns the remaining bytes, or -1 if nodes were omitted.
    """
    for node in nodes:
        line = _node_line(node)
        available_bytes -= max(len(line.encode()) + NODE_OVERHEAD_BYTES, MAX_TREE_BYTES // MAX_NODES)
        if available_bytes < 0:
            return -1
        if not node.children:
            output.append(f'<div style="margin-left:1.1em">{line}</div>')
            continue
        output.append(f'<details open style="margin-left:1em"><summary>{line}</summary>')
        if depth < MAX_DEPTH:
            available_bytes = _append_nodes(node.children, depth + 1, available_bytes, output)
        else:
            output.append("<div>… deeper</div>")
        output.append("</details>")
        if available_bytes < 0:
            return -1
    return available_bytes


def _node_line(node: Node) -> str:
    mark = (
        f' <strong style="color:{COLOURS["messages"][0]}">{_escape_line(node.mark, 40)}</strong>' if node.mark else ""
    )
    text = f'<br><span style="{_DIM}">{_escape_line(node.text, 80)}</span>' if node.text else ""
    return f"{_escape_line(node.label)}{mark}{text}"


def _chart(chart: Chart) -> str:
    """Render a line chart with dots at marked values. Long series show the highest value of each group."""
    if not chart.values:
        return ""
    points = list(_points(chart))
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{_MARK_COLOUR}"/>' for x, y, hot in points if hot)
    thresholds = "".join(_threshold_line(chart, height) for _, height in chart.lines if height <= chart.top)
    drawing = (
        f'<svg viewBox="0 0 {CHART_WIDTH} {CHART_HEIGHT}" style="max-width:48em;width:100%;display:block" role="img">'
        f'{thresholds}<polyline points="{line}" fill="none" stroke="{COLOURS["summaries"][0]}" stroke-width="1.5"/>{dots}</svg>'
    )
    lines = "".join(f" · {_escape_line(name, 40)} {height:,}" for name, height in chart.lines)
    ends = f"{_escape_line(chart.first, 40)} … {_escape_line(chart.last, 40)}"
    return f'{drawing}<div style="{_DIM}">{ends} · highest {max(chart.values):,}{lines}</div>'


def _points(chart: Chart) -> Iterator[tuple[float, float, bool]]:
    count = len(chart.values)
    columns = min(count, MAX_POINTS)
    for column in range(columns):
        span = range(count * column // columns, count * (column + 1) // columns)
        x = 4 + (CHART_WIDTH - 8) * column / max(columns - 1, 1)
        marked = any(place in chart.marked for place in span)
        yield x, _y(chart, max(chart.values[place] for place in span)), marked


def _y(chart: Chart, amount: int) -> float:
    return CHART_HEIGHT - 6 - (CHART_HEIGHT - 12) * amount / chart.top


def _threshold_line(chart: Chart, height: int) -> str:
    y = _y(chart, height)
    return f'<line x1="0" x2="{CHART_WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="currentColor" stroke-dasharray="6 4" opacity=".6"/>'
