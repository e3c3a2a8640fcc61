"""A committed change: the event that it is published as, and the cursor that continues after it."""

from __future__ import annotations

from dataclasses import dataclass

from mnesis.events.bus import MnesisEvent
from mnesis.events.payloads import Payload


@dataclass(frozen=True, slots=True)
class Change:
    """One event of the database, whichever process caused it. `cursor` continues after this event."""

    event: MnesisEvent
    payload: Payload
    cursor: str
