"""Group commit: appends that wait at the same time share one transaction, because a commit costs more than most appends.

Every other write has a separate transaction. Each write has its own outcome. If one of them fails, the transaction is
rolled back and run again with a savepoint for each write, so that only a failing one is undone. Outcomes are reported
after the commit, to each event loop at once.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

from mnesis.errors import StoreBusyError
from mnesis.store.awaited_writes import AwaitedWrite, report

MAX_BATCH_WRITES = 64
"""The maximum number of writes in one shared transaction, so that other processes wait only a few milliseconds for
it."""

Write = Callable[[Callable[[sqlite3.Connection], Any]], Any]
"""Runs a function in a transaction, and raises typed errors."""


class PendingWrite(AwaitedWrite):
    """A function to run in a transaction, and the future of its outcome.

    With `may_share`, other such functions may run in the same transaction.
    """

    __slots__ = ("args", "function", "kwargs", "may_share")

    def __init__(
        self,
        future: asyncio.Future[Any],
        loop: asyncio.AbstractEventLoop,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        may_share: bool = False,
    ) -> None:
        super().__init__(future, loop)
        self.function, self.args, self.kwargs, self.may_share = function, args, kwargs, may_share

    def __call__(self, connection: sqlite3.Connection) -> Any:
        return self.function(connection, *self.args, **self.kwargs)


def commit_writes(writes: Sequence[PendingWrite], write: Write, run: Callable[[Callable[[], Any]], Any]) -> None:
    """Run writes in as few transactions as `MAX_BATCH_WRITES` permits, and report the outcome of each after its commit.

    `write` runs a function in a transaction; `run` calls a function within one and translates its errors.
    """
    for batch in _batches(writes):
        if len(batch) == 1 or not _run_together(batch, write, run):
            for each in batch:
                _run_alone(each, write)
        report(batch)


def _batches(writes: Sequence[PendingWrite]) -> Iterator[Sequence[PendingWrite]]:
    """Divide writes, in their order, into those that share a transaction."""
    for may_share, group in groupby(writes, key=lambda write: write.may_share):
        members, size = list(group), MAX_BATCH_WRITES if may_share else 1
        for start in range(0, len(members), size):
            yield members[start : start + size]


def _run_together(batch: Sequence[PendingWrite], write: Write, run: Callable[[Callable[[], Any]], Any]) -> bool:
    """Run several writes in one transaction. Returns whether each of them has its outcome."""
    try:
        results = write(lambda connection: [each(connection) for each in batch])
    except StoreBusyError as error:
        for each in batch:
            each.error = error
        return True
    except BaseException:
        return _run_with_savepoints(batch, write, run)
    for each, result in zip(batch, results, strict=True):
        each.result = result
    return True


def _run_with_savepoints(batch: Sequence[PendingWrite], write: Write, run: Callable[[Callable[[], Any]], Any]) -> bool:
    try:
        outcomes = write(lambda connection: [_run_in_savepoint(connection, each, run) for each in batch])
    except BaseException:  # no single write is at fault: SQLite has ended the transaction, or could not commit it
        return False
    for each, (result, error) in zip(batch, outcomes, strict=True):
        each.result, each.error = result, error
    return True


def _run_in_savepoint(
    connection: sqlite3.Connection, write: PendingWrite, run: Callable[[Callable[[], Any]], Any]
) -> tuple[Any, BaseException | None]:
    connection.execute("SAVEPOINT one_write")
    try:
        result, failure = run(lambda: write(connection)), None
    except Exception as error:
        if not connection.in_transaction:
            raise
        connection.execute("ROLLBACK TO one_write")
        result, failure = None, error
    connection.execute("RELEASE one_write")
    return result, failure


def _run_alone(write: PendingWrite, run: Write) -> None:
    try:
        write.result = run(write)
    except BaseException as error:  # for the caller of this write
        write.error = error
