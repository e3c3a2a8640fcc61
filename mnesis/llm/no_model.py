"""A client without a model, for conversations that are only recorded."""

from __future__ import annotations

from collections.abc import AsyncIterator

from mnesis.errors import NoModelError
from mnesis.llm.base import Delta, LLMReply, LLMRequest


class NoModel:
    """A client that calls no model.

    Compaction works at level 3; `send()` raises `NoModelError`.
    """

    async def complete(self, request: LLMRequest) -> LLMReply:
        """Raise `NoModelError`."""
        raise NoModelError(
            "the session has no model: open it with model='openai/gpt-4o' or another model, or with a client as llm=, then"
            " continue this turn with retry(); to store turns of your own client, use record()",
            model=request.model,
        )

    async def stream(self, request: LLMRequest) -> AsyncIterator[Delta | LLMReply]:
        """Raise `NoModelError`."""
        yield await self.complete(request)
