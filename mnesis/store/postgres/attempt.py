"""One attempt at a transaction, and its progress."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

import psycopg

from mnesis.store.postgres.rows import Row
from mnesis.store.postgres.stored_session import StoredSession
from mnesis.store.postgres.transaction import Transaction

T = TypeVar("T")
Connection = psycopg.Connection[Row]

WRITE = b"BEGIN"
UNLISTED_WRITE = b"BEGIN READ WRITE"
ONE_STATEMENT = b""
"""No BEGIN, because a single statement sees one consistent state."""
READ = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


class Attempt(Generic[T]):
    """One attempt at a transaction, and its progress."""

    def __init__(self, function: Callable[[Transaction], T]) -> None:
        self._function = function
        self._results: list[T] = []
        self._commit: psycopg.Cursor[Any] | None = None
        self._transaction: Transaction | None = None
        self.is_committing = False
        """Whether COMMIT was sent, or may have been."""

    @property
    def is_committed(self) -> bool:
        """Whether the server answered COMMIT."""
        return self._commit is not None and self._commit.statusmessage == "COMMIT"

    @property
    def number(self) -> int | None:
        """The number of the transaction, if it asked for one."""
        return self._transaction.number if self._transaction is not None else None

    @property
    def has_change(self) -> bool:
        """Whether the transaction noted a change."""
        return self._transaction is not None and self._transaction.has_change

    @property
    def saved_session(self) -> StoredSession | None:
        """The session after the transaction, if it wrote one."""
        return self._transaction.saved_session if self._transaction is not None else None

    def result(self) -> T:
        """Return the result of the function, which ran."""
        return self._results[0]

    def run(self, connection: Connection, begin: bytes, transaction: Transaction, channel: str) -> None:
        """Run the function between BEGIN and COMMIT, and wake followers if it noted a change."""
        self._transaction = transaction
        if begin == ONE_STATEMENT:
            self._results = [self._function(transaction)]
            return
        try:
            with connection.pipeline():
                connection.execute(begin)
                if begin == WRITE:
                    transaction.send("lock_changes")
                self._results = [self._function(transaction)]
                self.is_committing = True
                self._commit = connection.execute(b"COMMIT")
                if transaction.has_change:
                    # After the commit, because a transaction that notifies holds a lock of the whole server while it
                    # commits: https://www.postgresql.org/docs/current/sql-notify.html
                    transaction.send("notify", {"channel": channel})
        except BaseException:
            if not connection.closed:
                with suppress(psycopg.Error):
                    connection.rollback()
            raise
