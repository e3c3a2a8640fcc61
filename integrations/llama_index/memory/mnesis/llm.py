"""LlamaIndex models as the client that writes a session's summaries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from anyio import to_thread
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms.llm import LLM

from mnesis import concurrency
from mnesis.engine.engine import Engine
from mnesis.errors import LLMError
from mnesis.llm.base import Delta, LLMReply, LLMRequest
from mnesis.llm.no_model import NoModel


class ChatModelClient:
    """A LlamaIndex LLM as an `mnesis.llm.base.LLM`.

    It is called with `achat` on the loop of whoever is waiting, so that its connections stay where they belong. For
    synchronous callers it is called with `chat` in a worker thread: the loop that serves them is never held up.
    """

    def __init__(self, llm: LLM) -> None:
        self._llm = llm

    async def complete(self, request: LLMRequest) -> LLMReply:
        """The model's answer. Raises `LLMError` for whatever the model raises."""
        messages = [ChatMessage(role=each["role"], content=each["content"]) for each in request.messages]
        try:
            response = await self._answer(messages)
        except Exception as error:  # a user's model may raise anything; for the engine it is a failed call
            name = type(self._llm).__name__
            raise LLMError(f"{name} raised {type(error).__name__}: {error}", model=request.model) from error
        return LLMReply(text=response.message.content or "", model=request.model)

    async def stream(self, request: LLMRequest) -> AsyncIterator[Delta | LLMReply]:
        """The whole answer as one piece, then the reply."""
        reply = await self.complete(request)
        if reply.text:
            yield Delta(text=reply.text)
        yield reply

    async def _answer(self, messages: Sequence[ChatMessage]) -> Any:
        if asyncio.get_running_loop() is concurrency.background_loop():
            return await to_thread.run_sync(self._llm.chat, messages, abandon_on_cancel=True)
        return await self._llm.achat(messages)


def client_for(llm: object | None, engine: Engine) -> object | None:
    """What a session takes as `llm`. None given: the engine's own client where it has one, else no model at all (level 3);
    never LlamaIndex's global setting."""
    if isinstance(llm, LLM):
        return ChatModelClient(llm)
    if llm is not None:
        return llm
    return None if engine.has_own_llm else NoModel()


def context_window(llm: object | None) -> int | None:
    """Tokens of a model's window; None if it does not say."""
    window = getattr(getattr(llm, "metadata", None), "context_window", None)
    return window if isinstance(window, int) and window > 0 else None
