"""The changes of an in-memory store, as events."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from mnesis.events.bus import MnesisEvent
from mnesis.events.payloads import (
    MapCompletedPayload,
    MapItemCompletedPayload,
    MapStartedPayload,
    SessionDeletedPayload,
)
from mnesis.models.message import Message
from mnesis.models.run import MapRun
from mnesis.store.change_log import Event, MessageHeader, StoredChange


class InMemoryChanges:
    """A list of changes. The store holds its lock around every call."""

    def __init__(self) -> None:
        self._changes: dict[int, StoredChange] = {}
        self.last = 0

    def add(self, *events: Event) -> None:
        """Add the events of one verb. All of them are the store's own, because no other process can use it."""
        self.last += 1
        self._changes[self.last] = StoredChange(self.last, True, events)

    def page(self, after: int, limit: int) -> list[StoredChange]:
        """Return changes after a position."""
        # Positions are dense except where sessions were purged, so that the search for the first one is short.
        wanted = (self._changes[position] for position in range(after + 1, self.last + 1) if position in self._changes)
        return list(islice(wanted, limit))

    def replace_session(self, session_id: str) -> None:
        """Drop the changes of a session that is purged, and add its deletion."""
        for position, change in list(self._changes.items()):
            if any(payload.get("session_id") == session_id for _, payload in change.events):
                del self._changes[position]
        self.add((MnesisEvent.SESSION_DELETED, SessionDeletedPayload(session_id)))

    def drop_run(self, run_id: str) -> None:
        """Drop the changes of a run that is purged."""
        for position, change in list(self._changes.items()):
            if any(payload.get("run_id") == run_id for _, payload in change.events):
                del self._changes[position]

    def add_run_started(self, run: MapRun) -> None:
        """Add the creation of a run."""
        self.add((MnesisEvent.MAP_STARTED, MapStartedPayload(run.total, run.model, run.kind, run.id)))

    def add_run_items(self, run: MapRun, successes: list[bool]) -> None:
        """Add the end of items. `run` is the run after it."""
        first = run.done + run.failed - len(successes) + 1
        events: list[Event] = [
            (MnesisEvent.MAP_ITEM_COMPLETED, MapItemCompletedPayload(number, run.total, success, run.id))
            for number, success in enumerate(successes, first)
        ]
        if events:
            self.add(*events)
            self.add_run_completed(run)

    def add_run_completed(self, run: MapRun) -> None:
        """Add the end of a run if all of its items are finished."""
        if run.is_finished:
            self.add((MnesisEvent.MAP_COMPLETED, MapCompletedPayload(run.total, run.done + run.failed, run.id)))


def headers(messages: Iterable[Message]) -> list[MessageHeader]:
    """Return the data of events about messages."""
    return [
        MessageHeader(m.seq, m.id, m.role, m.token_count, tuple(str(part.type) for part in m.parts)) for m in messages
    ]
