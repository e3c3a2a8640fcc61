"""A recorder of events, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any

from mnesis.events.bus import EventBus, MnesisEvent


class EventRecorder:
    """A recorder that keeps every event of `bus` in `events`, as (event, payload). Usable as a context manager."""

    def __init__(self, bus: EventBus) -> None:
        self.events: list[tuple[MnesisEvent, Any]] = []
        self._wakers: list[Callable[[], object]] = []
        self._unsubscribe = bus.subscribe_all(self._record)

    def of(self, event: MnesisEvent) -> list[Any]:
        """Return the payloads of one kind of event, in order."""
        return [payload for kind, payload in self.events if kind == event]

    async def wait_for(self, event: MnesisEvent, count: int = 1, timeout_seconds: float = 10.0) -> list[Any]:
        """Wait for `count` events of one kind and return their payloads. Raises a TimeoutError that lists the received
        events.
        """
        loop, new_event = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(new_event.set)

        self._wakers.append(wake)
        try:
            async with asyncio.timeout(timeout_seconds):
                while len(self.of(event)) < count:
                    await new_event.wait()
                    new_event.clear()
        except TimeoutError as error:
            received = ", ".join(kind for kind, _ in self.events) or "nothing"
            raise TimeoutError(
                f"expected {count} × {event} within {timeout_seconds:g} s, but received: {received}"
            ) from error
        finally:
            self._wakers.remove(wake)
        return self.of(event)

    def close(self) -> None:
        """Stop recording. The recorded events remain."""
        self._unsubscribe()

    def __enter__(self) -> EventRecorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _record(self, event: MnesisEvent, payload: Any) -> None:
        self.events.append((event, payload))
        for wake in list(self._wakers):
            wake()
