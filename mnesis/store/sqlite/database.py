"""One database, one connection, one thread: every transaction is one plain function that runs on that thread.

Writes that wait at the same time share a transaction (`mnesis.store.sqlite.group_commit`). The thread is that of
`mnesis.store.sqlite.database_worker`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import struct
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from pydantic import ValidationError

from mnesis.config import StoreConfig
from mnesis.errors import (
    ForkedStoreError,
    MnesisError,
    MnesisStoreError,
    NotFoundError,
    StoreReplacedError,
    StoreThreadError,
)
from mnesis.store.awaited_writes import report
from mnesis.store.codec import DamagedValueError
from mnesis.store.sqlite.connect import busy_timeout_ms, open_connection
from mnesis.store.sqlite.connection import ConnectionState, StoreConnection, data_version
from mnesis.store.sqlite.database_worker import (
    Callback,
    DatabaseWorker,
    Job,
    ignore_result,
    incompatible_aiosqlite,
    settle,
    settle_in_loop,
    submit_and_wait,
)
from mnesis.store.sqlite.group_commit import PendingWrite, commit_writes
from mnesis.store.sqlite.translate_errors import has_damaged_rows, translate_error
from mnesis.system.open_files import FileIdentity, find_identity
from mnesis.telemetry.hooks import observe_store

T = TypeVar("T")
P = ParamSpec("P")
Transaction = Callable[[sqlite3.Connection], T]

RELEASED_PAGES = 256
"""The number of pages that one step returns to the file system: a megabyte, a few milliseconds."""


class Database:
    """An SQLite database that any thread and any event loop may use."""

    def __init__(self, path: Path, config: StoreConfig) -> None:
        self.path = path
        self._config = config
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._worker: DatabaseWorker | None = None
        self.is_search_index_checked = False
        """Whether the blocks of the search index were compared with their checksums since this object was created."""
        self.is_search_index_recreated = False

    async def open(self, on_progress: Callable[[int, int], None] | None = None) -> None:
        """Connect. Does nothing if already open. `on_progress` reports the update of an older database.

        Raises one of the typed store errors, and `ConfigurationError` if the installed aiosqlite cannot be used.
        """
        self._refuse_fork()
        with self._lock:
            if self._worker is None or self._worker.has_ended:
                self._worker = DatabaseWorker(self.path)
        try:
            # An incompatible aiosqlite ends its thread after the first job, so the first one does nothing.
            self._enqueue(_do_nothing, ignore_result)
            await self._run(partial(self._connect, on_progress=on_progress))
        except StoreThreadError as error:
            raise incompatible_aiosqlite("its thread ended after the first job") from error

    async def close(self) -> None:
        """Disconnect after all earlier calls are done. Does nothing if not open, or in a forked child."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            worker, self._worker = self._worker, None
            if worker is not None and worker.writes.has_unannounced:
                with suppress(StoreThreadError):
                    self._wake(worker)
        if worker is not None and not worker.has_ended:
            await submit_and_wait(worker.submit, worker.close_and_stop)

    async def write(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `function` between BEGIN IMMEDIATE and COMMIT: completely or not at all. Raises typed errors."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with observe_store("sqlite", function):
            self._enqueue_write(PendingWrite(future, loop, function, args, kwargs))
            return await future

    async def write_together(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a function like `write`, if possible in one transaction with other waiting functions of this kind. The
        function may be rolled back and run again before the call returns, so it must not change anything outside the
        database. It must be short, because all functions of the transaction wait for the last one.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with observe_store("sqlite", function):
            self._enqueue_write(PendingWrite(future, loop, function, args, kwargs, may_share=True))
            return await future

    async def read(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `function` on one consistent state of the database. Raises typed errors."""
        with observe_store("sqlite", function):
            return await self._run(partial(self._read, partial(_call_with_connection, function, args, kwargs)))

    async def query(self, function: Transaction[T]) -> T:
        """Run one statement outside a transaction, because a transaction would cost more than the statement."""
        with observe_store("sqlite", function):
            return await self._run(partial(self._query, function))

    def read_blocking(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a function like `read`, but block the calling thread, whether or not an event loop runs in it."""
        future: Future[T] = Future()
        transaction = partial(_call_with_connection, function, args, kwargs)
        with observe_store("sqlite", function):
            self._enqueue(partial(self._read, transaction), partial(settle, future))
            return future.result()

    async def release_space(self) -> None:
        """Return free pages to the file system, in steps between which others can write.

        Does nothing for files that were created without incremental vacuum; `mnesis backup` writes a compact copy of them.
        """
        while await self.write(_release_pages):
            pass

    async def checkpoint_wal(self) -> None:
        """Move the write-ahead log into the database and truncate it, as far as readers permit without waiting."""
        await self._run(self._checkpoint_wal)

    async def reconnect(self) -> None:
        """Replace the connection, because SQLCipher refuses further writes after a page that it cannot decrypt."""
        await self._run(self._reconnect)

    def __del__(self) -> None:
        # The names of this module are None when the interpreter ends.
        if os is None or self._worker is None or self._worker.has_ended or os.getpid() != self._pid:
            return
        was_connected = self._worker.connection is not None
        with suppress(StoreThreadError):
            self._worker.submit(Job(self._worker.close_and_stop, ignore_result))
        if was_connected:
            warnings.warn(f"{self.path} was never closed", ResourceWarning, stacklevel=1)

    async def _run(self, function: Callable[[DatabaseWorker], T]) -> T:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._enqueue(function, partial(settle_in_loop, loop, future))
        return await future

    def _enqueue(self, function: Callable[[DatabaseWorker], Any], callback: Callback) -> None:
        self._refuse_fork()
        with self._lock:
            worker = self._running_worker()
            worker.submit(Job(partial(function, worker), callback))

    def _running_worker(self) -> DatabaseWorker:
        if self._worker is None:
            raise self._not_open_error()
        return self._worker

    def _not_open_error(self) -> MnesisStoreError:
        return MnesisStoreError(f"the database {self.path} is not open; call open() first")

    def _enqueue_write(self, write: PendingWrite) -> None:
        self._refuse_fork()
        with self._lock:
            worker, loop = self._running_worker(), write.loop
            if worker.writes.must_wake(loop):
                if worker.writes.may_delay():
                    loop.call_soon(self._wake_after_delay, worker)
                    worker.writes.delay(loop)
                else:
                    self._wake(worker)
            worker.writes.add(write)

    def _wake(self, worker: DatabaseWorker) -> None:
        """Let the thread take all waiting writes. The caller holds the lock."""
        worker.submit(Job(partial(self._run_pending_writes, worker), partial(self._fail_pending_writes, worker)))
        worker.writes.note_woken()

    def _wake_after_delay(self, worker: DatabaseWorker) -> None:
        with self._lock:
            if not worker.writes.has_unannounced:
                return
            try:
                self._wake(worker)
            except StoreThreadError as error:
                failure = error
            else:
                return
        self._fail_pending_writes(worker, None, failure)

    def _run_pending_writes(self, worker: DatabaseWorker) -> None:
        with self._lock:
            writes = worker.writes.take()
        commit_writes(writes, partial(self._write, worker), self._translate_errors)

    def _fail_pending_writes(self, worker: DatabaseWorker, result: Any, error: BaseException | None) -> None:
        """Report `error`, if there is one, to every write that still waits."""
        if error is None:
            return
        with self._lock:
            writes = worker.writes.take()
        for write in writes:
            write.error = error
        report(writes)

    def _refuse_fork(self) -> None:
        if os.getpid() != self._pid:
            raise ForkedStoreError(
                f"{self.path} was opened by process {self._pid}, and this is its child {os.getpid()}; create a new store"
                " in the child",
                db_path=self.path,
            )

    def _connect(self, worker: DatabaseWorker, on_progress: Callable[[int, int], None] | None = None) -> None:
        if worker.connection is None:
            worker.connection = self._translate_errors(partial(open_connection, self.path, self._config, on_progress))
            worker.file_identities = self._file_identities()

    def _reconnect(self, worker: DatabaseWorker) -> None:
        worker.close_connection()
        self._connect(worker)

    def _file_identities(self) -> dict[str, FileIdentity | None]:
        """Return the files that must stay in place while the database is open: itself, and its -wal and -shm if it has them.

        SQLite puts the latter next to the file that a link leads to, and keeps them while any connection is open
        (https://sqlite.org/walformat.html, section 1).
        """
        real_path = os.path.realpath(self.path)
        sidecars = {path: find_identity(path) for path in (f"{real_path}-wal", f"{real_path}-shm")}
        in_wal = all(sidecars.values())
        return {str(self.path): find_identity(self.path), **(sidecars if in_wal else {})}

    def _connection_of(self, worker: DatabaseWorker) -> sqlite3.Connection:
        if worker.connection is None:
            raise self._not_open_error()
        return worker.connection

    def _write(self, worker: DatabaseWorker, function: Transaction[T]) -> T:
        connection = self._connection_of(worker)
        for path, identity in worker.file_identities.items():
            if find_identity(path) != identity:
                raise StoreReplacedError(
                    f"{path} was moved, deleted or replaced while {self.path} was open, so a write would be lost; close the"
                    " database in every process, run `mnesis doctor` on it, and open it again",
                    db_path=self.path,
                )
        return self._translate_errors(partial(_run_write, connection, function), connection)

    def _read(self, function: Transaction[T], worker: DatabaseWorker) -> T:
        connection = self._connection_of(worker)
        return self._translate_errors(partial(_run_transaction, connection, "BEGIN", function), connection)

    def _query(self, function: Transaction[T], worker: DatabaseWorker) -> T:
        connection = self._connection_of(worker)
        return self._translate_errors(partial(function, connection), connection)

    def _checkpoint_wal(self, worker: DatabaseWorker) -> None:
        connection = self._connection_of(worker)
        connection.execute("PRAGMA busy_timeout = 0")
        try:
            self._translate_errors(lambda: connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
        finally:
            connection.execute(f"PRAGMA busy_timeout = {busy_timeout_ms(self._config)}")

    def _translate_errors(self, function: Callable[[], T], connection: sqlite3.Connection | None = None) -> T:
        """Call `function`. Convert errors of SQLite to typed errors, and add this database to errors about an id.

        Values of another type than their column, as in pages that changed places, also raise a typed error if the check
        of `connection` confirms the damage.
        """
        try:
            return function()
        except NotFoundError as error:
            error.location = error.location or str(self.path)
            raise
        except MnesisError:
            raise
        except (sqlite3.Error, OverflowError, UnicodeEncodeError, DamagedValueError) as error:
            raise translate_error(error, self.path) from error
        except (ValidationError, json.JSONDecodeError, UnicodeDecodeError) as error:
            # Everything is validated before it is written, so within a transaction these come from stored values only.
            raise DamagedValueError(f"a stored value ({str(error).splitlines()[0]})").at(str(self.path)) from error
        except (TypeError, ValueError, AttributeError, LookupError, struct.error) as error:
            if connection is None or not has_damaged_rows(connection):
                raise
            raise DamagedValueError(f"a stored value ({error})").at(str(self.path)) from error


def _release_pages(connection: sqlite3.Connection) -> bool:
    """Free some pages at the end of the file. Returns whether there are more."""
    before: int = connection.execute("PRAGMA freelist_count").fetchone()[0]
    connection.execute(f"PRAGMA incremental_vacuum({RELEASED_PAGES})").fetchall()
    after: int = connection.execute("PRAGMA freelist_count").fetchone()[0]
    return 0 < after < before


def _do_nothing(worker: DatabaseWorker) -> None:
    """The first job of a thread, which shows that the thread works."""


def _run_transaction(connection: sqlite3.Connection, begin: str, function: Transaction[T]) -> T:
    connection.execute(begin)
    try:
        result = function(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            with suppress(sqlite3.Error):  # the first error says more
                connection.execute("ROLLBACK")
        raise
    return result


def _run_write(connection: sqlite3.Connection, function: Transaction[T]) -> T:
    if not isinstance(connection, ConnectionState):
        return _run_transaction(connection, "BEGIN IMMEDIATE", function)
    is_committed = False
    try:
        result = _run_transaction(connection, "BEGIN IMMEDIATE", partial(_begin_and_call, function))
        is_committed = True
    finally:
        connection.known_sessions.end(is_committed=is_committed)
    return result


def _begin_and_call(function: Transaction[T], connection: StoreConnection) -> T:
    connection.known_sessions.begin(data_version(connection))
    return function(connection)


def _call_with_connection(
    function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any], connection: sqlite3.Connection
) -> T:
    return function(connection, *args, **kwargs)
