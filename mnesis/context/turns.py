"""Where the turns of a conversation begin. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Sequence

from mnesis.models.message import Message


def turn_starts(messages: Sequence[Message]) -> list[int]:
    """Return the indices where user turns begin.

    A turn begins at each user message that does not directly follow another one.
    """
    return [
        i for i, message in enumerate(messages) if message.role == "user" and (i == 0 or messages[i - 1].role != "user")
    ]
