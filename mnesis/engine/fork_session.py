"""Forking a session of a database: the message at which the fork begins, and its settings."""

from __future__ import annotations

from dataclasses import replace

from mnesis.errors import ConfigurationError
from mnesis.events.bus import EventBus, MnesisEvent
from mnesis.events.payloads import SessionCreatedPayload
from mnesis.ids import new_id as create_id
from mnesis.ids import now_ms
from mnesis.models.session import SessionRecord
from mnesis.store.base import Store


async def fork_session(
    store: Store, events: EventBus, session_id: str, *, at: str | None, before: str | None, new_id: str | None
) -> SessionRecord:
    """Create a fork and publish that it was created. See `Engine.fork`."""
    if at is not None and before is not None:
        raise ConfigurationError(
            "pass either at=, the last message of the fork, or before=, the first that it leaves out"
        )
    if new_id is not None and (not isinstance(new_id, str) or not new_id):
        raise ConfigurationError(f"the id of a fork must be a non-empty string, not {new_id!r}")
    origin = await store.session(session_id)
    if origin.unfinished is not None:
        raise ConfigurationError(
            f"session {session_id!r} cannot be forked before its {origin.unfinished} is finished; repeat that first"
        )
    if before is not None:
        last_seq = (await store.message(session_id, before)).seq - 1
    else:
        last_seq = origin.last_seq if at is None else (await store.message(session_id, at)).seq
    now = now_ms()
    fork = replace(origin, id=new_id or create_id("sess"), created_at=now, updated_at=now)
    record, created = await store.fork_session(session_id, fork, last_seq=last_seq)
    if created:
        payload = SessionCreatedPayload(record.id, record.model, record.parent_id, record.origin_id)
        events.for_session(record.id).publish(MnesisEvent.SESSION_CREATED, payload)
    return record
