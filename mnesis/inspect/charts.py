"""Charts as coordinates for SVG templates. Pure functions, no I/O.

The content security policy forbids inline styles, so sizes are SVG attributes and colours are classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mnesis.models.summary import Summary
from mnesis.models.timeline import Timeline

WIDTH, HEIGHT = 900, 220
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 14, 26
MAX_POINTS = 1_000
"""If there are more points than this, some are omitted, because a screen has no more columns."""
ROW_HEIGHT = 34
MAX_NODES = 400


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a bar: its name, its class, its amount, and its position."""

    name: str
    css_class: str
    amount: int
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Mark:
    """A line across a chart: a threshold or a tick, with its label."""

    label: str
    css_class: str
    at: float


@dataclass(frozen=True, slots=True)
class Drop:
    """A compaction on a timeline: its position and its result."""

    x: float
    y_before: float
    y_after: float
    title: str


@dataclass(frozen=True, slots=True)
class TimelineChart:
    """The size of the context over turns."""

    points: str
    drops: tuple[Drop, ...]
    marks: tuple[Mark, ...]
    ticks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """One model call of a usage chart: stacked segments, drawn from `y` down."""

    x: float
    width: float
    boxes: tuple[tuple[str, float, float], ...]
    title: str


@dataclass(frozen=True, slots=True)
class NodeBox:
    """A summary, drawn over the messages it replaces."""

    summary: Summary
    is_in_context: bool
    x: float
    y: float
    width: float
    label: str


def stack(shares: Iterable[tuple[str, str, int]], total: int) -> list[Segment]:
    """Lay out the shares of a bar of width 100, one after another. Shares beyond `total` are cut off."""
    segments, x = [], 0.0
    for name, css_class, amount in shares:
        width = max(0.0, min(100 * amount / max(total, 1), 100 - x))
        segments.append(Segment(name, css_class, amount, round(x, 3), round(width, 3)))
        x += width
    return segments


def timeline_chart(timeline: Timeline) -> TimelineChart | None:
    """Lay out a timeline, or return None if there is no turn yet."""
    turns, budget = timeline.turns, timeline.budget
    if not turns:
        return None
    sizes = [turn.context_tokens for turn in turns] + [turn.tokens_before or 0 for turn in timeline.compacted]
    top = nice_ceiling(max(*sizes, *((budget.soft_tokens,) if max(sizes) > budget.soft_tokens // 2 else ()), 1))
    last = max(len(turns) - 1, 1)

    def x_of(index: int) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * index / last, 1)

    def y_of(tokens: int) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - min(tokens, top) / top), 1)

    step = max(1, len(turns) // MAX_POINTS)
    points: list[str] = []
    for index, turn in enumerate(turns):
        if index % step and not turn.compactions and index != len(turns) - 1:
            continue
        points.append(f"{x_of(index)},{y_of(turn.context_tokens)}")
        if turn.compactions:
            points.append(f"{x_of(index)},{y_of(turn.tokens_after or 0)}")
    drops = tuple(
        Drop(
            x_of(turn.turn - turns[0].turn),
            y_of(turn.tokens_before or 0),
            y_of(turn.tokens_after or 0),
            f"turn {turn.turn:,}: {turn.tokens_before or 0:,} → {turn.tokens_after or 0:,} tokens, "
            f"{f'level {turn.level}' if turn.level else 'markers only'}, {turn.trigger}",
        )
        for turn in timeline.compacted
    )
    thresholds = (("soft", budget.soft_tokens), ("hard", budget.usable_tokens))
    marks = tuple(Mark(f"{name} {size:,}", name, y_of(size)) for name, size in thresholds if size <= top)
    ticks = tuple(Mark(f"{round(top * part / 4):,}", "axis", y_of(round(top * part / 4))) for part in range(5))
    return TimelineChart(" ".join(points), drops, marks, ticks)


def usage_columns(calls: Sequence[tuple[str, int, int, int, int]]) -> list[Column]:
    """Lay out model calls as columns. A call is (title, cache_read, cache_write, input, output), in tokens."""
    top = nice_ceiling(max((sum(call[1:]) for call in calls), default=1))
    slot = (WIDTH - LEFT - RIGHT) / max(len(calls), 1)
    columns = []
    for index, (title, *amounts) in enumerate(calls):
        y = float(HEIGHT - BOTTOM)
        boxes = []
        for css_class, amount in zip(("c-cached", "c-written", "c-input", "c-output"), amounts, strict=True):
            height = (HEIGHT - TOP - BOTTOM) * amount / top
            y -= height
            boxes.append((css_class, round(y, 2), round(height, 2)))
        columns.append(Column(round(LEFT + slot * index, 2), round(max(slot * 0.85, 0.4), 2), tuple(boxes), title))
    return columns


def summary_boxes(summaries: Sequence[Summary], context_ids: frozenset[str | None], last_seq: int) -> list[NodeBox]:
    """Lay out summaries over the log: x is the span of messages, y the depth. At most `MAX_NODES`, the newest."""
    shown = list(summaries)[-MAX_NODES:]
    deepest = max((summary.depth for summary in shown), default=0)
    scale = (WIDTH - 2) / max(last_seq, 1)
    return [
        NodeBox(
            summary,
            summary.id in context_ids,
            round(1 + (summary.first_seq - 1) * scale, 2),
            round(4 + (deepest - summary.depth) * ROW_HEIGHT, 2),
            round(max((summary.last_seq - summary.first_seq + 1) * scale - 2, 3), 2),
            f"#{summary.first_seq}–{summary.last_seq}",
        )
        for summary in shown
    ]


def nice_ceiling(value: int) -> int:
    """Return the next larger of 1, 2, 4, 5 or 8 times a power of ten."""
    power = 1
    while True:
        for factor in (1, 2, 4, 5, 8):
            if factor * power >= value:
                return factor * power
        power *= 10
