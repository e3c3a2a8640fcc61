"""One message of a request while it is being rendered. Pure functions, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

OPENING_TEXT = "[The conversation begins with the assistant.]"
"""The text of a user message that is added before an assistant message at the beginning, if the provider rejects
that."""


@dataclass(slots=True)  # not frozen, which takes twice as long: each request creates one for each message
class Step:
    """One rendered message, with the tokens of the message that it came from. `is_summary` marks a summary's message."""

    message: dict[str, Any]
    tokens: int = 0
    is_summary: bool = False

    @property
    def role(self) -> str:
        """The role of the message."""
        return str(self.message["role"])


def is_flat_message(message: dict[str, Any]) -> bool:
    """Return whether a message is nothing but a role and a text, as most messages are."""
    return len(message) == 2 and type(message["content"]) is str


def copy_chat_message(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message that shares no dict and no list with this one."""
    if is_flat_message(message):
        return message.copy()
    return {key: _copy_json(value) for key, value in message.items()}


def _copy_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy_json(inner) for key, inner in value.items()}
    return [_copy_json(inner) for inner in value] if isinstance(value, list) else value


def content_blocks(content: Any) -> list[dict[str, Any]]:
    """Return content as a list of blocks. A string is one text block."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
