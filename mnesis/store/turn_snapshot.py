"""The snapshot of a turn, taken from the session after it. Pure functions, no I/O."""

from __future__ import annotations

from collections.abc import Sequence

from mnesis.models.message import Message
from mnesis.models.results import ContextBreakdown, TurnSnapshot
from mnesis.models.session import SessionRecord


def role_at_end(messages: Sequence[Message]) -> str:
    """Return the role with which a turn of these messages ends."""
    return messages[-1].role if messages else "assistant"


def snapshot_turn(session: SessionRecord, messages: Sequence[Message]) -> TurnSnapshot:
    """Return the snapshot of a turn that ends with these messages. `session` is its state after them."""
    # Built from validated values, so it is not validated again.
    return TurnSnapshot.model_construct(
        turn_index=session.turn_count - 1,
        role=role_at_end(messages),
        seq=session.last_seq,
        context_tokens=ContextBreakdown.model_construct(
            system_prompt=session.system_tokens,
            summary=session.summary_tokens,
            messages=session.message_tokens,
            tool_outputs=session.tool_tokens,
            total=session.stored_tokens,
        ),
        measured_tokens=session.context_tokens,
        created_at=session.updated_at,
    )
