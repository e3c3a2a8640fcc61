"""The size of the context, turn by turn."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from io import StringIO
from typing import TYPE_CHECKING, overload

from mnesis.display import plots
from mnesis.display.displayable import Displayable
from mnesis.display.panel import Chart, Panel, Table
from mnesis.late_types import declare_late_types
from mnesis.models.context import Budget
from mnesis.models.results import CompactionResult, TurnSnapshot

if TYPE_CHECKING:
    from mnesis.display.plots import Axes
else:
    declare_late_types(globals(), {"matplotlib.axes": "Axes"})


@dataclass(frozen=True, slots=True)
class TimelineTurn:
    """A turn, counted from 1, with the size of the context after it, in tokens.

    `compactions` is the number of compactions between this turn and the next. `level` is the highest level they needed (0 if
    only markers were set), and `trigger` the trigger of the last. `tokens_before` is the size before the first, and
    `tokens_after` the size after the last. `created_at` is in milliseconds since 1970.
    """

    turn: int
    seq: int
    context_tokens: int
    compactions: int = 0
    level: int = 0
    trigger: str = ""
    tokens_before: int | None = None
    tokens_after: int | None = None
    created_at: int = 0


@dataclass(frozen=True, slots=True, repr=False)
class Timeline(Displayable, Sequence[TimelineTurn]):
    """A sequence of the turns of a session. `budget` holds the thresholds. `str()` draws it as text."""

    session_id: str
    turns: tuple[TimelineTurn, ...]
    budget: Budget

    @classmethod
    def of(
        cls,
        session_id: str,
        turns: Sequence[TurnSnapshot],
        compactions: Sequence[CompactionResult],
        budget: Budget,
    ) -> Timeline:
        """Build a timeline from turns and compactions, both oldest first."""
        return cls(session_id, tuple(_turns(turns, compactions)), budget)

    def __len__(self) -> int:
        return len(self.turns)

    def __iter__(self) -> Iterator[TimelineTurn]:
        return iter(self.turns)

    @overload
    def __getitem__(self, index: int) -> TimelineTurn: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[TimelineTurn, ...]: ...
    def __getitem__(self, index: int | slice) -> TimelineTurn | tuple[TimelineTurn, ...]:
        return self.turns[index]

    @property
    def compacted(self) -> tuple[TimelineTurn, ...]:
        """The turns that a compaction followed."""
        return tuple(turn for turn in self.turns if turn.compactions)

    def to_csv(self) -> str:
        """Return CSV with the fields of `TimelineTurn` as header and one line per turn. Unknown values are empty."""
        out = StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(TimelineTurn.__slots__)
        writer.writerows(asdict(turn).values() for turn in self.turns)
        return out.getvalue()

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw context tokens, thresholds and compactions with matplotlib. See `mnesis.display.plots`."""
        sizes = [(turn.turn, turn.context_tokens) for turn in self.turns]
        drops = [(t.turn, t.tokens_before or 0, t.tokens_after or 0) for t in self.compacted]
        return plots.draw_sawtooth(sizes, drops, self.budget.soft_tokens, self.budget.usable_tokens, ax=ax)

    def __str__(self) -> str:
        from mnesis.display.console import render_plain_text

        return render_plain_text(self._panel())

    def __repr__(self) -> str:
        return f"<Timeline of {self.session_id!r}: turns={len(self.turns)} compacted={len(self.compacted)}>"

    def _panel(self) -> Panel:
        compaction_count = sum(turn.compactions for turn in self.turns)
        chart = Chart(
            tuple(turn.context_tokens for turn in self.turns),
            frozenset(place for place, turn in enumerate(self.turns) if turn.compactions),
            (("soft", self.budget.soft_tokens), ("hard", self.budget.usable_tokens)),
            "turn 1",
            f"turn {self.turns[-1].turn:,}" if self.turns else "",
        )
        facts = (("turns", f"{len(self.turns):,}"), ("compactions", f"{compaction_count:,}"))
        return Panel(f"Timeline of {self.session_id}", (), facts, (chart, *_table(self.compacted)))


def _turns(turns: Sequence[TurnSnapshot], compactions: Sequence[CompactionResult]) -> Iterator[TimelineTurn]:
    by_turn: dict[int, list[CompactionResult]] = {}
    for result in compactions:
        by_turn.setdefault(result.turn_index, []).append(result)
    for turn in turns:
        yield _turn(turn, by_turn.get(turn.turn_index, []))


def _turn(turn: TurnSnapshot, compactions: Sequence[CompactionResult]) -> TimelineTurn:
    return TimelineTurn(
        turn.turn_index + 1,
        turn.seq,
        turn.measured_tokens,
        len(compactions),
        max((result.level_used for result in compactions), default=0),
        compactions[-1].trigger if compactions else "",
        compactions[0].tokens_before if compactions else None,
        compactions[-1].tokens_after if compactions else None,
        turn.created_at,
    )


def _table(compacted: Sequence[TimelineTurn]) -> tuple[Table, ...]:
    rows = [
        (str(t.turn), f"{t.tokens_before:,}", f"{t.tokens_after:,}", str(t.level or "markers"), t.trigger)
        for t in compacted
    ]
    right = ("turn", "tokens before", "tokens after")
    return (Table(("turn", "tokens before", "tokens after", "level", "trigger"), rows, right),) if rows else ()
