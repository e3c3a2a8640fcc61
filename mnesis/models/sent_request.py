"""The stored facts about a session's newest request, on which the provider's cache depends."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class RequestParts:
    """The content of the newest request outside the conversation: system prompt (None means the session's), tools, and
    arguments.

    Only the process that sent it knows them.
    """

    system_prompt: str | None = None
    tools: tuple[dict[str, Any], ...] = ()
    options: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class SentRequest:
    """The newest request of a session.

    `answered_at` is the time at which its reply was complete, in milliseconds since 1970; its provider may have used
    its cache until then. `lifetime_seconds` is the longest certain lifetime of the provider's cache without use, or
    None if there is no cache. `input_tokens` is the size that the provider reported, and `cached_tokens` the part that
    it read from its cache or wrote to it. The digests identify the parts of the request; they are "" if the caller of
    mnesis sent it. `messages_digest` covers the first `message_count` messages without the system prompt. `fold_count`
    is that of the session when the request was built.
    """

    model: str
    answered_at: int
    lifetime_seconds: float | None = None
    input_tokens: int = 0
    cached_tokens: int = 0
    tools_digest: str = ""
    system_digest: str = ""
    options_digest: str = ""
    messages_digest: str = ""
    message_count: int = 0
    fold_count: int = 0

    def is_expired(self, now: int) -> bool:
        """Return whether the provider's cache has certainly dropped the request at `now`, in milliseconds since
        1970.
        """
        return self.lifetime_seconds is not None and now - self.answered_at > self.lifetime_seconds * 1_000
