"""Limits on steps and computing time, for schemas that may come from a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import thread_time

from mnesis.errors import MnesisError


class ComputeLimitError(MnesisError, ValueError):
    """A computation that took more steps or more computing time than allowed."""


class ComputeBudget:
    """The steps and the seconds of computing time, in this thread, that are still available."""

    def __init__(self, max_steps: int, max_seconds: float) -> None:
        self._max_steps, self._max_seconds = max_steps, max_seconds
        self._available_steps = max_steps
        self._deadline = thread_time() + max_seconds

    def use_step(self) -> None:
        """Use one step. Raises `ComputeLimitError` if the steps or the time are used up."""
        self._available_steps -= 1
        if self._available_steps < 0:
            raise ComputeLimitError(f"more than {self._max_steps} steps")
        if thread_time() > self._deadline:
            raise ComputeLimitError(f"more than {self._max_seconds:g} seconds of computing")


_current_budget: ContextVar[ComputeBudget | None] = ContextVar("mnesis_compute_budget", default=None)


@contextmanager
def limit_compute(max_steps: int, max_seconds: float) -> Iterator[None]:
    """Make `count_step()` raise `ComputeLimitError` beyond these limits, within the block."""
    token = _current_budget.set(ComputeBudget(max_steps, max_seconds))
    try:
        yield
    finally:
        _current_budget.reset(token)


def count_step() -> None:
    """Count one step, such as a reference that is followed.

    Does nothing outside `limit_compute`.
    """
    if (budget := _current_budget.get()) is not None:
        budget.use_step()
