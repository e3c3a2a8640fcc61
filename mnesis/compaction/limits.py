"""Limits of a sweep: its deadline, and what summaries may cost."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from mnesis.config import CompactionConfig
from mnesis.llm.breaker import Clock
from mnesis.models.results import CompactionResult

HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Deadline:
    """The end of the time for model calls. `total_seconds` is the whole time, for messages."""

    total_seconds: float
    end_time: float
    clock: Clock = field(default=time.monotonic)

    @classmethod
    def after(cls, seconds: float, clock: Clock = time.monotonic) -> Deadline:
        """Return the deadline `seconds` from now."""
        return cls(seconds, clock() + seconds, clock)

    @property
    def remaining_seconds(self) -> float:
        """The remaining time, at least 0."""
        return max(self.end_time - self.clock(), 0.0)


@dataclass
class SpendingLimit:
    """The remaining budget of a session's summaries. None means without limit.

    Costs are in US dollars. Calls in flight when a limit is reached are finished.
    """

    session_cost: float | None = None
    hourly_cost: float | None = None
    hourly_calls: int | None = None

    @classmethod
    def remaining(cls, config: CompactionConfig, results: Iterable[CompactionResult], now: int) -> SpendingLimit:
        """Return the budget that earlier compactions of the session have left. `now` is in milliseconds since 1970."""
        results = list(results)
        recent = [result for result in results if result.created_at > now - HOUR_MS]
        calls = sum(attempt.calls for result in recent for attempt in result.attempts)
        return cls(
            _subtract(config.max_summary_cost_per_session, sum(result.cost for result in results)),
            _subtract(config.max_summary_cost_per_hour, sum(result.cost for result in recent)),
            None if config.max_summary_calls_per_hour is None else config.max_summary_calls_per_hour - calls,
        )

    @staticmethod
    def is_set(config: CompactionConfig) -> bool:
        """Return whether the configuration limits anything."""
        limits = (
            config.max_summary_cost_per_session,
            config.max_summary_cost_per_hour,
            config.max_summary_calls_per_hour,
        )
        return any(limit is not None for limit in limits)

    def note_call(self) -> None:
        """Count a call that is about to be made."""
        if self.hourly_calls is not None:
            self.hourly_calls -= 1

    def note_cost(self, cost: float) -> None:
        """Subtract the cost of a call."""
        self.session_cost = _subtract(self.session_cost, cost)
        self.hourly_cost = _subtract(self.hourly_cost, cost)

    def find_reached_setting(self) -> str | None:
        """Return the name of the setting whose limit is reached, or None."""
        remaining = {
            "max_summary_cost_per_session": self.session_cost,
            "max_summary_cost_per_hour": self.hourly_cost,
            "max_summary_calls_per_hour": self.hourly_calls,
        }
        return next((name for name, left in remaining.items() if left is not None and left <= 0), None)


def _subtract(limit: float | None, spent: float) -> float | None:
    return None if limit is None else limit - spent
