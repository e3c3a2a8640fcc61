"""Limits on steps and computing time, for code that may come from a model: templates and schemas."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import thread_time

from mnesis.errors import MnesisError


class TooMuchError(MnesisError, ValueError):
    """More steps or computing time than allowed."""


class Effort:
    """What may still be done: so many steps, so many seconds of this thread's computing time."""

    def __init__(self, steps: int, seconds: float) -> None:
        self._left, self._steps, self._seconds = steps, steps, seconds
        self._until = thread_time() + seconds

    def step(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise TooMuchError(f"more than {self._steps} steps")
        self.check_time()

    def check_time(self) -> None:
        if thread_time() > self._until:
            raise TooMuchError(f"more than {self._seconds:g} seconds of computing")


_current: ContextVar[Effort | None] = ContextVar("mnesis_effort", default=None)


@contextmanager
def limited(steps: int, seconds: float) -> Iterator[None]:
    """Within the block `step()` and `check_time()` raise `TooMuchError` past these limits."""
    token = _current.set(Effort(steps, seconds))
    try:
        yield
    finally:
        _current.reset(token)


def step() -> None:
    """Count a round of a loop, a call, a reference followed. Outside of `limited` nothing is counted."""
    if (effort := _current.get()) is not None:
        effort.step()


def check_time() -> None:
    """Only look at the clock."""
    if (effort := _current.get()) is not None:
        effort.check_time()
