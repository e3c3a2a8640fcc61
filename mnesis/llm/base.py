"""The port to language models: two methods, plain values.

`complete` gives the whole answer, `stream` gives pieces as they arrive and the whole answer last. Both raise an
`LLMError` of `mnesis.errors` when there is none; nothing else. Retrying is not theirs (`mnesis.llm.retry`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from mnesis.models.message import ToolPart
from mnesis.models.usage import TokenUsage


@dataclass(frozen=True, slots=True)
class LLMRequest:
    """One call. `messages` are chat-completions dicts, the system prompt first if there is one.

    `tools` are chat-completions tool dicts. `max_output_tokens` None leaves it to the provider. `options` are further
    arguments, passed on as they are. `purpose` says what the call is for: `turn`, `summary`, `map` … `response_schema` is
    the JSON Schema that the answer has to satisfy, for providers that can see to it; the messages tell it as well.
    """

    model: str
    messages: Sequence[dict[str, Any]]
    tools: Sequence[dict[str, Any]] = ()
    max_output_tokens: int | None = None
    timeout_seconds: float = 600.0
    options: dict[str, Any] = field(default_factory=dict)
    purpose: str = "turn"
    response_schema: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an answer: text, or reasoning."""

    text: str = ""
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class LLMReply:
    """A whole answer. `usage` is None where the provider reported none. `cost` is in US dollars, 0.0 where unknown.

    `reasoning_blocks` are what the provider wants back verbatim with the reasoning (signed thinking blocks); opaque.
    """

    text: str = ""
    reasoning: str = ""
    reasoning_blocks: tuple[dict[str, Any], ...] = ()
    tool_calls: tuple[ToolPart, ...] = ()
    usage: TokenUsage | None = None
    cost: float = 0.0
    finish_reason: str = "stop"
    model: str = ""


@runtime_checkable
class LLM(Protocol):
    """A language model client."""

    async def complete(self, request: LLMRequest) -> LLMReply:
        """The whole answer."""
        ...

    def stream(self, request: LLMRequest) -> AsyncIterator[Delta | LLMReply]:
        """Pieces as they arrive, then the whole answer as the last item."""
        ...


@asynccontextmanager
async def closing_stream(pieces: AsyncIterator[Delta | LLMReply]) -> AsyncIterator[AsyncIterator[Delta | LLMReply]]:
    """Hold a stream and close it on the way out if it can be closed (a generator can): its connection ends with it."""
    try:
        yield pieces
    finally:
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()
