"""A client without a model, for conversations that are only recorded."""

from __future__ import annotations

from collections.abc import AsyncIterator

from mnesis.errors import LLMAuthenticationError
from mnesis.llm.base import Delta, LLMReply, LLMRequest


class NoModel:
    """A client that calls no model.

    Compaction works at level 3; `send()` raises `LLMAuthenticationError`.
    """

    async def complete(self, request: LLMRequest) -> LLMReply:
        raise LLMAuthenticationError(
            "no model is configured; pass llm=, or store the turn with record()", model=request.model
        )

    async def stream(self, request: LLMRequest) -> AsyncIterator[Delta | LLMReply]:
        yield await self.complete(request)
