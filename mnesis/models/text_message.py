"""Fast creation of text-only messages, the most common kind, from fields that are known to be valid."""

from __future__ import annotations

from mnesis.models.message import Message, Role, TextPart
from mnesis.models.unvalidated import create_unvalidated

_TEXT_FIELDS = frozenset({"text"})
_MESSAGE_FIELDS = frozenset(
    {
        "id",
        "session_id",
        "seq",
        "role",
        "parts",
        "created_at",
        "token_count",
        "tool_tokens",
        "model_id",
        "finish_reason",
    }
)


def create_text_part(text: str) -> TextPart:
    """Create a text part without validating it."""
    return create_unvalidated(TextPart, {"type": "text", "text": text, "provider": None}, _TEXT_FIELDS)


def create_text_message(
    part: TextPart,
    id: str,
    role: Role,
    session_id: str = "",
    seq: int = 0,
    created_at: int = 0,
    token_count: int = 0,
    tool_tokens: int = 0,
    model_id: str = "",
    finish_reason: str | None = None,
) -> Message:
    """Create a text-only message without validating its fields."""
    return create_unvalidated(
        Message,
        {
            "id": id,
            "session_id": session_id,
            "seq": seq,
            "role": role,
            "parts": (part,),
            "created_at": created_at,
            "token_count": token_count,
            "tool_tokens": tool_tokens,
            "model_id": model_id,
            "tokens": None,
            "cost": 0.0,
            "finish_reason": finish_reason,
            "is_summary": False,
            "extra": {},
            "damage": None,
        },
        _MESSAGE_FIELDS,
    )
