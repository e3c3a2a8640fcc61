"""An adapter from LlamaIndex models to the client that writes a session's summaries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from anyio import to_thread
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms.llm import LLM

from mnesis import concurrency
from mnesis.errors import LLMError
from mnesis.llm.base import Delta, LLMReply, LLMRequest


class ChatModelClient:
    """An `mnesis.llm.base.LLM` that calls a LlamaIndex LLM.

    Asynchronous callers use `achat` on their own loop, where the model's connections belong. Synchronous callers use
    `chat` in a worker thread, so the background loop that serves them is never blocked.
    """

    def __init__(self, llm: LLM) -> None:
        self._llm = llm

    async def complete(self, request: LLMRequest) -> LLMReply:
        """Call the model and return its reply.

        Raises `LLMError` for any exception of the model.
        """
        messages = [ChatMessage(role=each["role"], content=each["content"]) for each in request.messages]
        try:
            response = await self._call_model(messages)
        except Exception as error:  # a user's model may raise any exception; for the engine it is a failed call
            name = type(self._llm).__name__
            raise LLMError(f"{name} raised {type(error).__name__}: {error}", model=request.model) from error
        return LLMReply(text=response.message.content or "", model=request.model)

    async def stream(self, request: LLMRequest) -> AsyncIterator[Delta | LLMReply]:
        """Yield the complete text as one delta, then the reply."""
        reply = await self.complete(request)
        if reply.text:
            yield Delta(text=reply.text)
        yield reply

    async def _call_model(self, messages: Sequence[ChatMessage]) -> Any:
        if asyncio.get_running_loop() is concurrency.background_loop():
            return await to_thread.run_sync(self._llm.chat, messages, abandon_on_cancel=True)
        return await self._llm.achat(messages)


def client_for(llm: object | None) -> object | None:
    """Convert a value to the types that a session accepts as `llm`. LlamaIndex's models are wrapped; other values are
    returned unchanged.
    """
    return ChatModelClient(llm) if isinstance(llm, LLM) else llm


def model_name(llm: object | None) -> str | None:
    """Return the name of a model; None if it does not report one."""
    name = getattr(getattr(llm, "metadata", None), "model_name", None)
    return name if isinstance(name, str) and name else None


def context_window(llm: object | None) -> int | None:
    """Return the tokens of a model's window; None if the model does not report them."""
    window = getattr(getattr(llm, "metadata", None), "context_window", None)
    return window if isinstance(window, int) and window > 0 else None
