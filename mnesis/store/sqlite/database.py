"""One database, one connection, one thread; every transaction is one plain function on that thread.

Writes that wait at the same time share a transaction: its commit costs more than most of them. If one of them fails, all
are undone and each runs again alone, so that every caller sees exactly its own outcome.

The thread and its queue are aiosqlite's. Functions go straight into the queue: its own `_execute` answers through the
calling event loop and ends the thread for everybody if that loop was closed in the meantime.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import aiosqlite

from mnesis.config import StoreConfig
from mnesis.errors import ForkedStoreError, MnesisStoreError, StoreBusyError, StoreReplacedError
from mnesis.store.sqlite.connect import busy_timeout_ms, open_connection
from mnesis.store.sqlite.translate_errors import translated

T = TypeVar("T")
P = ParamSpec("P")
Transaction = Callable[[sqlite3.Connection], T]
Answer = Callable[[Any, BaseException | None], None]

MAX_BATCH = 32
"""Writes that share a transaction at most; it keeps the time other processes wait for them to a few milliseconds."""


class Database:
    """An SQLite database that any thread and any event loop may use."""

    def __init__(self, path: Path, config: StoreConfig) -> None:
        self.path = path
        self._config = config
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._worker: aiosqlite.Connection | None = None
        self._connection: sqlite3.Connection | None = None
        self._waiting: list[tuple[Transaction[Any], Answer]] = []
        self._identity: tuple[int, int] | None = None

    async def open(self) -> None:
        """Connect; repeated calls do nothing. Raises one of the typed store errors."""
        self._refuse_fork()
        with self._lock:
            if self._worker is None:
                self._worker = _started_worker(self.path)
        await _answered(self._post, self._connect)

    async def close(self) -> None:
        """Disconnect once everything asked for before is done; quiet if not open, and in a forked child."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is not None:
            await _answered(partial(_put, worker), partial(self._disconnect, worker))

    async def write(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `function` between BEGIN IMMEDIATE and COMMIT: wholly or not at all. Errors come out typed.

        It may be undone and run again before it is answered: it must not change anything but the database.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._post_write(partial(_on_connection, function, args, kwargs), partial(_settle_in_loop, loop, future))
        return await future

    async def read(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `function` on one state of the database."""
        return await _answered(self._post, partial(self._read, partial(_on_connection, function, args, kwargs)))

    def read_now(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`read` for plain code, whether or not an event loop runs in this thread: it waits for the answer."""
        future: Future[T] = Future()
        self._post(
            _Call(partial(self._read, partial(_on_connection, function, args, kwargs)), partial(_settle, future))
        )
        return future.result()

    async def empty_journal(self) -> None:
        """Move the write-ahead log into the database and truncate it, as far as readers allow at once."""
        await _answered(self._post, self._empty_journal)

    def __del__(self) -> None:
        if self._worker is None or os.getpid() != self._pid:
            return
        _put(self._worker, partial(_shut, self._worker, self._connection))
        if self._connection is not None:
            warnings.warn(f"{self.path} was never closed", ResourceWarning, stacklevel=1)

    def _post(self, call: Callable[[], None]) -> None:
        self._refuse_fork()
        with self._lock:
            _put(self._started(), call)

    def _started(self) -> aiosqlite.Connection:
        if self._worker is None:
            raise MnesisStoreError(f"the database {self.path} is not open; call open() first")
        return self._worker

    def _post_write(self, function: Transaction[Any], answer: Answer) -> None:
        self._refuse_fork()
        with self._lock:
            worker = self._started()
            self._waiting.append((function, answer))
            _put(worker, _Call(self._write_waiting, _unheard))

    def _write_waiting(self) -> None:
        with self._lock:
            batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
        if len(batch) > 1 and self._write_together(batch):
            return
        for function, answer in batch:
            _Call(partial(self._write, function), answer)()

    def _write_together(self, batch: Sequence[tuple[Transaction[Any], Answer]]) -> bool:
        """Whether all of them have their answer now."""
        try:
            results = self._write(lambda connection: [function(connection) for function, _ in batch])
        except StoreBusyError as error:
            for _, answer in batch:
                answer(None, error)
            return True
        except Exception:  # each of them runs again alone, and its own error reaches its caller
            return False
        for (_, answer), result in zip(batch, results, strict=True):
            answer(result, None)
        return True

    def _refuse_fork(self) -> None:
        if os.getpid() != self._pid:
            raise ForkedStoreError(
                f"{self.path} was opened by process {self._pid} and this is its child {os.getpid()}; make a store of"
                " its own here",
                db_path=self.path,
            )

    def _connect(self) -> None:
        if self._connection is None:
            self._connection = self._translating(partial(open_connection, self.path, self._config))
            self._identity = _identity(self.path)

    def _disconnect(self, worker: aiosqlite.Connection) -> None:
        connection, self._connection = self._connection, None
        _shut(worker, connection)

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            raise MnesisStoreError(f"the database {self.path} is not open; call open() first")
        return self._connection

    def _write(self, function: Transaction[T]) -> T:
        connection = self._connected()
        if _identity(self.path) != self._identity:
            raise StoreReplacedError(
                f"{self.path} was moved, deleted or replaced while it was open; a write would be lost. Open it again",
                db_path=self.path,
            )
        return self._translating(partial(_transaction, connection, "BEGIN IMMEDIATE", function))

    def _read(self, function: Transaction[T]) -> T:
        return self._translating(partial(_transaction, self._connected(), "BEGIN", function))

    def _empty_journal(self) -> None:
        connection = self._connected()
        connection.execute("PRAGMA busy_timeout = 0")
        try:
            self._translating(lambda: connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
        finally:
            connection.execute(f"PRAGMA busy_timeout = {busy_timeout_ms(self._config)}")

    def _translating(self, function: Callable[[], T]) -> T:
        try:
            return function()
        except (sqlite3.Error, OverflowError, UnicodeEncodeError) as error:
            raise translated(error, self.path) from error


class _Call:
    """A function in the queue. It lets go of what it holds once it ran: the waiting thread keeps its last call."""

    __slots__ = ("_answer", "_function")

    def __init__(self, function: Callable[[], Any], answer: Answer) -> None:
        self._function: Callable[[], Any] | None = function
        self._answer: Answer | None = answer

    def __call__(self) -> None:
        function, answer = self._function, self._answer
        self._function = self._answer = None
        if function is None or answer is None:
            return
        try:
            result = function()
        except BaseException as error:  # belongs to whoever asked; this thread serves the others
            answer(None, error)
        else:
            answer(result, None)


async def _answered(post: Callable[[Callable[[], None]], None], function: Callable[[], T]) -> T:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    post(_Call(function, partial(_settle_in_loop, loop, future)))
    return await future


def _settle_in_loop(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], result: Any, error: BaseException | None
) -> None:
    with suppress(RuntimeError):  # the loop was closed: nobody waits any more
        loop.call_soon_threadsafe(_settle, future, result, error)


def _unheard(result: Any, error: BaseException | None) -> None:
    """The answer of a call that nobody waits for."""


def _settle(future: asyncio.Future[Any] | Future[Any], result: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def _started_worker(path: Path) -> aiosqlite.Connection:
    worker = aiosqlite.connect(path)
    worker._thread.daemon = True
    worker._thread.start()
    return worker


def _put(worker: aiosqlite.Connection, call: Callable[[], None]) -> None:
    worker._tx.put_nowait((None, call))


def _shut(worker: aiosqlite.Connection, connection: sqlite3.Connection | None) -> None:
    """Runs on the worker's thread, where `stop` finds no event loop to answer to."""
    if connection is not None:
        connection.close()
    worker.stop()


def _transaction(connection: sqlite3.Connection, begin: str, function: Transaction[T]) -> T:
    connection.execute(begin)
    try:
        result = function(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            with suppress(sqlite3.Error):  # the first error tells more
                connection.execute("ROLLBACK")
        raise
    return result


def _on_connection(
    function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any], connection: sqlite3.Connection
) -> T:
    return function(connection, *args, **kwargs)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
