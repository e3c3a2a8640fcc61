"""Messages and scripted models for LlamaIndex tests."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from typing import Any

from llama_index.core.base.llms import types
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    LLMMetadata,
)
from llama_index.core.llms import CustomLLM
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.memory.mnesis import MnesisMemory
from pydantic import PrivateAttr

MakeMemory = Callable[..., MnesisMemory]

ToolCallBlock: Any = getattr(types, "ToolCallBlock", None)
"""None if llama-index-core only supports the older form of tool calls."""


def user(text: str) -> ChatMessage:
    return ChatMessage(role="user", content=text)


def assistant(text: str) -> ChatMessage:
    return ChatMessage(role="assistant", content=text)


def system(text: str) -> ChatMessage:
    return ChatMessage(role="system", content=text)


def calls(*ids: str, **kwargs: Any) -> ChatMessage:
    if ToolCallBlock is None:
        return old_calls(*ids, **kwargs)
    blocks: list[Any] = [ToolCallBlock(tool_call_id=each, tool_name="look", tool_kwargs=kwargs) for each in ids]
    return ChatMessage(role="assistant", blocks=blocks)


def old_calls(*ids: str, **kwargs: Any) -> ChatMessage:
    written = [
        {"id": each, "type": "function", "function": {"name": "look", "arguments": json.dumps(kwargs)}} for each in ids
    ]
    return ChatMessage(role="assistant", content="", additional_kwargs={"tool_calls": written})


def result(id: str, text: str = "found") -> ChatMessage:
    return ChatMessage(role="tool", content=text, additional_kwargs={"tool_call_id": id})


def turns(count: int, words: int = 12) -> list[ChatMessage]:
    messages: list[ChatMessage] = []
    for number in range(count):
        messages.append(user(f"question {number} " + "alpha " * words))
        messages.append(assistant(f"answer {number} " + "beta " * words))
    return messages


def text_of(messages: Sequence[ChatMessage]) -> str:
    return "\n".join(str(message.content) for message in messages)


class SummaryLLM(CustomLLM):
    """A model that writes short summaries and records its requests and threads. With `fails`, it raises."""

    answer: str = "They spoke about alpha and beta."
    fails: bool = False
    context_window: int = 40_000
    _asked: list[list[ChatMessage]] = PrivateAttr(default_factory=list)
    _threads: list[str] = PrivateAttr(default_factory=list)

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(context_window=self.context_window)

    @property
    def asked(self) -> list[list[ChatMessage]]:
        return self._asked

    @property
    def threads(self) -> list[str]:
        return self._threads

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        self._asked.append(list(messages))
        self._threads.append(threading.current_thread().name)
        if self.fails:
            raise ConnectionError("no route to the model")
        return ChatResponse(message=assistant(self.answer))

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return self.chat(messages, **kwargs)

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return CompletionResponse(text=self.answer)

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        raise NotImplementedError


class AgentLLM(FunctionCallingLLM):
    """A model for agents that replies from a script of messages and records its requests."""

    script: list[ChatMessage] = []
    _asked: list[list[ChatMessage]] = PrivateAttr(default_factory=list)

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(is_function_calling_model=True, context_window=8_000)

    @property
    def asked(self) -> list[list[ChatMessage]]:
        return self._asked

    def _next(self, messages: Sequence[ChatMessage]) -> ChatResponse:
        self._asked.append([message.model_copy(deep=True) for message in messages])
        number = len(self._asked) - 1
        message = self.script[number] if number < len(self.script) else assistant("done")
        return ChatResponse(message=message, delta=message.content or "", raw={})

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return self._next(messages)

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return self._next(messages)

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        yield self._next(messages)

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        async def pieces() -> ChatResponseAsyncGen:
            yield self._next(messages)

        return pieces()

    async def astream_chat_with_tools(
        self, tools: Any, user_msg: Any = None, chat_history: Any = None, **kwargs: Any
    ) -> Any:
        return await self.astream_chat([*(chat_history or []), *([user_msg] if user_msg else [])])

    async def achat_with_tools(self, tools: Any, user_msg: Any = None, chat_history: Any = None, **kwargs: Any) -> Any:
        return self._next([*(chat_history or []), *([user_msg] if user_msg else [])])

    def _prepare_chat_with_tools(self, tools: Any, **kwargs: Any) -> dict[str, Any]:
        return {"messages": kwargs.get("chat_history") or []}

    def get_tool_calls_from_response(self, response: ChatResponse, **kwargs: Any) -> list[ToolSelection]:
        return [
            ToolSelection(
                tool_id=block.tool_call_id or "", tool_name=block.tool_name, tool_kwargs=dict(block.tool_kwargs)
            )  # type: ignore[arg-type]  # scripted as dicts
            for block in response.message.blocks
            if isinstance(block, ToolCallBlock)
        ]

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return CompletionResponse(text=str(self._next([user(prompt)]).message.content))

    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return self.complete(prompt)

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        raise NotImplementedError

    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        raise NotImplementedError
