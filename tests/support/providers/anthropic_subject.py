"""A request of the Messages API as its rules see it.

Pure functions, no I/O.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby

from tests.support.providers.strict_server import Json, ProviderRequest, StrictServer, blocks_of

# Sources that several rules cite.
CACHE_GUIDE = "anthropics/skills, claude-api/shared/prompt-caching.md"
ERROR_GUIDE = "anthropics/skills, claude-api/shared/error-codes.md"
SDK_TYPES = "anthropics/anthropic-sdk-python, types/message_create_params.py and *_block_param.py"

THINKING_TYPES = ("thinking", "redacted_thinking")


@dataclass
class Subject:
    """A request prepared for the checks: turns are the messages after joining neighbours of one role."""

    server: StrictServer
    request: ProviderRequest
    messages: list[tuple[str, list[Json]]] = field(default_factory=list)
    turns: list[tuple[str, list[Json]]] = field(default_factory=list)

    @property
    def body(self) -> Json:
        return self.request.body

    @property
    def thinking(self) -> str:
        return str((self.body.get("thinking") or {}).get("type", "disabled"))

    @property
    def betas(self) -> str:
        return self.request.headers.get("anthropic-beta", "")

    def blocks(self) -> Iterator[tuple[str, str, Json]]:
        """Yield the place, the role and the block of each message block."""
        for index, (role, blocks) in enumerate(self.messages):
            for position, block in enumerate(blocks):
                yield f"messages.{index}.content.{position}", role, block

    def marked(self) -> Iterator[tuple[str, Json]]:
        """Yield every block that can carry a cache mark, in the order in which the API processes them."""
        for index, tool in enumerate(self.body.get("tools") or []):
            yield f"tools.{index}", tool
        for index, block in enumerate(blocks_of(self.body.get("system"))):
            yield f"system.{index}", block
        for place, _, block in self.blocks():
            yield place, block

    def marks(self) -> list[tuple[str, Json]]:
        return [(place, block["cache_control"]) for place, block in self.marked() if block.get("cache_control")]


def join_turns(messages: list[tuple[str, list[Json]]]) -> list[tuple[str, list[Json]]]:
    """Join neighbouring messages of one role into one turn."""
    groups = groupby(messages, key=lambda message: message[0])
    return [(role, [block for _, blocks in group for block in blocks]) for role, group in groups]


def block_ids(blocks: list[Json], kind: str, key: str) -> list[str]:
    return [str(block.get(key)) for block in blocks if block.get("type") == kind]


def open_loop_start(turns: list[tuple[str, list[Json]]]) -> int | None:
    """Return the index of the assistant turn that opened the tool loop at the end. None if the last turn has no results.

    A loop is one assistant turn for the API: without interleaved thinking, only its first message has thinking (Claude docs,
    extended thinking, "Toggling thinking modes" and the example without interleaved thinking).
    """
    if len(turns) < 2 or turns[-1][0] != "user" or not block_ids(turns[-1][1], "tool_result", "tool_use_id"):
        return None
    start = len(turns) - 2
    while start > 1 and block_ids(turns[start - 1][1], "tool_result", "tool_use_id"):
        if any(block.get("type") != "tool_result" for block in turns[start - 1][1]):
            break  # Claude docs, thinking and prompt caching: other content beside results begins another loop
        start -= 2
    return start
