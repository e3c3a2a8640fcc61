"""The stores that `mnesis.testing.faults` interrupts, and the steps that are counted in each.

A step of SQLite, plain or encrypted, is a statement; of PostgreSQL a statement that is sent; of the in-memory store a verb.
"""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

from mnesis.config import StoreConfig
from mnesis.errors import StoreIOError
from mnesis.store import memory
from mnesis.store.base import Store
from mnesis.store.sqlite import SqliteStore
from mnesis.store.sqlite.connection import ConnectionState, StoreConnection

Count = Callable[["StepInfo"], bool]
"""Counts a step, and carries out its fault. Returns whether the process must be killed once the step was taken."""

MEMORY_LOCATION = ":memory:"
DATABASE_FILE = "s.db"


@dataclass(frozen=True)
class StepInfo:
    """The action of a fault point at a step: raise this error, or interrupt the statement."""

    make_error: Callable[[], Exception]
    interrupt: Callable[[Callable[[], int]], None]


@dataclass(frozen=True)
class Target:
    """A store to interrupt. `database` is a path in the directory of a scene, or a URL.

    `held` is the store itself, if it is in memory, where a kill leaves nothing to check. `interrupt` counts steps
    outside the stores, such as in the network.
    """

    name: str
    database: str = DATABASE_FILE
    store_config: StoreConfig = field(default_factory=StoreConfig)
    held: Store | None = None
    interrupt: Callable[[Count], AbstractContextManager[None]] | None = None

    @property
    def is_file(self) -> bool:
        """Whether the database is a file in the directory of a scene."""
        return self.database == DATABASE_FILE

    def locate(self, directory: Path) -> str:
        """Return the path or URL of the database."""
        return str(directory / self.database) if self.is_file else self.database

    def exists(self, directory: Path) -> bool:
        """Return whether there may be a database to check."""
        return not self.is_file or os.path.exists(self.locate(directory))

    def new_store(self, directory: Path) -> Store:
        """Return a store on the database, which is not open yet."""
        if self.held is not None:
            return self.held
        if self.is_file:
            return SqliteStore(directory / self.database, self.store_config)
        from mnesis.store.postgres import PostgresStore

        return PostgresStore(self.database, self.store_config)


SQLITE = Target("sqlite")


def encrypted_target() -> Target:
    """Return an encrypted SQLite database. Needs the extra `encryption`."""
    return Target("encrypted", store_config=StoreConfig(encryption_key="5a" * 32))


def memory_target() -> Target:
    """Return a store in memory, which all engines of a sweep share."""
    return Target("memory", MEMORY_LOCATION, held=memory.MemoryStore())


def postgres_target(url: str) -> Target:
    """Return a schema of a PostgreSQL database. Needs the extra `postgres`."""
    return Target("postgres", url)


def file_targets() -> list[Target]:
    """Return the targets that need no server and survive a kill."""
    return [SQLITE, encrypted_target()] if find_spec("sqlcipher3") is not None else [SQLITE]


@contextmanager
def count_steps(target: Target, count: Count) -> Iterator[None]:
    """Call `count` at each step of the target's stores in this process."""
    with ExitStack() as patches:
        if target.interrupt is not None:
            patches.enter_context(target.interrupt(count))
        elif target.held is not None:
            _count_verbs(target, count, patches)
        elif target.name == "postgres":
            _count_sent_statements(count, patches)
        else:
            _count_statements(StoreConnection, sqlite3.Connection, count, patches)
            if target.name == "encrypted":
                import sqlcipher3

                from mnesis.store.sqlite.cipher import CipherConnection

                _count_statements(CipherConnection, sqlcipher3.Connection, count, patches)
        yield


def _count_statements(connection_class: type[ConnectionState], base: Any, count: Count, patches: ExitStack) -> None:
    inherited: Any = connection_class.__dict__.get("execute") or base.execute

    def execute(self: Any, *arguments: Any) -> Any:
        def interrupt(kill: Callable[[], int]) -> None:
            self.set_progress_handler(kill, INSTRUCTIONS_BEFORE_KILL)

        dies_after = count(StepInfo(_sqlite_error, interrupt))
        try:
            return inherited(self, *arguments)
        finally:
            if dies_after:  # the statement was too short to be interrupted
                os.kill(os.getpid(), 9)

    patches.enter_context(mock.patch.object(connection_class, "execute", execute, create=True))


INSTRUCTIONS_BEFORE_KILL = 20


def _sqlite_error() -> Exception:
    error = sqlite3.OperationalError("disk I/O error (injected)")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    return error


def _count_sent_statements(count: Count, patches: ExitStack) -> None:
    """Count statements sent to PostgreSQL. Their fault is a lost connection, from which the store may recover."""
    from mnesis.store.postgres.transaction import Transaction

    send = Transaction.send

    def counted(self: Transaction, name: str, parameters: Any = None) -> Any:
        if count(StepInfo(LostConnection, lambda kill: None)):
            os.kill(os.getpid(), 9)
        return send(self, name, parameters)

    def lose(self: Transaction, name: str, parameters: Any = None) -> Any:
        try:
            return counted(self, name, parameters)
        except LostConnection:
            handle = socket.socket(fileno=os.dup(self._connection.pgconn.socket))
            handle.shutdown(socket.SHUT_RDWR)
            handle.close()
            return send(self, name, parameters)

    patches.enter_context(mock.patch.object(Transaction, "send", lose))


class LostConnection(Exception):  # not an error: it is never raised to callers
    """A marker for the loss of a connection, which is carried out instead of raised."""


def _count_verbs(target: Target, count: Count, patches: ExitStack) -> None:
    hold_lock = memory.MemoryStore._hold_lock

    def counted(self: memory.MemoryStore) -> Any:
        count(StepInfo(lambda: StoreIOError("an injected failure", db_path=MEMORY_LOCATION), lambda kill: None))
        return hold_lock(self)

    patches.enter_context(mock.patch.object(memory.MemoryStore, "_hold_lock", counted))
    patches.enter_context(mock.patch.object(memory, "MemoryStore", return_value=target.held))
