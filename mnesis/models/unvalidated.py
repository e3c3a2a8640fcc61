"""Pydantic values from fields that are known to be valid, without validating them again.

Each window and each append creates dozens of messages from values that were validated before they were stored, and that
their hashes prove unchanged. `BaseModel.model_construct()` does the same, but takes longer than validation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

from mnesis.models.message import Message, Role, TextPart

T = TypeVar("T", bound=BaseModel)

_set_attribute = object.__setattr__
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


def create_unvalidated(kind: type[T], values: Mapping[str, Any], set_names: frozenset[str] | None = None) -> T:
    """Create a value from all fields of its class, in their order. `set_names` are those that do not count as defaults."""
    value = kind.__new__(kind)
    # The attributes that pydantic documents for each instance (docs.pydantic.dev, BaseModel) and `model_construct()` sets.
    _set_attribute(value, "__dict__", values)
    _set_attribute(value, "__pydantic_fields_set__", set(values if set_names is None else set_names))
    _set_attribute(value, "__pydantic_extra__", None)
    _set_attribute(value, "__pydantic_private__", None)
    return value


def create_text_message(
    text: str,
    *,
    id: str,
    role: Role,
    session_id: str = "",
    seq: int = 0,
    created_at: int,
    token_count: int = 0,
    tool_tokens: int = 0,
    model_id: str = "",
    finish_reason: str | None = None,
) -> Message:
    """Create a message that is one text, as most messages are."""
    part = create_unvalidated(TextPart, {"type": "text", "text": text, "provider": None}, _TEXT_FIELDS)
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
