"""The event bus. Events are published after the commit, so a handler that queries the database sees the change.

The bus calls `handler(event, payload)`: first the handlers of this event, then those of all events, each in the order of
subscription. A coroutine that a handler returns runs as a task of the running loop. An exception in a handler is logged.
It does not affect the turn or other handlers.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Iterator
from difflib import get_close_matches
from enum import StrEnum
from typing import Any

from mnesis.errors import ConfigurationError
from mnesis.events.activity import is_logged, log_event, may_log_events
from mnesis.events.payloads import Payload
from mnesis.redaction import get_logger

logger = get_logger(__name__)


class MnesisEvent(StrEnum):
    """Every event that mnesis publishes. `str(event)` is its value, such as "session.created"."""

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
    CACHE_MISS = "cache.miss"
    LLM_RETRY = "llm.retry"
    SUMMARIZER_BREAKER_CHANGED = "summarizer.breaker_changed"
    DOOM_LOOP_DETECTED = "doom_loop.detected"
    MAP_STARTED = "map.started"
    MAP_ITEM_COMPLETED = "map.item_completed"
    MAP_COMPLETED = "map.completed"


Handler = Callable[[MnesisEvent, Any], Awaitable[None] | None]
"""A plain function or a coroutine function that receives the event and its payload."""

Unsubscribe = Callable[[], None]
"""A function that ends the subscription. Does nothing if it has ended."""


class EventBus:
    """The subscriptions of a database, or of one session in it. Safe to use from several threads and event loops.

    `for_session()` returns a view of the bus. Handlers of a view receive the events of its session; handlers of the whole
    bus receive all events.
    """

    def __init__(self, *, _hub: _Hub | None = None, _session_id: str | None = None) -> None:
        self._first_hub = _hub or _Hub()
        self._session_id = _session_id
        self._subscriptions: list[tuple[MnesisEvent | None, Handler]] = []

    @property
    def _hub(self) -> _Hub:
        return self._first_hub.current()

    def move_to(self, other: EventBus) -> None:
        """Move all subscriptions of this bus and its views to another bus. From now on both are the same bus."""
        self._hub.move_to(other._hub)

    def for_session(self, session_id: str) -> EventBus:
        """Return the view of one session."""
        return EventBus(_hub=self._hub, _session_id=session_id)

    def subscribe(self, event: MnesisEvent, handler: Handler) -> Unsubscribe:
        """Call `handler` for each `event` from now on. Returns a function that unsubscribes it."""
        return self._add(_parse_event(event), handler)

    def subscribe_all(self, handler: Handler) -> Unsubscribe:
        """Call `handler` for every event from now on. Returns a function that unsubscribes it."""
        return self._add(None, handler)

    def unsubscribe(self, event: MnesisEvent, handler: Handler) -> None:
        """End the subscription of `handler` to `event`. Does nothing if there is none."""
        self._remove(_parse_event(event), handler)

    def unsubscribe_all(self, handler: Handler) -> None:
        """End the subscription of `handler` to all events. Does nothing if there is none."""
        self._remove(None, handler)

    def clear(self) -> None:
        """End every subscription that was made through this object."""
        for key, handler in list(self._subscriptions):
            self._remove(key, handler)

    def has_handlers(self, event: MnesisEvent) -> bool:
        """Return whether `event` has handlers here, or is logged. If not, the caller need not build the payload."""
        if is_logged(event):
            return True
        return self._hub.has_handlers and any(True for _ in self._hub.handlers_of(self._session_id, event))

    @property
    def is_observed(self) -> bool:
        """Whether any event may have a handler here, or may be logged."""
        return self._hub.has_handlers or may_log_events()

    def publish(self, event: MnesisEvent, payload: Payload) -> None:
        """Call every handler of `event`, and log it. Never raises."""
        if is_logged(event):
            log_event(event.value, payload)
        for handler in list(self._hub.handlers_of(self._session_id, event)):
            self.deliver(handler, event, payload)

    def deliver(self, handler: Handler, event: MnesisEvent, payload: Payload) -> None:
        """Call one handler, subscribed or not, in the same way as `publish()`. Never raises."""
        try:
            outcome = handler(event, payload)
            if inspect.isawaitable(outcome):
                self._hub.spawn(event, outcome)
        except Exception:
            logger.exception("a handler of %s failed; the turn continues", event)

    def is_in_handler(self) -> bool:
        """Return whether the current task runs a handler of this bus."""
        return self._hub.is_running(asyncio.current_task())

    async def drain(self, timeout_seconds: float | None = None) -> None:
        """Wait for the handlers that run in this event loop, and cancel those still running after `timeout_seconds`."""
        await self._hub.drain(timeout_seconds)

    def _add(self, key: MnesisEvent | None, handler: Handler) -> Unsubscribe:
        if not callable(handler):
            raise TypeError(f"handler must be callable as handler(event, payload), not {handler!r}")
        self._hub.add(self._session_id, key, handler)
        self._subscriptions.append((key, handler))
        return lambda: self._remove(key, handler)

    def _remove(self, key: MnesisEvent | None, handler: Handler) -> None:
        if (key, handler) in self._subscriptions:
            self._subscriptions.remove((key, handler))
            self._hub.remove(self._session_id, key, handler)


class _Hub:
    """The handlers by session and event, and the running handlers. Shared by a bus and its views."""

    def __init__(self) -> None:
        self._handlers: dict[tuple[str | None, MnesisEvent | None], tuple[Handler, ...]] = {}
        self._lock = threading.Lock()
        self._running: set[asyncio.Task[None]] = set()
        self._successor: _Hub | None = None

    def current(self) -> _Hub:
        """Return the hub to which the handlers of this hub have moved, or this hub."""
        hub = self
        while hub._successor is not None:
            hub = hub._successor
        return hub

    def move_to(self, other: _Hub) -> None:
        """Move the handlers to another hub, after the handlers it has."""
        if other is self:
            return
        with self._lock:
            self._successor, moved = other, self._handlers
            self._handlers = {}
        for (session_id, event), handlers in moved.items():
            for handler in handlers:
                other.add(session_id, event, handler)

    @property
    def has_handlers(self) -> bool:
        return bool(self._handlers)

    def handlers_of(self, session_id: str | None, event: MnesisEvent) -> Iterator[Handler]:
        views = (None,) if session_id is None else (session_id, None)
        for key in (event, None):
            for view in views:
                yield from self._handlers.get((view, key), ())

    def add(self, session_id: str | None, key: MnesisEvent | None, handler: Handler) -> None:
        with self._lock:
            if self._successor is not None:  # the handlers moved after the caller looked the hub up
                self._successor.add(session_id, key, handler)
                return
            self._handlers[session_id, key] = (*self._handlers.get((session_id, key), ()), handler)

    def remove(self, session_id: str | None, key: MnesisEvent | None, handler: Handler) -> None:
        with self._lock:
            if self._successor is not None:
                self._successor.remove(session_id, key, handler)
                return
            remaining = list(self._handlers.pop((session_id, key), ()))
            if handler in remaining:
                remaining.remove(handler)
            if remaining:
                self._handlers[session_id, key] = tuple(remaining)

    def is_running(self, task: asyncio.Task[Any] | None) -> bool:
        return task in self._running

    def spawn(self, event: MnesisEvent, outcome: Awaitable[None]) -> None:
        try:
            task = asyncio.get_running_loop().create_task(_run_handler(event, outcome))
        except RuntimeError:
            if inspect.iscoroutine(outcome):
                outcome.close()
            logger.warning("an async handler of %s was not run: no event loop is running in this thread", event)
            return
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def drain(self, timeout_seconds: float | None) -> None:
        loop, current = asyncio.get_running_loop(), asyncio.current_task()
        running = {task for task in list(self._running) if task.get_loop() is loop and task is not current}
        if not running:
            return
        _, late = await asyncio.wait(running, timeout=timeout_seconds)
        for task in late:
            logger.warning("an event handler was still running after %s seconds; it is cancelled", timeout_seconds)
            task.cancel()


def _parse_event(event: object) -> MnesisEvent:
    """Return the event with this value. Raises `ConfigurationError`, which names the closest events, if the name is
    unknown.
    """
    try:
        return MnesisEvent(str(event))
    except ValueError:
        known = [known.value for known in MnesisEvent]
        close = get_close_matches(str(event).lower().replace("_", "."), known, n=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"expected one of: {', '.join(known)}"
        raise ConfigurationError(f"there is no event {event!r}; {hint}") from None


async def _run_handler(event: MnesisEvent, outcome: Awaitable[None]) -> None:
    try:
        await outcome
    except Exception:
        logger.exception("a handler of %s failed; the turn continues", event)
