"""A time limit for each piece of a stream, with one timer for the whole stream."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


class PieceTimer:
    """Limits the wait for each piece of a stream to some seconds.

    `asyncio.timeout` sets and cancels a timer for each piece, which often takes longer than the piece itself. This
    class only stores the time at which a wait began. When its timer fires, it compares that time with the limit and is
    set again for the remaining time. Time that the reader of the stream takes does not count. The waits may belong to
    different tasks, as in an async generator.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._deadline = 0.0
        self._waiting: asyncio.Task[object] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._has_expired = False

    async def wait(self, awaitable: Awaitable[T]) -> T:
        """Await a piece. Raises `TimeoutError` if it takes longer than the limit."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        cancel_requests = task.cancelling() if task is not None else 0
        self._deadline, self._waiting = loop.time() + self._seconds, task
        if self._timer is None:
            self._timer = loop.call_at(self._deadline, self._ring)
        try:
            return await awaitable
        except asyncio.CancelledError as error:
            # As in asyncio.timeout, a cancellation from elsewhere takes precedence over ours.
            if self._has_expired and task is not None and task.uncancel() <= cancel_requests:
                raise TimeoutError(f"no answer within {self._seconds:g} s") from error
            raise
        finally:
            self._waiting = None

    def close(self) -> None:
        """End the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        if self._waiting is None:
            return
        loop = asyncio.get_running_loop()
        if loop.time() < self._deadline:
            self._timer = loop.call_at(self._deadline, self._ring)
            return
        self._has_expired = True
        self._waiting.cancel()
