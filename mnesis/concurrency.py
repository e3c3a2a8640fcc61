"""What concerns several event loops and threads: a lock, an ending carried through once, a user's function in a thread."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from mnesis.errors import MnesisError

T = TypeVar("T")


class FairLock:
    """Mutual exclusion between tasks, also of different loops. `asyncio.Lock` belongs to one loop and is not enough."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._held = False
        self._holder: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[asyncio.Future[None]] = deque()

    def locked(self) -> bool:
        """Whether somebody holds it."""
        return self._held and not self._is_abandoned()

    def _is_abandoned(self) -> bool:
        """Whether the holder's loop was closed under it: that task never goes on, and never releases."""
        return self._holder is not None and self._holder.is_closed()

    async def __aenter__(self) -> None:
        loop = asyncio.get_running_loop()
        with self._guard:
            if not self._held or self._is_abandoned():
                self._held, self._holder = True, loop
                return
            turn: asyncio.Future[None] = loop.create_future()
            self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            self._give_up(turn)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _give_up(self, turn: asyncio.Future[None]) -> None:
        with self._guard:
            if turn in self._waiting:
                self._waiting.remove(turn)
                return
        # Granted already: pass it on, unless the grant is still on its way and will see the cancellation itself.
        if not turn.cancelled():
            self._release()

    def _release(self) -> None:
        while True:
            with self._guard:
                if not self._waiting:
                    self._held, self._holder = False, None
                    return
                turn = self._waiting.popleft()
            try:
                turn.get_loop().call_soon_threadsafe(self._grant, turn)
            except RuntimeError:  # that loop is closed; its task will never come
                continue
            return

    def _grant(self, turn: asyncio.Future[None]) -> None:
        if turn.done():
            self._release()
        else:
            self._holder = turn.get_loop()
            turn.set_result(None)


class RunOnce:
    """Work that is done once, to its end, whoever of those that wait for it is cancelled meanwhile."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._work = work
        self._task: asyncio.Task[None] | None = None

    def start(self) -> asyncio.Task[None]:
        """Begin the work, unless it was begun already. What a loop that was closed or cancelled left undone begins anew."""
        task = self._task
        undone = task is not None and (task.cancelled() or (not task.done() and task.get_loop().is_closed()))
        if task is None or undone:
            task = self._task = asyncio.get_running_loop().create_task(self._work())
        return task

    async def wait(self) -> None:
        """Begin the work, or wait for its end where it was begun. In another loop than that it returns at once."""
        task = self.start()
        if task.get_loop() is asyncio.get_running_loop():
            await asyncio.shield(task)


async def in_daemon_thread(function: Callable[[], T]) -> T:
    """The outcome of a plain function of the user's, run in a thread of its own, with the caller's context.

    Whoever is cancelled while waiting does not wait for the thread, and a function that never returns does not keep the
    process from exiting: pools of worker threads, joined at exit, would.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            settle = partial(_settle, future, context.run(function), None)
        except BaseException as error:
            settle = partial(_settle, future, None, error)
        with suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
            loop.call_soon_threadsafe(settle)

    threading.Thread(target=run, name="mnesis-user-function", daemon=True).start()
    return await future


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    elif isinstance(error, StopIteration):
        # A future cannot carry it.
        future.set_exception(RuntimeError(f"the function raised {error!r}"))
    else:
        future.set_exception(error)


class _LoopThread:
    """An event loop running in a daemon thread."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="mnesis-sync", daemon=True)
        self.thread.start()


_guard = threading.Lock()

_running: _LoopThread | None = None


def background_loop() -> asyncio.AbstractEventLoop:
    """The loop that serves synchronous calls; started at the first one, anew in a forked child."""
    return _loop_thread().loop


def _loop_thread() -> _LoopThread:
    global _running
    with _guard:
        if _running is None or _running.pid != os.getpid():
            _running = _LoopThread()
        return _running


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the background loop and wait for it. An interrupt (Ctrl-C) cancels it.

    Raises `MnesisError` when called from that loop's own thread.
    """
    serving = _loop_thread()
    if threading.current_thread() is serving.thread:
        work.close()
        raise MnesisError(
            "a synchronous mnesis call was made from the thread that serves such calls (for example from an event"
            " handler or a tool of a synchronous session) and would wait for itself; use the async method there"
        )
    future = asyncio.run_coroutine_threadsafe(work, serving.loop)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


_ending: set[asyncio.Task[None]] = set()


async def run_to_completion(work: Coroutine[Any, Any, None]) -> None:
    """Run to its end what must not be cut short by a second cancellation."""
    task = asyncio.create_task(work)
    _ending.add(task)
    task.add_done_callback(_ending.discard)
    with suppress(asyncio.CancelledError):
        await asyncio.shield(task)
