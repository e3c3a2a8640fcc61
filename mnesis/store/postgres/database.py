"""A PostgreSQL database: each verb is one plain function in one transaction, on a thread of this module.

It uses threads instead of coroutines, so that any thread and any event loop can use the store, `turns()` can block, and
cancelling the awaiting task cannot split a transaction. A connection is taken from psycopg's pool for one transaction.

A lost connection is replaced and the transaction runs again until the connection timeout has passed. If the connection
was lost during the commit, the store asks the server by the number of the transaction whether it committed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.numeric import Int8BinaryDumper, Int8Dumper
from psycopg_pool import ConnectionPool, PoolTimeout

from mnesis.config import StoreConfig
from mnesis.database_url import DatabaseURL
from mnesis.errors import ForkedStoreError, MnesisStoreError, NotFoundError, ReadOnlyStoreError
from mnesis.store.awaited_writes import report
from mnesis.store.base import AppendResult
from mnesis.store.codec import DamagedValueError
from mnesis.store.postgres.attempt import ONE_STATEMENT, READ, UNLISTED_WRITE, WRITE, Attempt, Connection
from mnesis.store.postgres.group_commit import PendingAppend
from mnesis.store.postgres.job_queue import Job, JobQueue
from mnesis.store.postgres.known_sessions import KnownSessions
from mnesis.store.postgres.listener import ChangeListener
from mnesis.store.postgres.migrate import prepare_schema
from mnesis.store.postgres.queries import statements
from mnesis.store.postgres.read_ahead import ReadAhead
from mnesis.store.postgres.seal import OnHashed
from mnesis.store.postgres.stored_session import StoredSession
from mnesis.store.postgres.transaction import Answer, Transaction
from mnesis.store.postgres.translate_errors import (
    is_connection_lost,
    is_login_refused,
    is_repeatable,
    translate_error,
    unavailable_error,
)
from mnesis.telemetry.hooks import observe_store

logging.getLogger("psycopg").addHandler(logging.NullHandler())  # the store itself reports errors to its callers

T = TypeVar("T")
P = ParamSpec("P")
CONNECTION_DEFAULTS = {
    "application_name": "mnesis",
    "connect_timeout": 10,
    # A server that vanished is noticed within about a minute, instead of after hours (libpq's defaults).
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}
MAX_ORIGIN = 2**62
FIRST_PAUSE_SECONDS = 0.02
MAX_PAUSE_SECONDS = 0.5


def connect(url: DatabaseURL, **options: Any) -> Connection:
    """Return a new connection in autocommit mode. Raises `psycopg.Error`."""
    parameters: dict[str, Any] = CONNECTION_DEFAULTS | conninfo_to_dict(url.conninfo) | options
    return psycopg.connect(**parameters, autocommit=True)


class PostgresDatabase:
    """The connections to one schema of a PostgreSQL database, for any thread and any event loop."""

    def __init__(self, url: DatabaseURL, config: StoreConfig) -> None:
        self.url = url
        self.location = str(url)
        self.origin = random.randrange(1, MAX_ORIGIN)  # noqa: S311  # tells stores apart, protects nothing
        self.channel = f"mnesis_{url.schema}"[:63]
        self._config = config
        key = config.integrity_key
        self._key = None if key is None else key.get_secret_value()
        self._pid = os.getpid()
        self._statements = statements(url.schema)
        self._known = KnownSessions()
        self.next_changes = ReadAhead()
        self.listener = self._new_listener()
        self._jobs: JobQueue | None = None
        self._pool: ConnectionPool[Connection] | None = None

    @property
    def has_key(self) -> bool:
        """Whether writes are sealed with a key."""
        return self._key is not None

    async def open(self, on_progress: OnHashed | None = None) -> None:
        """Connect, and create or migrate the schema. Does nothing if already open. Raises one of the typed store errors.

        `on_progress` reports the migration of an older schema.
        """
        self._refuse_fork()
        if self._jobs is None:
            await asyncio.to_thread(self._open, on_progress)

    async def close(self) -> None:
        """Disconnect after all earlier calls are done. Does nothing if not open, or in a forked child."""
        if os.getpid() != self._pid:
            return
        jobs, self._jobs = self._jobs, None
        pool = self._pool
        if jobs is not None and pool is not None:
            await asyncio.shield(asyncio.to_thread(self._close, jobs, pool))

    async def write(self, function: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` in one transaction: completely or not at all. Raises typed errors.

        It may run again if the connection is lost, so it must not change anything outside the database.
        """
        return await self._write(WRITE, function, args, kwargs)

    async def write_without_listing(
        self, function: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a verb like `write` that adds no change, so that followers do not wait for its transaction."""
        return await self._write(UNLISTED_WRITE, function, args, kwargs)

    async def write_together(self, pending: PendingAppend) -> AppendResult:
        """Append in a transaction that appends to other sessions may share. Raises typed errors."""
        self._refuse_write()
        with observe_store("postgresql", pending.append_alone):
            self._refuse_fork()
            self._queue().submit_append(pending)
            result: AppendResult = await pending.future
            return result

    async def _write(self, begin: bytes, function: Callable[..., T], args: tuple[Any, ...], kwargs: Any) -> T:
        self._refuse_write()
        with observe_store("postgresql", function):
            return await self._wait(
                partial(self._run, begin, partial(_call, function, args, kwargs)), _key(args), is_write=True
            )

    async def read(self, function: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` on one consistent state of the database. Raises typed errors."""
        with observe_store("postgresql", function):
            return await self._wait(partial(self._run, READ, partial(_call, function, args, kwargs)), _key(args))

    async def read_one_statement(
        self, function: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a function like `read` that sends a single statement, in one round trip without a transaction."""
        return await self._wait(partial(self._run, ONE_STATEMENT, partial(_call, function, args, kwargs)), _key(args))

    def read_blocking(self, function: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function like `read`, but block the calling thread."""
        self._refuse_fork()
        future: Future[T] = Future()
        job = partial(_settle_with, partial(self._run, READ, partial(_call, function, args, kwargs)), future)
        with observe_store("postgresql", function):
            self._queue().submit(job, _key(args))
            return future.result()

    def connect(self, **options: Any) -> Connection:
        """Return a new connection outside the pool, in autocommit mode. Raises `psycopg.Error`."""
        return connect(self.url, **options)

    def __del__(self) -> None:
        if self._pool is not None and os.getpid() == self._pid:
            warnings.warn(f"{self.location} was never closed", ResourceWarning, stacklevel=1)

    def _open(self, on_progress: OnHashed | None) -> None:
        try:
            with self.connect() as connection:
                prepare_schema(
                    connection, self.url, read_only=self._config.read_only, key=self._key, on_progress=on_progress
                )
        except psycopg.Error as error:
            raise translate_error(error, self.location) from error
        pool: ConnectionPool[Connection] = ConnectionPool(
            kwargs=self._pool_parameters(),
            min_size=1,
            max_size=self._config.max_connections,
            open=False,
            num_workers=1,
            timeout=self._config.connection_timeout,
            configure=self._configure,
            reconnect_timeout=0,
        )
        pool.open()
        self._pool = pool
        self._jobs = JobQueue(self._config.max_connections, self._commit_group)

    def _new_listener(self) -> ChangeListener:
        return ChangeListener(self._connect_listener, self.channel, self.origin, self._read_ahead)

    def _connect_listener(self) -> Connection:
        connection = self.connect()
        self._configure(connection)
        return connection

    def _read_ahead(self, connection: Connection) -> None:
        """Read the next page of changes for followers. They claim a number again if this fails."""
        transaction = Transaction(connection, self._statements, self.origin, self.location)
        try:
            self.next_changes.load(transaction)
        except psycopg.Error:
            if connection.closed:
                raise

    def _close(self, jobs: JobQueue, pool: ConnectionPool[Connection]) -> None:
        self.listener.stop()
        self.listener = self._new_listener()
        jobs.close()
        pool.close()
        if self._pool is pool:
            self._pool = None

    def _pool_parameters(self) -> dict[str, Any]:
        parameters: dict[str, Any] = CONNECTION_DEFAULTS | conninfo_to_dict(self.url.conninfo)
        # A prepared statement outlives the transaction, and a pooler gives its connection to another client.
        return parameters | {"autocommit": True, "prepare_threshold": None if self.url.uses_pgbouncer else 2}

    def _configure(self, connection: Connection) -> None:
        # psycopg sends an int in the smallest type that holds it, and prepares a statement once for each combination of
        # types: https://www.psycopg.org/psycopg3/docs/basic/adapt.html#numbers-adaptation
        connection.adapters.register_dumper(int, Int8BinaryDumper)
        connection.adapters.register_dumper(int, Int8Dumper)
        if not self.url.uses_pgbouncer:
            milliseconds = int(min(self._config.connection_timeout * 1_000, 2**31 - 1))
            connection.execute("SELECT set_config('lock_timeout', %s, false)", (str(milliseconds),))

    def _refuse_write(self) -> None:
        if self._config.read_only:
            raise ReadOnlyStoreError(
                f"{self.location} is opened read-only; open it with read_only=False", db_path=self.url
            )

    def _refuse_fork(self) -> None:
        if os.getpid() != self._pid:
            raise ForkedStoreError(
                f"{self.location} was opened by process {self._pid}, and this is its child {os.getpid()}; create a new"
                " store in the child",
                db_path=self.location,
            )

    def _queue(self) -> JobQueue:
        if self._jobs is None:
            raise MnesisStoreError(f"the database {self.location} is not open; call open() first")
        return self._jobs

    async def _wait(self, function: Callable[[], T], key: str | None, *, is_write: bool = False) -> T:
        self._refuse_fork()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._queue().submit(partial(_run_and_settle, loop, future, function), key, is_write=is_write)
        return await future

    def _run(self, begin: bytes, function: Callable[[Transaction], T], *, may_be_committed: bool = False) -> T:
        """Run a function in a transaction, again if the connection is lost. `may_be_committed` says that an earlier
        attempt was sent.
        """
        deadline = time.monotonic() + self._config.connection_timeout
        pause = FIRST_PAUSE_SECONDS
        while True:
            attempt = Attempt(function)
            try:
                self._attempt(attempt, begin, deadline, may_be_committed)
                return self._finish(attempt)
            except NotFoundError as error:
                error.location = error.location or self.location
                raise
            except (psycopg.Error, UnicodeEncodeError, DamagedValueError) as error:
                if attempt.is_committed:
                    return self._finish(attempt)
                if attempt.is_committing and is_connection_lost(error) and self._was_committed(attempt, deadline):
                    return self._finish(attempt)
                if may_be_committed and time.monotonic() + pause > deadline:
                    raise unavailable_error(self.location, str(error), is_outcome_unknown=True) from error
                if not is_repeatable(error) or time.monotonic() + pause > deadline:
                    raise translate_error(error, self.location) from error
            time.sleep(random.uniform(pause / 2, pause))  # noqa: S311  # spreads out processes, protects nothing
            pause = min(2 * pause, MAX_PAUSE_SECONDS)

    def _finish(self, attempt: Attempt[T]) -> T:
        """Return the result of a transaction that was committed, and remember the session that it wrote."""
        saved = attempt.saved_session
        if saved is not None and attempt.number is not None:
            self._known.put(saved, attempt.number)
        return attempt.result()

    def _commit_group(self, pending: Sequence[PendingAppend]) -> dict[str, Job]:
        """Commit appends in one transaction and answer their callers. Returns jobs for those that must run alone."""
        waiting = [each for each in pending if not each.future.cancelled()]
        known = [(each, self._known.get(each.session_id)) for each in waiting]
        group = [(each, stored) for each, stored in known if stored is not None and stored.record.forked_from is None]
        attempt = Attempt(partial(_send_appends, group))
        is_committed, may_be_committed = False, False
        if group:
            try:
                self._attempt(attempt, UNLISTED_WRITE, time.monotonic() + self._config.connection_timeout)
                is_committed = True
            except BaseException as error:  # each append runs again alone
                is_committed = attempt.is_committed
                may_be_committed = not is_committed and isinstance(error, Exception) and is_connection_lost(error)
        if is_committed:
            for (each, stored), (answer, result) in zip(group, attempt.result(), strict=True):
                if (row := answer.row()) is not None:
                    self._known.put(stored, row[0])
                    each.result = result
            report([each for each in waiting if each.result is not None])
        return {
            each.session_id: partial(self._append_alone, each, may_be_committed)
            for each in waiting
            if each.result is None
        }

    def _append_alone(self, pending: PendingAppend, may_be_committed: bool) -> None:
        try:
            pending.result = self._run(WRITE, pending.append_alone, may_be_committed=may_be_committed)
        except BaseException as error:  # for the caller of this append
            pending.error = error
        report([pending])

    def _attempt(self, attempt: Attempt[T], begin: bytes, deadline: float, may_be_committed: bool = False) -> None:
        connection = self._take_connection(deadline)
        try:
            transaction = Transaction(connection, self._statements, self.origin, self.location, self._key)
            transaction.may_be_committed = may_be_committed
            attempt.run(connection, begin, transaction, self.channel)
        finally:
            self._open_pool().putconn(connection)

    def _open_pool(self) -> ConnectionPool[Connection]:
        assert self._pool is not None  # noqa: S101  # closed after the last job
        return self._pool

    def _take_connection(self, deadline: float) -> Connection:
        """Take a connection from the pool. Raises `psycopg.Error` with the server's reason if no connection can be
        made.
        """
        while True:
            pool = self._open_pool()
            try:
                return pool.getconn(timeout=min(1.0, max(deadline - time.monotonic(), 0.05)))
            except PoolTimeout:
                # The pool does not say why, so the server is asked.
                try:
                    self.connect(connect_timeout=5).close()
                except psycopg.Error as error:
                    if is_login_refused(error) or time.monotonic() > deadline:
                        raise
                    time.sleep(FIRST_PAUSE_SECONDS)
                else:
                    if time.monotonic() > deadline:
                        raise
                    pool.check()

    def _was_committed(self, attempt: Attempt[Any], deadline: float) -> bool:
        """Ask the server whether a transaction with a lost connection was committed. Raises `StoreUnavailableError` if
        unknown.
        """
        number, reason = attempt.number, "the connection was lost while it committed"
        while number is not None and time.monotonic() < deadline:
            try:
                with self.connect(connect_timeout=5) as connection:
                    cursor = connection.execute(
                        self._statements["transaction_outcome"], {"number": number, "origin": self.origin}
                    )
                    status, has_change = cursor.fetchone() or (None, False)
            except psycopg.errors.InvalidParameterValue:
                return False  # it took over without the transaction and has not assigned the number
            except psycopg.Error as error:
                reason = str(error)
                time.sleep(FIRST_PAUSE_SECONDS)
                continue
            if has_change:
                return True
            if status in ("committed", "aborted"):
                # After a failover, another transaction may have the number, so only a change of this store is proof.
                return status == "committed" and not attempt.has_change
            if status is None:
                break
            time.sleep(FIRST_PAUSE_SECONDS)
        raise unavailable_error(self.location, reason, is_outcome_unknown=True)


def _send_appends(
    group: Sequence[tuple[PendingAppend, StoredSession]], transaction: Transaction
) -> list[tuple[Answer, AppendResult]]:
    return [each.send_append(transaction, stored) for each, stored in group]


def _call(function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any], transaction: Transaction) -> T:
    return function(transaction, *args, **kwargs)


def _run_and_settle(loop: asyncio.AbstractEventLoop, future: asyncio.Future[T], function: Callable[[], T]) -> None:
    if future.cancelled():
        return
    outcome: Future[T] = Future()
    _settle_with(function, outcome)
    with suppress(RuntimeError):  # the loop was closed, so no caller waits any more
        loop.call_soon_threadsafe(_settle, future, outcome)


def _settle_with(function: Callable[[], T], future: Future[T]) -> None:
    try:
        future.set_result(function())
    except BaseException as error:  # for the caller of this job
        future.set_exception(error)


def _key(args: tuple[Any, ...]) -> str | None:
    """Return the session or run of a verb: its first argument, if that is an id or has one."""
    first = args[0] if args else None
    return first if isinstance(first, str) else getattr(first, "id", None)


def _settle(future: asyncio.Future[T], outcome: Future[T]) -> None:
    if future.cancelled():
        return
    error = outcome.exception()
    if error is None:
        future.set_result(outcome.result())
    else:
        future.set_exception(error)
