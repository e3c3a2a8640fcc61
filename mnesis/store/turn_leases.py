"""Leases on turns: the verbs of a store, and the rules that all stores share."""

from __future__ import annotations

from typing import Protocol

from mnesis.errors import TurnLostError
from mnesis.models.turn_lease import TurnLease


class TurnLeaseStore(Protocol):
    """Storage for leases on turns. Every verb on an unknown session raises `SessionNotFoundError`.

    Times are milliseconds since 1970. The caller passes the current time, so that leases can be tested. A lease is not
    part of the log, so no verb here adds a change that followers see.
    """

    async def claim_turn(
        self, session_id: str, holder: str, *, now_ms: int, lease_ms: int, dead_fence: int | None = None
    ) -> TurnLease:
        """Claim the turns of a session if they are free or the lease has ended, and return the current lease.

        The claim succeeded if the returned lease names `holder`. `dead_fence` is the fence of a holder that is known to be
        dead: its lease counts as ended. Repeating a claim that succeeded extends it.
        """
        ...

    async def renew_turn(self, session_id: str, lease: TurnLease, *, now_ms: int, lease_ms: int) -> bool:
        """Extend a lease. A lease that has ended can be extended if no other holder has claimed it. Returns False if
        another holder has claimed it.
        """
        ...

    async def release_turn(self, session_id: str, lease: TurnLease) -> None:
        """Free the session for the next holder. Does nothing if another holder has it."""
        ...


def decide_claim(
    stored: TurnLease | None, holder: str, *, now_ms: int, lease_ms: int, dead_fence: int | None
) -> TurnLease | None:
    """Return the lease to store for a claim, or None if `stored` still excludes the claimant. Does no I/O."""
    until = now_ms + lease_ms
    if stored is None:
        return TurnLease(holder, now_ms, until)
    if stored.holder == holder:
        return TurnLease(holder, stored.fence, until)
    if stored.holder is None or stored.lease_until <= now_ms or stored.fence == dead_fence:
        # The fence is at least the current time, so that a session that was purged and created again, or restored from
        # a backup, does not repeat the fence of an earlier holder.
        return TurnLease(holder, max(stored.fence + 1, now_ms), until)
    return None


def refuse_stale_fence(session_id: str, fence: int | None, stored_fence: int | None) -> None:
    """Raise `TurnLostError` if a writer with this fence no longer holds the turn. None writes without a lease. Does no I/O."""
    if fence is not None and fence != stored_fence:
        raise TurnLostError(session_id)
