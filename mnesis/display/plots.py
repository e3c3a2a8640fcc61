"""Drawings of plain numbers with matplotlib (`pip install "mnesis-context[notebook]"`). The `plot()` methods of values call them.

Each function draws on the given axes and returns them. Without axes it creates new ones: in a notebook through pyplot,
which shows and closes them at the end of the cell, elsewhere on a new figure (`ax.figure.savefig(…)`). No function
opens a window or selects a backend.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mnesis.display.panel import COLOURS, Bar
from mnesis.display.terminal import in_notebook

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Axes  # imported for the models, which import it from here

LINE_COLOUR, MARK_COLOUR = COLOURS["summaries"][0], "#d0543c"
SOFT_COLOUR, HARD_COLOUR = COLOURS["tool outputs"][0], MARK_COLOUR
IN_CONTEXT_COLOUR, FOLDED_COLOUR = COLOURS["summaries"][0], COLOURS["other"][0]


def axes_or_new(ax: Axes | None = None, size_inches: tuple[float, float] = (9, 3)) -> Axes:
    """Return `ax`, or new axes if it is None.

    Raises ImportError, with the install command, if matplotlib is not installed.
    """
    if ax is not None:
        return ax
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            'drawing needs matplotlib: pip install "mnesis-context[notebook]"', name="matplotlib"
        ) from error
    if in_notebook():
        import matplotlib.pyplot as plt

        return plt.subplots(figsize=size_inches, layout="constrained")[1]
    return Figure(figsize=size_inches, layout="constrained").subplots()


def draw_sawtooth(
    sizes: Sequence[tuple[int, int]],
    drops: Sequence[tuple[int, int, int]],
    soft_tokens: int,
    hard_tokens: int,
    *,
    ax: Axes | None = None,
) -> Axes:
    """Draw the context tokens over turns.

    `sizes` are (turn, tokens). `drops` are compactions: (turn, tokens before, tokens after).
    """
    ax = axes_or_new(ax)
    drops_by_turn = {turn: (before, after) for turn, before, after in drops}
    points = [
        point
        for turn, tokens in sizes
        for point in ((turn, tokens), *((turn, end) for end in drops_by_turn.get(turn, ())))
    ]
    ax.plot([x for x, _ in points], [y for _, y in points], color=LINE_COLOUR, label="context")
    if drops:
        turns, before = [turn for turn, _, _ in drops], [tokens for _, tokens, _ in drops]
        ax.plot(turns, before, "v", color=MARK_COLOUR, label="compaction")
    ax.axhline(soft_tokens, color=SOFT_COLOUR, linestyle="--", label=f"soft {soft_tokens:,}")
    ax.axhline(hard_tokens, color=HARD_COLOUR, linestyle=":", label=f"hard {hard_tokens:,}")
    ax.set(xlabel="turn", ylabel="context tokens")
    ax.set_ylim(bottom=0)
    ax.legend(loc="upper left", fontsize="small")
    return ax


def draw_gauge(bar: Bar, *, ax: Axes | None = None) -> Axes:
    """Draw the shares of a context side by side on one bar, with the thresholds as lines."""
    ax = axes_or_new(ax, (9, 2.2))
    left = 0
    for name, tokens in bar.shares:
        start = bar.total - tokens if name == "reserved" else left
        ax.barh(0, tokens, left=start, color=COLOURS[name][0], label=f"{name} {tokens:,}")
        left += tokens
    for style, (name, tokens) in zip((":", "--"), reversed(bar.marks), strict=False):
        ax.axvline(tokens, color=HARD_COLOUR, linestyle=style, label=f"{name} {tokens:,}")
    ax.set(xlabel="tokens", xlim=(0, bar.total), yticks=[])
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.35), ncols=4, fontsize="small")
    return ax


def draw_dag(
    boxes: Mapping[str, tuple[int, int, int, bool]], edges: Sequence[tuple[str, str]], *, ax: Axes | None = None
) -> Axes:
    """Draw summaries as boxes over the messages they cover.

    `boxes` are (first seq, last seq, depth, whether it is in the context), by summary id. `edges` are (summary id, child id).
    Summaries in the context are blue; summaries that were condensed further are grey.
    """
    ax = axes_or_new(ax)
    for above, below in edges:
        (x_above, y_above), (x_below, y_below) = _centre(boxes[above]), _centre(boxes[below])
        ax.plot([x_above, x_below], [y_above - 0.3, y_below + 0.3], color=FOLDED_COLOUR, linewidth=1)
    for first, last, depth, in_context in boxes.values():
        colour = IN_CONTEXT_COLOUR if in_context else FOLDED_COLOUR
        ax.barh(depth, last - first + 1, left=first - 0.5, height=0.6, color=colour, edgecolor="white")
    depths = sorted({depth for _, _, depth, _ in boxes.values()})
    ax.set(xlabel="messages (seq)", ylabel="depth", yticks=depths, ylim=(-0.5, max(depths, default=0) + 1))
    return ax


def _centre(box: tuple[int, int, int, bool]) -> tuple[float, float]:
    first, last, depth, _ = box
    return (first + last) / 2, depth
