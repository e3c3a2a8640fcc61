"""No model at all: for conversations that are only recorded."""

from __future__ import annotations

from collections.abc import AsyncIterator

from mnesis.errors import LLMAuthenticationError
from mnesis.llm.base import Delta, LLMReply, LLMRequest


class NoModel:
    """A client that calls nothing. Compaction then works without a model (level 3); `send()` says that there is none."""

    async def complete(self, request: LLMRequest) -> LLMReply:
        raise LLMAuthenticationError("no model is configured here; give llm= or use record()", model=request.model)

    async def stream(self, request: LLMRequest) -> AsyncIterator[Delta | LLMReply]:
        yield await self.complete(request)
