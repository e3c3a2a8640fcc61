"""The parts of a fork's log that other sessions store."""

from __future__ import annotations

from mnesis.store.forks import Segment
from mnesis.store.postgres.rows import from_text
from mnesis.store.postgres.transaction import Transaction


def load_segments(transaction: Transaction, session_pk: int) -> list[tuple[Segment, str]]:
    """Load the segments of a fork, each with the id of the session that stores it."""
    rows = transaction.rows("segments", {"session_pk": session_pk})
    return [(Segment(first, last, source_pk), from_text(name)) for first, last, source_pk, name in rows]
