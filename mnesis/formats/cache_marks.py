"""The places of cache marks in a request. Pure functions, no I/O.

With a mark, the provider writes the text before it to the cache, and reads what an earlier request wrote at or shortly
before that place. Four places are marked: the end of tools and system prompt, the last summary, the newest message, and
the newest message of the request before. The last mark is exactly at the end of the previous request, so a step with
any number of calls does not exceed the provider's look-back of 20 blocks (platform.claude.com, prompt caching).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mnesis.formats.step import Step, content_blocks
from mnesis.models.dialects import PromptCache


@dataclass(frozen=True, slots=True)
class MarkSettings:
    """How to mark a request. `prefix_tokens` are the tokens of tools and system prompt, `lifetime` is "5m" or "1h"."""

    cache: PromptCache
    min_tokens: int
    lifetime: str
    prefix_tokens: int
    awaits_user_message: bool = False
    """Whether the caller will append the next user message to the request."""

    @property
    def mark(self) -> dict[str, str]:
        """The value of `cache_control`."""
        return {"type": "ephemeral"} if self.lifetime == "5m" else {"type": "ephemeral", "ttl": self.lifetime}

    @property
    def marks_prefix(self) -> bool:
        """Whether tools and system prompt are long enough to be cached."""
        return self.prefix_tokens >= self.min_tokens


def mark_places(steps: Sequence[Step], settings: MarkSettings) -> set[int]:
    """Return the indices of the steps that carry a mark, at most three."""
    conversation = [i for i, step in enumerate(steps) if step.role != "system"]
    if not conversation:
        return set()
    newest = conversation[-1]
    summary = max((i for i in conversation if steps[i].is_summary), default=None)
    places = {newest, summary, _previous_end(steps, conversation, settings.awaits_user_message)}
    ends, total = {}, settings.prefix_tokens
    for index in conversation:
        total += steps[index].tokens
        ends[index] = total
    return {index for index in places if index is not None and ends[index] >= settings.min_tokens}


def _previous_end(steps: Sequence[Step], conversation: Sequence[int], awaits_user_message: bool) -> int | None:
    """Return the index of the last step of the previous request. None if there was none."""
    if awaits_user_message:
        # The previous request has neither the user's newest message nor the replies to it.
        start = next((i for i in reversed(conversation) if steps[i].role == "user" and not steps[i].is_summary), None)
    else:
        start = next((i for i in reversed(conversation) if steps[i].role == "assistant"), None)
    if start is None:
        return None
    before = [i for i in conversation if i < start and (awaits_user_message or steps[i].role != "assistant")]
    return before[-1] if before else None


def mark_chat_step(message: dict[str, Any], mark: dict[str, str]) -> dict[str, Any]:
    """Return a chat message with a mark at its end.

    litellm moves a mark on a tool message to the tool result, and one on a call to the tool use. A mark inside a result would be
    rejected (caozhiyuan/copilot-api#241).
    """
    if message["role"] == "tool":
        return {**message, "cache_control": mark}
    if calls := message.get("tool_calls"):
        return {**message, "tool_calls": [*calls[:-1], {**calls[-1], "cache_control": mark}]}
    *blocks, last = content_blocks(message["content"])
    return {**message, "content": [*blocks, {**last, "cache_control": mark}]}


def mark_blocks(blocks: Sequence[dict[str, Any]], mark: dict[str, str]) -> list[dict[str, Any]]:
    """Return Anthropic blocks with a mark on the last one that can carry it. Thinking cannot (Wei-Shaw/sub2api#225)."""
    marked = list(blocks)
    for index in range(len(marked) - 1, -1, -1):
        if marked[index]["type"] not in ("thinking", "redacted_thinking"):
            marked[index] = {**marked[index], "cache_control": mark}
            break
    return marked
