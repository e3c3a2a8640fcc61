"""Tools for several event loops and threads: a fair lock, shutdown that runs once, user code in a thread, the background loop.

One event loop in a daemon thread serves all synchronous calls of the process. `run()` works from plain threads, within
a running event loop (a notebook) and from several threads at once. A process exits even if it closes nothing. A forked
child starts its own loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from importlib import import_module
from types import TracebackType
from typing import Any, TypeVar

from mnesis.errors import MnesisError

T = TypeVar("T")


class FairLock:
    """A first-come, first-served lock between tasks of any event loops. An `asyncio.Lock` belongs to one loop.

    It skips holders and waiters whose event loop was closed: they would never release it.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._held = False
        self._holder_loop: asyncio.AbstractEventLoop | None = None
        self._waiters: deque[asyncio.Future[None]] = deque()

    def locked(self) -> bool:
        """Return whether a task holds the lock."""
        return self._held and not self._is_abandoned()

    def _is_abandoned(self) -> bool:
        """Return whether the holder's event loop was closed, so that the holder never releases the lock."""
        return self._holder_loop is not None and self._holder_loop.is_closed()

    async def __aenter__(self) -> None:
        loop = asyncio.get_running_loop()
        with self._guard:
            if not self._held or self._is_abandoned():
                self._held, self._holder_loop = True, loop
                return
            waiter: asyncio.Future[None] = loop.create_future()
            self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            self._give_up(waiter)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _give_up(self, waiter: asyncio.Future[None]) -> None:
        with self._guard:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
                return
        # The lock was granted already: pass it on, unless the grant is still on its way and will see the cancellation.
        if not waiter.cancelled():
            self._release()

    def _release(self) -> None:
        while True:
            with self._guard:
                if not self._waiters:
                    self._held, self._holder_loop = False, None
                    return
                waiter = self._waiters.popleft()
            try:
                waiter.get_loop().call_soon_threadsafe(self._grant, waiter)
            except RuntimeError:  # the loop is closed, so its task will never run
                continue
            return

    def _grant(self, waiter: asyncio.Future[None]) -> None:
        if waiter.done():
            self._release()
        else:
            self._holder_loop = waiter.get_loop()
            waiter.set_result(None)


class RunOnce:
    """A coroutine function that runs once, to completion, even if a caller that waits for it is cancelled."""

    def __init__(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._function = function
        self._task: asyncio.Task[None] | None = None

    def start(self) -> asyncio.Task[None]:
        """Start the function unless it was started. If a closed loop or a cancellation ended that run, start again."""
        task = self._task
        is_abandoned = task is not None and (task.cancelled() or (not task.done() and task.get_loop().is_closed()))
        if task is None or is_abandoned:
            task = self._task = asyncio.get_running_loop().create_task(self._function())
        return task

    async def wait(self) -> None:
        """Start the function, or wait for the run that was started. Returns at once if it runs in another loop."""
        task = self.start()
        if task.get_loop() is asyncio.get_running_loop():
            await asyncio.shield(task)


_unfinished: set[asyncio.Task[None]] = set()


async def run_to_completion(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine. Cancelling the caller ends its wait without an error; the coroutine continues in the background."""
    task = asyncio.create_task(coroutine)
    _unfinished.add(task)
    task.add_done_callback(_unfinished.discard)
    with suppress(asyncio.CancelledError):
        await asyncio.shield(task)


_imported: set[str] = set()
"""Modules that were imported completely. `sys.modules` may also contain modules that a thread is still running."""


async def import_in_thread(*modules: str) -> None:
    """Import modules in a thread, because reading and running them blocks. Does nothing if all are imported."""
    missing = [name for name in modules if name not in _imported]
    if missing:
        await asyncio.to_thread(lambda: [import_module(name) for name in missing])
        _imported.update(missing)


async def run_in_daemon_thread(function: Callable[[], T]) -> T:
    """Run a function of the user in a new daemon thread and return its result. See `start_daemon_thread`.

    Cancelling the caller returns at once and does not stop the thread.
    """
    return await start_daemon_thread(function)


def start_daemon_thread(function: Callable[[], T]) -> asyncio.Future[T]:
    """Start a function of the user in a new daemon thread, with the caller's context. Returns the future of its result.

    A function that never returns does not keep the process from exiting; a pool of worker threads, which is joined at
    exit, would.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def run_function() -> None:
        try:
            resolve = partial(_resolve_future, future, context.run(function), None)
        except BaseException as error:
            resolve = partial(_resolve_future, future, None, error)
        with suppress(RuntimeError):  # the loop was closed, so nothing waits for the result
            loop.call_soon_threadsafe(resolve)

    threading.Thread(target=run_function, name="mnesis-user-function", daemon=True).start()
    return future


def _resolve_future(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    elif isinstance(error, StopIteration):
        # A future cannot hold a StopIteration.
        future.set_exception(RuntimeError(f"the function raised {error!r}"))
    else:
        future.set_exception(error)


class _LoopThread:
    """An event loop that runs in a daemon thread."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="mnesis-sync", daemon=True)
        self.thread.start()


_guard = threading.Lock()

_background: _LoopThread | None = None


def is_loop_running() -> bool:
    """Return whether an event loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def background_loop() -> asyncio.AbstractEventLoop:
    """Return the event loop that serves synchronous calls. It starts at the first call, and again in a forked child."""
    return _loop_thread().loop


def _loop_thread() -> _LoopThread:
    global _background
    with _guard:
        if _background is None or _background.pid != os.getpid():
            _background = _LoopThread()
        return _background


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the background loop and return its result. An interrupt (Ctrl-C) cancels it.

    Raises `MnesisError` if called from the thread of that loop, which would wait for itself.
    """
    background = _loop_thread()
    if threading.current_thread() is background.thread:
        coroutine.close()
        raise MnesisError(
            "a synchronous mnesis call was made from the thread that serves such calls (for example from an event"
            " handler or a tool of a synchronous session) and would wait for itself; use the async method there"
        )
    future = asyncio.run_coroutine_threadsafe(coroutine, background.loop)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise
