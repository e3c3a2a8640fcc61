"""Transactions on the leases on turns."""

from __future__ import annotations

import sqlite3

from mnesis.models.turn_lease import TurnLease
from mnesis.store.sqlite.accounts import load_session
from mnesis.store.sqlite.queries import sql
from mnesis.store.turn_leases import decide_claim, refuse_stale_fence


def claim(
    connection: sqlite3.Connection, session_id: str, holder: str, now_ms: int, lease_ms: int, dead_fence: int | None
) -> TurnLease:
    """Claim the turns of a session. Returns the lease after the claim."""
    session_pk = load_session(connection, session_id).pk
    stored = _load(connection, session_pk)
    claimed = decide_claim(stored, holder, now_ms=now_ms, lease_ms=lease_ms, dead_fence=dead_fence)
    if claimed is None:
        assert stored is not None  # noqa: S101  # a session without a lease is free
        return stored
    values = {"fence": claimed.fence, "holder": claimed.holder, "lease_until": claimed.lease_until}
    connection.execute(sql("set_turn_lease"), values | {"session_pk": session_pk})
    return claimed


def renew(connection: sqlite3.Connection, session_id: str, lease: TurnLease, now_ms: int, lease_ms: int) -> bool:
    """Extend a lease. Returns False if another holder has it."""
    return _change(connection, session_id, lease, lease.holder, now_ms + lease_ms)


def release(connection: sqlite3.Connection, session_id: str, lease: TurnLease) -> None:
    """Free the session. Does nothing if another holder has it."""
    _change(connection, session_id, lease, None, 0)


def refuse_lost_turn(connection: sqlite3.Connection, session_pk: int, session_id: str, fence: int | None) -> None:
    """Raise `TurnLostError` if a writer with this fence no longer holds the turn."""
    if fence is not None:
        lease = _load(connection, session_pk)
        refuse_stale_fence(session_id, fence, lease.fence if lease is not None else None)


def _load(connection: sqlite3.Connection, session_pk: int) -> TurnLease | None:
    row = connection.execute(sql("turn_lease"), {"session_pk": session_pk}).fetchone()
    return TurnLease(*row) if row is not None else None


def _change(
    connection: sqlite3.Connection, session_id: str, lease: TurnLease, new_holder: str | None, lease_until: int
) -> bool:
    session_pk = load_session(connection, session_id).pk
    parameters = {
        "session_pk": session_pk,
        "fence": lease.fence,
        "holder": lease.holder,
        "new_holder": new_holder,
        "lease_until": lease_until,
    }
    return connection.execute(sql("change_turn_lease"), parameters).rowcount == 1
