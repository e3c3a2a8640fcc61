"""The lease on the turns of a session, which one process holds to run a turn."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TurnLease:
    """The stored lease on the turns of a session.

    `holder` is None if the session is free. `fence` is larger for each new holder. Each write contains the fence of its
    holder, so a holder that lost the lease without noticing cannot write. `lease_until` is in milliseconds since 1970.
    `is_connected` says whether the holder's process is connected to the store; None if the store does not know.
    """

    holder: str | None
    fence: int
    lease_until: int
    is_connected: bool | None = None
