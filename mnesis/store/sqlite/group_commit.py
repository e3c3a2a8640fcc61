"""Group commit: appends that wait at the same time share one transaction, because a commit costs more than most appends.

Other writes have a transaction of their own. Each write has its own outcome. If one of them fails, the transaction is rolled back and run again with a savepoint for each
write, so that a failing one is undone alone. Outcomes are reported after the commit, to each event loop at once.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any

from mnesis.errors import StoreBusyError

MAX_BATCH_WRITES = 64
"""Writes in one shared transaction at most, so that other processes wait only a few milliseconds for it."""

Write = Callable[[Callable[[sqlite3.Connection], Any]], Any]
"""Runs a function in a transaction, and raises typed errors."""


class PendingWrite:
    """A function that is to run in a transaction, and the future of its outcome.

    With `may_share`, other such functions may run in the same transaction.
    """

    __slots__ = ("args", "error", "function", "future", "kwargs", "loop", "may_share", "result")

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
        self.future, self.loop, self.may_share = future, loop, may_share
        self.function, self.args, self.kwargs = function, args, kwargs
        self.result: Any = None
        self.error: BaseException | None = None

    def __call__(self, connection: sqlite3.Connection) -> Any:
        return self.function(connection, *self.args, **self.kwargs)


class WriteQueue:
    """The writes that wait for the thread of a database. The caller holds a lock around every method.

    The thread is woken once for all writes that are added before it takes them. Where writes came in batches, waking it waits
    until the tasks that are ready in the event loop had their turn, so that their writes share the transaction.
    """

    def __init__(self) -> None:
        self._writes: list[PendingWrite] = []
        self._is_woken = False
        self._delaying_loop: asyncio.AbstractEventLoop | None = None
        self._came_in_batch = False

    def must_wake(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Return whether a write from this loop has to wake the thread. Otherwise somebody else does, soon."""
        return not self._is_woken and self._delaying_loop is not loop

    def may_delay(self) -> bool:
        """Return whether waking the thread should wait for further writes of the loop that writes now."""
        return self._came_in_batch and self._delaying_loop is None

    def add(self, write: PendingWrite) -> None:
        """Add a write. The caller wakes the thread, or delays that, if `must_wake()` said so."""
        self._writes.append(write)

    def delay(self, loop: asyncio.AbstractEventLoop) -> None:
        """Note that a callback of this loop will wake the thread."""
        self._delaying_loop = loop

    def note_woken(self) -> None:
        """Note that the thread was woken."""
        self._is_woken = True

    @property
    def has_unannounced(self) -> bool:
        """Whether writes wait of which the thread does not know yet."""
        return bool(self._writes) and not self._is_woken

    def take(self) -> list[PendingWrite]:
        """Return all writes that wait, in order, and forget them."""
        writes, self._writes = self._writes, []
        self._is_woken, self._delaying_loop = False, None
        self._came_in_batch = len(writes) > 1
        return writes


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
    except BaseException:  # not the fault of one write: SQLite has ended the transaction, or could not commit it
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
    except BaseException as error:  # belongs to the caller of this write; the thread serves the others
        write.error = error


def report(writes: Sequence[PendingWrite]) -> None:
    """Answer the callers of writes. Each event loop is woken once, which costs a system call."""
    loops = {each.loop: None for each in writes}
    for loop in loops:
        answers = [each for each in writes if each.loop is loop]
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(_answer, answers)


def _answer(writes: Sequence[PendingWrite]) -> None:
    for write in writes:
        if write.future.cancelled():
            continue
        if write.error is None:
            write.future.set_result(write.result)
        else:
            write.future.set_exception(write.error)
