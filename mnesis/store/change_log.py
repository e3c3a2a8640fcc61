"""The part of the store protocol that lists committed changes, and the events of a change.

A change is one transaction. Its position grows with every commit, so that positions order all changes of a database.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mnesis.events.bus import MnesisEvent
from mnesis.events.payloads import (
    CompactionCompletedPayload,
    MessageCreatedPayload,
    MessageUpdatedPayload,
    PartCreatedPayload,
    PartUpdatedPayload,
    Payload,
    PruneCompletedPayload,
    SessionUpdatedPayload,
)
from mnesis.models.results import CompactionResult

Event = tuple[MnesisEvent, Payload]


@dataclass(frozen=True, slots=True)
class StoredChange:
    """The events of one transaction, in order. `is_own`: this store object committed it."""

    position: int
    is_own: bool
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class MessageHeader:
    """The data of events about a message."""

    seq: int
    id: str
    role: str
    token_count: int
    part_types: tuple[str, ...]


class ChangeLog(Protocol):
    """Committed changes in order. The changes of a session are deleted with it, except the deletion itself."""

    async def change_version(self) -> object:
        """Return a value that is different after each commit. Cheap."""
        ...

    async def wait_for_change(self, version: object, timeout_seconds: float) -> None:
        """Wait until `change_version` may differ from `version`, at most `timeout_seconds`. May return early."""
        ...

    async def last_change(self) -> int:
        """Return the position of the newest change, or 0. Later reads can name the sessions that are deleted after it."""
        ...

    async def changes(self, *, after: int, limit: int) -> list[StoredChange]:
        """Return at most `limit` changes with a position above `after`, in order."""
        ...


def append_events(
    session_id: str, messages: Iterable[MessageHeader], context_tokens: int, turn_count: int
) -> list[Event]:
    """Return the events of an append, in the order in which a session publishes them."""
    events: list[Event] = []
    for message in messages:
        created = MessageCreatedPayload(session_id, message.id, message.role, message.seq, message.token_count)
        events.append((MnesisEvent.MESSAGE_CREATED, created))
        for index, part_type in enumerate(message.part_types):
            part = PartCreatedPayload(session_id, message.id, index, part_type)
            events.append((MnesisEvent.PART_CREATED, part))
    return [*events, updated_event(session_id, context_tokens, turn_count)]


def updated_event(session_id: str, context_tokens: int, turn_count: int) -> Event:
    """Return the event of a changed session."""
    return MnesisEvent.SESSION_UPDATED, SessionUpdatedPayload(session_id, context_tokens, turn_count)


def compaction_events(
    session_id: str,
    result: CompactionResult,
    folds: Sequence[tuple[int, int, str | None]],
    prunes: Sequence[tuple[int, int, int]],
    message_ids: Mapping[int, str],
) -> list[Event]:
    """Return the events of a sweep, without the last one, `session.updated`.

    `folds` are spans that the context no longer shows, each with the summary that replaces it. `prunes` are (seq, part index,
    saved tokens).
    """
    events: list[Event] = []
    if result.pruned_tool_outputs:
        pruned = PruneCompletedPayload(session_id, result.pruned_tool_outputs, result.pruned_tokens)
        events.append((MnesisEvent.PRUNE_COMPLETED, pruned))
    for seq, index, saved in prunes:
        if seq in message_ids:
            part = PartUpdatedPayload(session_id, message_ids[seq], index, saved)
            events.append((MnesisEvent.PART_UPDATED, part))
    replaced: dict[int, str | None] = dict.fromkeys(seq for seq, _, _ in prunes)
    replaced.update((seq, summary_id) for first, last, summary_id in folds for seq in range(first, last + 1))
    for seq, summary_id in sorted(replaced.items()):
        if seq in message_ids:
            updated = MessageUpdatedPayload(session_id, message_ids[seq], seq, summary_id)
            events.append((MnesisEvent.MESSAGE_UPDATED, updated))
    fields = {name: getattr(result, name) for name in CompactionCompletedPayload.__annotations__ if name != "result"}
    return [*events, (MnesisEvent.COMPACTION_COMPLETED, CompactionCompletedPayload(**fields, result=result))]
