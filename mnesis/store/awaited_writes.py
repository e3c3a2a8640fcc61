"""Writes that wait for a thread of a database, and the answers to their callers. Shared by the stores that commit in groups."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar


class AwaitedWrite:
    """A write that a task of an event loop waits for, and its outcome."""

    __slots__ = ("error", "future", "loop", "result")

    def __init__(self, future: asyncio.Future[Any], loop: asyncio.AbstractEventLoop) -> None:
        self.future, self.loop = future, loop
        self.result: Any = None
        self.error: BaseException | None = None


W = TypeVar("W", bound=AwaitedWrite)


class WriteQueue(Generic[W]):
    """The writes that wait for the thread of a database. The caller holds a lock around every method.

    The thread is woken once for all writes that are added before it takes them. If writes have come in batches, waking
    it is delayed until the tasks that are ready in the event loop have run, so that their writes share the transaction.
    """

    def __init__(self) -> None:
        self._writes: list[W] = []
        self._is_woken = False
        self._delaying_loop: asyncio.AbstractEventLoop | None = None
        self._came_in_batch = False

    def must_wake(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Return whether a write from this loop has to wake the thread. Otherwise another call will soon wake it."""
        return not self._is_woken and self._delaying_loop is not loop

    def may_delay(self) -> bool:
        """Return whether waking the thread should wait for further writes of the loop that writes now."""
        return self._came_in_batch and self._delaying_loop is None

    def add(self, write: W) -> None:
        """Add a write. The caller wakes the thread, or delays that, if `must_wake()` said so."""
        self._writes.append(write)

    def delay(self, loop: asyncio.AbstractEventLoop) -> None:
        """Note that a callback of this loop will wake the thread."""
        self._delaying_loop = loop

    def note_woken(self) -> None:
        """Note that the thread was woken."""
        self._is_woken = True

    @property
    def has_unannounced(self) -> bool:
        """Whether writes are waiting that the thread does not know about yet."""
        return bool(self._writes) and not self._is_woken

    def take(self, limit: int | None = None) -> list[W]:
        """Remove and return the waiting writes, in order, at most `limit`."""
        writes, self._writes = self._writes[:limit], [] if limit is None else self._writes[limit:]
        self._is_woken, self._delaying_loop = False, None
        self._came_in_batch = len(writes) > 1
        return writes


def report(writes: Sequence[AwaitedWrite]) -> None:
    """Answer the callers of writes. Each event loop is woken once, which costs a system call."""
    loops = {each.loop: None for each in writes}
    for loop in loops:
        answers = [each for each in writes if each.loop is loop]
        with suppress(RuntimeError):  # the loop was closed, so no caller waits any more
            loop.call_soon_threadsafe(_answer, answers)


def _answer(writes: Sequence[AwaitedWrite]) -> None:
    for write in writes:
        if write.future.cancelled():
            continue
        if write.error is None:
            write.future.set_result(write.result)
        else:
            write.future.set_exception(write.error)
