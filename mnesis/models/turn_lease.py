"""The lease on the turns of a session: which process may run one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TurnLease:
    """The lease on the turns of a session, as it is stored.

    `holder` is None if the session is free. `fence` is larger for each new holder, and what a holder writes names its fence,
    so that a holder that lost the lease without noticing cannot write. `lease_until` is in milliseconds since 1970.
    `is_connected` says whether the store sees that the holder's process is connected; None if it cannot tell.
    """

    holder: str | None
    fence: int
    lease_until: int
    is_connected: bool | None = None
