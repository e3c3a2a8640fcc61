"""A thread that listens for commits of other processes (LISTEN), so that followers do not have to poll.

Its connection also holds an advisory lock on the number of the store. As long as it does, the process is alive: the server
releases the lock as soon as the connection ends.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg

from mnesis.redaction import get_logger

logger = get_logger(__name__)

FALLBACK_SECONDS = 5.0
"""A process that is killed between its commit and its notification is noticed after this time."""
MAX_RECONNECT_SECONDS = 5.0


class ChangeListener:
    """Counts notifications on a channel and wakes waiting callers.

    `connect` returns a connection outside the pool. `origin` is the number of the store. The thread starts at the first
    `version()`; a lost connection is replaced, and counts as a notification, because some may have been missed.
    `read_ahead` is called on that connection after each notification, before callers are woken.
    """

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection[Any]],
        channel: str,
        origin: int,
        read_ahead: Callable[[psycopg.Connection[Any]], None],
    ) -> None:
        self._connect = connect
        self._read_ahead = read_ahead
        self._origin = origin
        self._channel = channel
        self._lock = threading.Lock()
        self._count = 0
        self._received = 0
        self._waiters: set[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = set()
        self._thread: threading.Thread | None = None
        self._is_listening = threading.Event()
        self._sockets: tuple[socket.socket, socket.socket] | None = None
        """Sockets that wake the thread at the end: closing the second makes the first readable."""

    def version(self) -> int:
        """Return a number that grows after each possible commit. Blocks until the thread listens."""
        with self._lock:
            if self._thread is None:
                self._sockets = socket.socketpair()
                self._thread = threading.Thread(target=self._run, name="mnesis-listen", daemon=True)
                self._thread.start()
        self._is_listening.wait(FALLBACK_SECONDS)
        return self._count

    @property
    def count(self) -> int | None:
        """The same number without waiting, or None if the thread does not listen yet."""
        return self._count if self._is_listening.is_set() else None

    async def wait(self, count: int, timeout_seconds: float) -> None:
        """Wait until the number differs from `count`, at most `timeout_seconds`."""
        loop = asyncio.get_running_loop()
        waiter = (loop, loop.create_future())
        with self._lock:
            if self._count != count:
                return
            self._waiters.add(waiter)
        try:
            # Not `wait_for()`, which drops a cancellation that comes with the result, up to Python 3.11
            # (https://github.com/python/cpython/issues/81839).
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_seconds):
                    await waiter[1]
        finally:
            with self._lock:
                self._waiters.discard(waiter)

    def stop(self) -> None:
        """End the thread and close its connection."""
        with self._lock:
            thread, sockets = self._thread, self._sockets
        if thread is not None and sockets is not None:
            sockets[1].close()
            thread.join()
            sockets[0].close()

    def _run(self) -> None:
        assert self._sockets is not None  # noqa: S101  # created with the thread
        wake = self._sockets[0]
        pause = 0.05
        while not _is_readable(wake, 0):
            try:
                with self._connect() as connection:
                    connection.execute("SELECT pg_advisory_lock(%s)", (self._origin,))
                    connection.execute(f'LISTEN "{self._channel}"'.encode())
                    self._announce()
                    self._is_listening.set()
                    pause = 0.05
                    self._listen(connection, wake)
            except psycopg.Error as error:
                logger.debug("listening on %s failed (%s); trying again", self._channel, error)
                _is_readable(wake, pause)
                pause = min(2 * pause, MAX_RECONNECT_SECONDS)
        self._is_listening.set()

    def _listen(self, connection: psycopg.Connection[Any], wake: socket.socket) -> None:
        # Not `connection.notifies()`, which may miss notifications that come with the answer to a statement (before 3.2.4).
        connection.add_notify_handler(self._note)
        seen = self._received
        with selectors.DefaultSelector() as selector:
            selector.register(connection.fileno(), selectors.EVENT_READ)
            stopping = selector.register(wake, selectors.EVENT_READ)
            deadline = time.monotonic() + FALLBACK_SECONDS
            while True:
                pause = max(deadline - time.monotonic(), 0) if seen == self._received else 0
                ready = selector.select(pause)
                if any(key is stopping for key, _ in ready):
                    return
                connection.pgconn.consume_input()
                while connection.pgconn.notifies() is not None:
                    self._note()
                if seen != self._received or time.monotonic() >= deadline:
                    seen = self._received
                    deadline = time.monotonic() + FALLBACK_SECONDS
                    self._read_ahead(connection)
                    self._announce()

    def _note(self, _: object = None) -> None:
        """Count a notification, on the thread that listens."""
        self._received += 1

    def _announce(self) -> None:
        with self._lock:
            self._count += 1
            waiters, self._waiters = self._waiters, set()
        for loop, future in waiters:
            with suppress(RuntimeError):  # the loop was closed, so no caller waits any more
                loop.call_soon_threadsafe(_finish, future)


def _is_readable(source: socket.socket, timeout_seconds: float) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(source, selectors.EVENT_READ)
        return bool(selector.select(timeout_seconds))


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
