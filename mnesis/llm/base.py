"""The interface to language models: two methods and plain values.

`complete` returns the whole answer. `stream` yields pieces as they arrive and the whole answer last. If the call fails,
both raise an `LLMError` of `mnesis.errors` and nothing else. Clients do not retry; `mnesis.llm.retry` does.
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
    """One call of a model.

    `messages` are chat-completions dicts, with the system prompt first if there is one. `tools` are chat-completions
    tool dicts. With `max_output_tokens` None, the provider decides. `options` are further arguments, passed on
    unchanged. `purpose` is the purpose of the call: `turn`, `summary`, `map` and so on. `response_schema` is the JSON
    Schema of the answer, for providers that can enforce it; the messages contain it as well.
    """

    model: str
    messages: Sequence[dict[str, Any]]
    tools: Sequence[dict[str, Any]] = ()
    max_output_tokens: int | None = None
    timeout_seconds: float = 600.0
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    purpose: str = "turn"
    response_schema: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an answer: text or reasoning."""

    text: str = ""
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class LLMReply:
    """A whole answer.

    `usage` is None if the provider reported none. `cost` is in US dollars, 0.0 if unknown. `reasoning_blocks` are opaque
    blocks (signed thinking) that the provider must get back verbatim. `text_provider` is opaque data that the provider wants back
    with the text.
    """

    text: str = ""
    reasoning: str = ""
    reasoning_blocks: tuple[dict[str, Any], ...] = ()
    text_provider: dict[str, Any] | None = None
    tool_calls: tuple[ToolPart, ...] = ()
    usage: TokenUsage | None = None
    cost: float = 0.0
    finish_reason: str = "stop"
    model: str = ""


@runtime_checkable
class LLM(Protocol):
    """A client for language models.

    A client may also have an async method `prepare()`; see `prepare_client`. A client with an attribute
    `accepts_cache_marks = True` also receives requests with cache marks (`cache_control`), if its model's provider caches on
    request.
    """

    async def complete(self, request: LLMRequest) -> LLMReply:
        """Call the model and return the whole answer."""
        ...

    def stream(self, request: LLMRequest) -> AsyncIterator[Delta | LLMReply]:
        """Call the model; yield pieces as they arrive, then the whole answer as the last item."""
        ...


async def prepare_client(llm: LLM) -> None:
    """Let a client do slow work that no time limit of a call should include, such as importing its library.

    Calls the client's `prepare()` if it has one. Call it before a time limit starts.
    """
    prepare = getattr(llm, "prepare", None)
    if callable(prepare):
        await prepare()


@asynccontextmanager
async def closing_stream(pieces: AsyncIterator[Delta | LLMReply]) -> AsyncIterator[AsyncIterator[Delta | LLMReply]]:
    """Close a stream on exit if it is a generator, so that its connection is closed too."""
    try:
        yield pieces
    finally:
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()
