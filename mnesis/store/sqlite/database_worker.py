"""The thread of a database, on which its only connection is used, and the jobs that it runs.

This is the only module that uses aiosqlite, and the only one that uses its private attributes.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

from mnesis.errors import ConfigurationError, StoreThreadError
from mnesis.store.awaited_writes import WriteQueue
from mnesis.store.sqlite.group_commit import PendingWrite
from mnesis.system.open_files import FileIdentity

T = TypeVar("T")
Callback = Callable[[Any, BaseException | None], None]

AIOSQLITE_RANGE = ">=0.22.1,<0.23"
"""The versions whose queue and thread `DatabaseWorker` can use; the same range as in pyproject.toml."""


class DatabaseWorker:
    """A thread that runs jobs one after another: the thread and the queue of an `aiosqlite.Connection`.

    Jobs are put into its private queue as `(None, job)`. The public methods of aiosqlite would answer through the
    calling event loop, and end the thread for every other caller if that loop was closed in the meantime. If the thread
    ends, every waiting job fails with `StoreThreadError`.
    """

    def __init__(self, path: Path) -> None:
        self.connection: sqlite3.Connection | None = None
        """Created, used and closed on the thread only, like `file_identities`."""
        self.file_identities: dict[str, FileIdentity | None] = {}
        self.writes: WriteQueue[PendingWrite] = WriteQueue()
        self.has_ended = False
        self._path = path
        self._lock = threading.Lock()
        self._jobs: dict[Job, None] = {}
        self._source = aiosqlite.connect(path)
        _check_aiosqlite(self._source)
        thread = self._source._thread
        self._run_jobs = thread.run
        thread.run = self._run_until_end  # type: ignore[method-assign]  # the one way to notice that the thread ends
        thread.daemon = True
        thread.start()

    def submit(self, job: Job) -> None:
        """Add a job to the queue. Raises `StoreThreadError` if the thread has ended."""
        with self._lock:
            if self.has_ended:
                raise self._ended_error()
            self._jobs[job] = None
            self._source._tx.put_nowait((None, partial(self._run_job, job)))

    def close_and_stop(self) -> None:
        """Close the connection and end the thread. Runs on the thread, where aiosqlite finds no event loop."""
        self.close_connection()
        self._source.stop()

    def _run_job(self, job: Job) -> None:
        try:
            job()
        finally:
            self._jobs.pop(job, None)

    def _run_until_end(self) -> None:
        try:
            self._run_jobs()
        finally:
            with self._lock:
                self.has_ended = True
                jobs, self._jobs = self._jobs, {}
            for job in jobs:
                job.fail(self._ended_error())
            self.close_connection()

    def close_connection(self) -> None:
        """Close the connection. Call it on the thread."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()

    def _ended_error(self) -> StoreThreadError:
        return StoreThreadError(
            f"the thread of the database {self._path} ended unexpectedly; close the database and open it again",
            db_path=self._path,
        )


class Job:
    """A function in the queue and the callback for its outcome, which is called exactly once. It drops its references
    after the run, because the waiting thread keeps the last job.
    """

    __slots__ = ("_callback", "_function")

    def __init__(self, function: Callable[[], Any], callback: Callback) -> None:
        self._function: Callable[[], Any] | None = function
        self._callback: Callback | None = callback

    def __call__(self) -> None:
        function, self._function = self._function, None
        if function is None:
            return
        try:
            result = function()
        except BaseException as error:  # belongs to the caller of this job; the thread serves the others
            self._report(None, error)
        else:
            self._report(result, None)

    def fail(self, error: BaseException) -> None:
        """Report `error`, unless an outcome was reported already."""
        self._function = None
        self._report(None, error)

    def _report(self, result: Any, error: BaseException | None) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback(result, error)


async def submit_and_wait(submit: Callable[[Job], None], function: Callable[[], T]) -> T:
    """Run a function as a job and return its result."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    submit(Job(function, partial(settle_in_loop, loop, future)))
    return await future


def settle_in_loop(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], result: Any, error: BaseException | None
) -> None:
    """Report the outcome of a job to a future of an event loop, from another thread."""
    with suppress(RuntimeError):  # the loop was closed, so no caller waits any more
        loop.call_soon_threadsafe(settle, future, result, error)


def settle(future: asyncio.Future[Any] | Future[Any], result: Any, error: BaseException | None) -> None:
    """Report the outcome of a job to a future, unless the future was cancelled."""
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def ignore_result(result: Any, error: BaseException | None) -> None:
    """The callback of a job without a waiting caller."""


def _check_aiosqlite(connection: aiosqlite.Connection) -> None:
    """Raise `ConfigurationError` if the private attributes that `DatabaseWorker` uses are missing or different."""
    if not isinstance(getattr(connection, "_thread", None), threading.Thread):
        raise incompatible_aiosqlite("Connection._thread is not a thread")
    if not callable(getattr(getattr(connection, "_tx", None), "put_nowait", None)):
        raise incompatible_aiosqlite("Connection._tx is not a queue")


def incompatible_aiosqlite(reason: str) -> ConfigurationError:
    """Return the error for an installed aiosqlite that `DatabaseWorker` cannot use."""
    return ConfigurationError(
        f"aiosqlite {version('aiosqlite')} cannot be used: {reason}. mnesis needs aiosqlite{AIOSQLITE_RANGE};"
        f' run pip install "aiosqlite{AIOSQLITE_RANGE}"'
    )
