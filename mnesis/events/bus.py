"""The event bus: what happened, told after it was committed.

Handlers are called as `handler(event, payload)`, those of the event first, then those of all events, each in order of
subscription. A coroutine they return runs as a task of the running loop, held until it is done. A handler that raises is
logged and the others still run: nothing a handler does reaches the turn.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from enum import StrEnum
from typing import Any

from mnesis.events.payloads import Payload

logger = logging.getLogger(__name__)


class MnesisEvent(StrEnum):
    """Every event there is; `str(event)` is its name on the wire."""

    SESSION_CREATED = "session.created"
    SESSION_UPDATED = "session.updated"
    SESSION_CLOSED = "session.closed"
    SESSION_DELETED = "session.deleted"
    MESSAGE_CREATED = "message.created"
    MESSAGE_UPDATED = "message.updated"
    PART_CREATED = "part.created"
    PART_UPDATED = "part.updated"
    COMPACTION_TRIGGERED = "compaction.triggered"
    COMPACTION_COMPLETED = "compaction.completed"
    COMPACTION_FAILED = "compaction.failed"
    PRUNE_COMPLETED = "prune.completed"
    LLM_RETRY = "llm.retry"
    DOOM_LOOP_DETECTED = "doom_loop.detected"
    MAP_STARTED = "map.started"
    MAP_ITEM_COMPLETED = "map.item_completed"
    MAP_COMPLETED = "map.completed"


Handler = Callable[[MnesisEvent, Any], Awaitable[None] | None]
"""Called with the event and its payload; may be a plain function or a coroutine function."""

Unsubscribe = Callable[[], None]


class EventBus:
    """Subscribe, publish, unsubscribe. Safe to use from several threads and loops.

    A bus made with `for_session` is a view of this one: its listeners hear what is published for that session, through
    whichever view; listeners of the whole bus hear everything.
    """

    def __init__(self, *, _hub: _Hub | None = None, _scope: str | None = None) -> None:
        self._hub = _hub or _Hub()
        self._scope = _scope
        self._mine: list[tuple[MnesisEvent | None, Handler]] = []

    def for_session(self, session_id: str) -> EventBus:
        """The view of one session."""
        return EventBus(_hub=self._hub, _scope=session_id)

    def subscribe(self, event: MnesisEvent, handler: Handler) -> Unsubscribe:
        """Call `handler` for each `event` from now on. Returns a function that ends it."""
        return self._add(MnesisEvent(event), handler)

    def subscribe_all(self, handler: Handler) -> Unsubscribe:
        """Call `handler` for every event from now on. Returns a function that ends it."""
        return self._add(None, handler)

    def unsubscribe(self, event: MnesisEvent, handler: Handler) -> None:
        """End a subscription; quiet if there is none."""
        self._remove(MnesisEvent(event), handler)

    def unsubscribe_all(self, handler: Handler) -> None:
        """End a subscription to all events; quiet if there is none."""
        self._remove(None, handler)

    def clear(self) -> None:
        """End every subscription made through this object."""
        for key, handler in list(self._mine):
            self._remove(key, handler)

    def wants(self, event: MnesisEvent) -> bool:
        """Whether anybody listens to `event` here; spares the making of payloads nobody reads."""
        return self._hub.has_listeners and any(True for _ in self._hub.handlers(self._scope, event))

    def publish(self, event: MnesisEvent, payload: Payload) -> None:
        """Call everybody who listens to `event`. Never raises."""
        for handler in list(self._hub.handlers(self._scope, event)):
            try:
                outcome = handler(event, payload)
                if inspect.isawaitable(outcome):
                    self._hub.start(event, outcome)
            except Exception:
                logger.exception("a handler of %s failed; the turn goes on", event)

    def is_handling(self) -> bool:
        """Whether the running task is a handler of this bus."""
        return self._hub.runs(asyncio.current_task())

    async def drain(self, timeout_seconds: float | None = None) -> None:
        """Wait until the handlers that run in this loop are done, at most `timeout_seconds`; what is late is cancelled."""
        await self._hub.drain(timeout_seconds)

    def _add(self, key: MnesisEvent | None, handler: Handler) -> Unsubscribe:
        if not callable(handler):
            raise TypeError(f"a handler is called as handler(event, payload); {handler!r} cannot be called")
        self._hub.add(self._scope, key, handler)
        self._mine.append((key, handler))
        return lambda: self._remove(key, handler)

    def _remove(self, key: MnesisEvent | None, handler: Handler) -> None:
        if (key, handler) in self._mine:
            self._mine.remove((key, handler))
            self._hub.remove(self._scope, key, handler)


class _Hub:
    """Who listens to what, for which session; shared by a bus and its views."""

    def __init__(self) -> None:
        self._listeners: dict[tuple[str | None, MnesisEvent | None], tuple[Handler, ...]] = {}
        self._lock = threading.Lock()
        self._running: set[asyncio.Task[None]] = set()

    @property
    def has_listeners(self) -> bool:
        return bool(self._listeners)

    def handlers(self, scope: str | None, event: MnesisEvent) -> Iterator[Handler]:
        scopes = (None,) if scope is None else (scope, None)
        for key in (event, None):
            for place in scopes:
                yield from self._listeners.get((place, key), ())

    def add(self, scope: str | None, key: MnesisEvent | None, handler: Handler) -> None:
        with self._lock:
            self._listeners[scope, key] = (*self._listeners.get((scope, key), ()), handler)

    def remove(self, scope: str | None, key: MnesisEvent | None, handler: Handler) -> None:
        with self._lock:
            kept = list(self._listeners.pop((scope, key), ()))
            if handler in kept:
                kept.remove(handler)
            if kept:
                self._listeners[scope, key] = tuple(kept)

    def runs(self, task: asyncio.Task[Any] | None) -> bool:
        return task in self._running

    def start(self, event: MnesisEvent, outcome: Awaitable[None]) -> None:
        try:
            task = asyncio.get_running_loop().create_task(_guarded(event, outcome))
        except RuntimeError:
            if inspect.iscoroutine(outcome):
                outcome.close()
            logger.warning("an async handler of %s was not run: no event loop is running here", event)
            return
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def drain(self, timeout_seconds: float | None) -> None:
        loop, current = asyncio.get_running_loop(), asyncio.current_task()
        waiting = {task for task in list(self._running) if task.get_loop() is loop and task is not current}
        if not waiting:
            return
        _, late = await asyncio.wait(waiting, timeout=timeout_seconds)
        for task in late:
            logger.warning("an event handler was still running after %s s and is cancelled", timeout_seconds)
            task.cancel()


async def _guarded(event: MnesisEvent, outcome: Awaitable[None]) -> None:
    try:
        await outcome
    except Exception:
        logger.exception("a handler of %s failed; the turn goes on", event)
