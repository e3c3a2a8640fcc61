"""Transactions on the leases on turns.

The listener of a store holds an advisory lock on the number of the store, `origin`, which the lease names. A process that
died has lost that lock, so others do not wait until the lease ends.
"""

from __future__ import annotations

from mnesis.models.turn_lease import TurnLease
from mnesis.store.postgres.rows import Parameters, from_text, to_text
from mnesis.store.postgres.transaction import Answer, Transaction, session_parameters
from mnesis.store.turn_leases import decide_claim, refuse_stale_fence


def claim(
    transaction: Transaction,
    session_id: str,
    holder: str,
    now_ms: int,
    lease_ms: int,
    dead_fence: int | None,
    has_presence: bool,
) -> TurnLease:
    """Claim the turns of a session. Returns the lease after the claim.

    `has_presence` says whether this store holds the advisory lock on its number.
    """
    lock, answer = transaction.lock_session(session_id), _send_lease(transaction, session_id)
    session_pk, stored = lock.read().pk, _lease(answer)
    claimed = decide_claim(stored, holder, now_ms=now_ms, lease_ms=lease_ms, dead_fence=dead_fence)
    if claimed is None:
        assert stored is not None  # noqa: S101  # a session without a lease is free
        return stored
    values: Parameters = {
        "session_pk": session_pk,
        "fence": claimed.fence,
        "holder": to_text(holder),
        "lease_until": claimed.lease_until,
        "origin": transaction.origin if has_presence else None,
    }
    transaction.send("set_turn_lease", values)
    return claimed


def change(
    transaction: Transaction, session_id: str, lease: TurnLease, new_holder: str | None, lease_until: int
) -> bool:
    """Extend or release a lease. Returns False if another holder has it."""
    lock = transaction.lock_session(session_id)
    values: Parameters = {
        "fence": lease.fence,
        "holder": to_text(lease.holder or ""),
        "new_holder": None if new_holder is None else to_text(new_holder),
        "lease_until": lease_until,
    }
    changed = transaction.send("change_turn_lease", session_parameters(session_id) | values)
    lock.read()
    return changed.row() is not None


def send_fence(transaction: Transaction, session_id: str, fence: int | None) -> Answer | None:
    """Send the query for the lease, if the writer needs one."""
    return None if fence is None else transaction.send("turn_fence", session_parameters(session_id))


def refuse_lost_turn(session_id: str, fence: int | None, answer: Answer | None) -> None:
    """Raise `TurnLostError` if a writer with this fence no longer holds the turn."""
    if answer is not None:
        row = answer.row()
        refuse_stale_fence(session_id, fence, row[0] if row is not None else None)


def _send_lease(transaction: Transaction, session_id: str) -> Answer:
    return transaction.send("turn_lease", session_parameters(session_id))


def _lease(answer: Answer) -> TurnLease | None:
    row = answer.row()
    if row is None:
        return None
    holder, fence, lease_until, is_connected = row
    return TurnLease(None if holder is None else from_text(holder), fence, lease_until, is_connected)
