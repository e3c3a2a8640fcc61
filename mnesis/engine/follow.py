"""Following the changes of a database: a stream for one reader, and publication of the changes of other processes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress

from mnesis.concurrency import FairLock
from mnesis.errors import ConfigurationError, MnesisStoreError
from mnesis.events.bus import EventBus
from mnesis.events.change import Change
from mnesis.redaction import get_logger
from mnesis.store.base import Store
from mnesis.store.change_log import ChangeLog

logger = get_logger(__name__)

POLL_SECONDS = 0.08
"""The interval at which a database is polled. A poll costs 0.2 to 0.4 ms, so waiting takes half a percent of a core
(`benchmarks/follow.py`)."""
MAX_BATCH_CHANGES = 500
_CURSOR = re.compile(r"(\d{1,18})\.(\d{1,18})")


class ChangeStream:
    """The changes of a database in order, an async iterator that waits for further ones.

    Each event comes once, whichever process caused it. `cursor` continues after the last one that was returned.
    """

    def __init__(self, changes: ChangeLog, since: str | None, poll_seconds: float = POLL_SECONDS) -> None:
        if not 0 < poll_seconds < float("inf"):
            raise ConfigurationError(f"poll_seconds must be a positive number, not {poll_seconds!r}")
        self._changes = changes
        self._poll_seconds = poll_seconds
        self._next: tuple[int, int] | None = None if since is None else parse_cursor(since)
        self._version: object = None
        self._has_more = True
        self._buffer: list[Change] = []
        self._buffer_start = ""
        self._is_started = False

    @property
    def cursor(self) -> str:
        """The position after the last change that was returned. Raises `MnesisStoreError` before `start()`."""
        if self._next is None:
            raise MnesisStoreError("the stream has no position yet; call start() first")
        if self._buffer:
            # Changes that were read but not returned yet lie behind the position.
            return self._buffer_start
        return _format_cursor(self._next)

    async def start(self) -> None:
        """Begin at the end of the log of changes, unless `since` names a position. Does nothing if already started.

        Raises `ConfigurationError` if the position lies beyond the end: it is from another database.
        """
        if self._is_started:
            return
        last = await self._changes.last_change()
        if self._next is None:
            self._next = (last + 1, 0)
        elif self._next[0] > last + 1:
            raise ConfigurationError(
                f"since={_format_cursor(self._next)!r} lies beyond the newest change, {last}; pass a cursor of this database"
            )
        self._is_started = True

    async def read(self, *, include_own: bool = True) -> list[Change]:
        """Return the changes since the last call, at most a few hundred transactions, without waiting.

        Without `include_own`, changes that this process has committed through this store are skipped.
        """
        await self.start()
        assert self._next is not None  # noqa: S101  # set by start()
        version = await self._changes.change_version()
        if version == self._version and not self._has_more:
            return []
        position, seen = self._next
        stored = await self._changes.changes(after=position - 1, limit=MAX_BATCH_CHANGES)
        found: list[Change] = []
        for change in stored:
            skip = seen if change.position == position else 0
            count = len(change.events)
            if include_own or not change.is_own:
                for number, (event, payload) in enumerate(change.events[skip:], skip + 1):
                    cursor = (change.position, number) if number < count else (change.position + 1, 0)
                    found.append(Change(event, payload, _format_cursor(cursor)))
            self._next = (change.position + 1, 0)
        # The version was read before the changes, so that a commit in between is seen by the next call.
        self._version, self._has_more = version, len(stored) == MAX_BATCH_CHANGES
        return found

    async def wait(self) -> None:
        """Wait until there may be changes, at most for one polling interval."""
        await self._changes.wait_for_change(self._version, self._poll_seconds)

    def __aiter__(self) -> AsyncIterator[Change]:
        return self

    async def __anext__(self) -> Change:
        while not self._buffer:
            await self.start()
            self._buffer_start = _format_cursor(self._next or (1, 0))
            self._buffer = await self.read()
            if not self._buffer:
                await self.wait()
        change = self._buffer.pop(0)
        self._buffer_start = change.cursor
        return change


class Publisher:
    """Publishes the commits of other processes on the bus of a database. Shared by all engines of the process.

    Every engine that follows runs `run()`. They share one position, so that each event is published once.
    """

    def __init__(self, store: Store, bus: EventBus) -> None:
        self._store = store
        self._bus = bus
        self._lock = FairLock()
        self._stream: ChangeStream | None = None
        self._users = 0

    @property
    def cursor(self) -> str | None:
        """The position after the last published change, or None before the first engine follows."""
        return self._stream.cursor if self._stream is not None else None

    async def join(self, since: str | None) -> None:
        """Begin to follow. Raises `ConfigurationError` for a `since` that comes too late or from another database."""
        async with self._lock:
            if self._stream is None:
                stream = ChangeStream(self._store, since)
                await stream.start()
                self._stream = stream
            elif since is not None:
                raise ConfigurationError(
                    "another engine of this process follows the database already, so that since= comes too late; iterate"
                    " over engine.changes(since=…) instead"
                )
            self._users += 1

    async def leave(self) -> None:
        """End following for one engine."""
        async with self._lock:
            self._users -= 1
            if not self._users:
                self._stream = None

    async def run(self) -> None:
        """Publish until cancelled. If the database cannot be read, it tries again."""
        had_error = False
        while True:
            try:
                await self.publish_new()
                had_error = False
                await self.wait()
            except MnesisStoreError:
                if not had_error:
                    logger.warning("changes of %s cannot be read; trying again", self._store.location, exc_info=True)
                had_error = True
                await asyncio.sleep(POLL_SECONDS)

    async def wait(self) -> None:
        """Wait until there may be changes."""
        stream = self._stream
        await (asyncio.sleep(POLL_SECONDS) if stream is None else stream.wait())

    async def publish_new(self) -> None:
        """Publish the commits since the last call."""
        async with self._lock:
            if self._stream is None:
                return
            for change in await self._stream.read(include_own=False):
                session_id = change.payload.get("session_id")
                bus = self._bus if session_id is None else self._bus.for_session(session_id)
                bus.publish(change.event, change.payload)


async def stop_task(task: asyncio.Task[None] | None) -> None:
    """Cancel a task and wait for it, if it belongs to the running loop. A task of a closed loop has ended already."""
    if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
        return
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def parse_cursor(text: str) -> tuple[int, int]:
    """Parse a cursor: the position of the next change, and the number of its events that were returned already."""
    match = _CURSOR.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ConfigurationError(f"since must be a cursor such as engine.cursor() returns, not {text!r}")
    return max(int(match[1]), 1), int(match[2])


def _format_cursor(cursor: tuple[int, int]) -> str:
    return f"{cursor[0]}.{cursor[1]}"
