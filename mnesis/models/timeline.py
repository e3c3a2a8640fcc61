"""How the size of the context went, turn by turn."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from io import StringIO
from typing import TYPE_CHECKING, overload

from mnesis.display import plots
from mnesis.display.panel import Chart, Panel, Table
from mnesis.display.shown import Shown
from mnesis.models.context import Budget
from mnesis.models.results import CompactionResult, TurnSnapshot

if TYPE_CHECKING:
    from mnesis.display.plots import Axes


@dataclass(frozen=True, slots=True)
class TimelineTurn:
    """A turn, counted from 1, and the size of the context after it, in tokens.

    `compactions` followed it, before the next one; `level` is the highest they needed (0: markers alone), `trigger` the last
    one's reason, `tokens_before` the size the first found, `tokens_after` what the last left. `created_at` in milliseconds.
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
class Timeline(Shown, Sequence[TimelineTurn]):
    """The turns of a session in order, a sequence; `budget` holds the thresholds. `str()` draws it as text."""

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
        """The timeline of turns and compactions as a store keeps them, both oldest first."""
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
        """The turns that were followed by compactions."""
        return tuple(turn for turn in self.turns if turn.compactions)

    def to_csv(self) -> str:
        """One line per turn after a head with the names of `TimelineTurn`; what is not known is empty."""
        out = StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(TimelineTurn.__slots__)
        writer.writerows(asdict(turn).values() for turn in self.turns)
        return out.getvalue()

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw it with matplotlib: context tokens over turns, thresholds, compactions. See `mnesis.display.plots`."""
        sizes = [(turn.turn, turn.context_tokens) for turn in self.turns]
        drops = [(t.turn, t.tokens_before or 0, t.tokens_after or 0) for t in self.compacted]
        return plots.sawtooth(sizes, drops, self.budget.soft_tokens, self.budget.usable_tokens, ax=ax)

    def __str__(self) -> str:
        from mnesis.display.console import plain

        return plain(self._panel())

    def __repr__(self) -> str:
        return f"<Timeline of {self.session_id!r}: turns={len(self.turns)} compacted={len(self.compacted)}>"

    def _panel(self) -> Panel:
        done = sum(turn.compactions for turn in self.turns)
        chart = Chart(
            tuple(turn.context_tokens for turn in self.turns),
            frozenset(place for place, turn in enumerate(self.turns) if turn.compactions),
            (("soft", self.budget.soft_tokens), ("hard", self.budget.usable_tokens)),
            "turn 1",
            f"turn {self.turns[-1].turn:,}" if self.turns else "",
        )
        facts = (("turns", f"{len(self.turns):,}"), ("compactions", f"{done:,}"))
        return Panel(f"Timeline of {self.session_id}", (), facts, (chart, *_table(self.compacted)))


def _turns(turns: Sequence[TurnSnapshot], compactions: Sequence[CompactionResult]) -> Iterator[TimelineTurn]:
    by_turn: dict[int, list[CompactionResult]] = {}
    for result in compactions:
        by_turn.setdefault(result.turn_index, []).append(result)
    for turn in turns:
        yield _turn(turn, by_turn.get(turn.turn_index, []))


def _turn(turn: TurnSnapshot, done: Sequence[CompactionResult]) -> TimelineTurn:
    return TimelineTurn(
        turn.turn_index + 1,
        turn.seq,
        turn.measured_tokens,
        len(done),
        max((result.level_used for result in done), default=0),
        done[-1].trigger if done else "",
        done[0].tokens_before if done else None,
        done[-1].tokens_after if done else None,
        turn.created_at,
    )


def _table(compacted: Sequence[TimelineTurn]) -> tuple[Table, ...]:
    rows = [
        (str(t.turn), f"{t.tokens_before:,}", f"{t.tokens_after:,}", str(t.level or "markers"), t.trigger)
        for t in compacted
    ]
    right = ("turn", "tokens before", "tokens after")
    return (Table(("turn", "tokens before", "tokens after", "level", "trigger"), rows, right),) if rows else ()
