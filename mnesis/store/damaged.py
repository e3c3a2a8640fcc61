"""Replacements for damaged rows, so that they do not hide the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from mnesis.models.message import Message, TextPart
from mnesis.models.session import NO_MODEL, SessionRecord
from mnesis.store.codec import DamagedValueError

Row = tuple[Any, ...]


def damaged_message(session_id: str, seq: int, damage: str) -> Message:
    """Return a message that reports the stored message at this place as damaged or missing."""
    text = f"[message {seq} cannot be shown: {damage}]"
    return Message(
        id=f"damaged-{seq}", session_id=session_id, seq=seq, role="system", parts=(TextPart(text=text),), damage=damage
    )


def damaged_session(row: Sequence[Any], damage: str) -> SessionRecord:
    """Return a record for a row that begins with key, id, parent and creation time."""
    _, session_id, parent_id, created_at = row[:4]
    return SessionRecord(
        id=str(session_id),
        model=NO_MODEL,
        parent_id=parent_id if isinstance(parent_id, str) else None,
        created_at=created_at if isinstance(created_at, int) else 0,
        damage=damage,
    )


def mark_damage(
    session_id: str, rows: Iterable[Row | None], first_seq: int, decode: Callable[[str, Row], Message]
) -> Iterator[Message]:
    """Convert one row for each seq from `first_seq` on. A row that is None or damaged becomes a message that reports
    the damage.
    """
    for seq, row in enumerate(rows, first_seq):
        try:
            yield (
                damaged_message(session_id, seq, "it is missing or cannot be read")
                if row is None
                else decode(session_id, row)
            )
        except (DamagedValueError, UnicodeEncodeError, TypeError):
            yield damaged_message(session_id, seq, "it is not what was stored")


def refuse_gaps(session_id: str, messages: Sequence[Message], expected_seqs: Iterable[int]) -> None:
    """Raise `DamagedValueError` if a message is missing."""
    stored = {message.seq for message in messages}
    missing = next((seq for seq in expected_seqs if seq not in stored), None)
    if missing is not None:
        raise DamagedValueError(f"message {missing} of session {session_id!r}, which is missing,")
