"""A function as a language model."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, cast

from mnesis.concurrency import run_in_daemon_thread
from mnesis.errors import LLMError, LLMResponseError, LLMTimeoutError
from mnesis.llm.base import Delta, LLMReply, LLMRequest

Answer = str | LLMReply
AnswerFunction = Callable[[list[dict[str, Any]]], Answer | Awaitable[Answer]]


class CallableLLM:
    """A client that calls `function(messages)`, which returns the text or an `LLMReply`.

    A plain function runs in a worker thread, a coroutine function in the event loop. An exception of the function is
    raised as an `LLMError` with the original as its cause.
    """

    def __init__(self, function: AnswerFunction) -> None:
        self.function = function

    async def complete(self, request: LLMRequest) -> LLMReply:
        """Call the function and return its answer.

        Raises `LLMTimeoutError` after the request's time limit, `LLMResponseError` if the function returns neither a str
        nor an `LLMReply`, and `LLMError` for any exception of the function.
        """
        try:
            async with asyncio.timeout(request.timeout_seconds):
                answer = await self._call(request)
        except TimeoutError as error:
            raise LLMTimeoutError(
                f"{self._name} gave no answer within {request.timeout_seconds:g} s", model=request.model
            ) from error
        if isinstance(answer, str):
            return LLMReply(text=answer, model=request.model)
        if isinstance(answer, LLMReply):
            return answer
        raise LLMResponseError(
            f"{self._name} returned {type(answer).__name__}; return a str or an LLMReply", model=request.model
        )

    async def stream(self, request: LLMRequest) -> AsyncGenerator[Delta | LLMReply, None]:
        """Call the function; yield the whole text as one piece, then the reply."""
        reply = await self.complete(request)
        if reply.text or reply.reasoning:
            yield Delta(text=reply.text, reasoning=reply.reasoning)
        yield reply

    @property
    def _name(self) -> str:
        return str(getattr(self.function, "__qualname__", None) or type(self.function).__qualname__)

    async def _call(self, request: LLMRequest) -> object:
        try:
            return await self._run_function(list(request.messages))
        except LLMError:
            raise
        except Exception as error:  # any exception of a user's function is a failed call
            raise LLMError(f"{self._name} raised {type(error).__name__}: {error}", model=request.model) from error

    async def _run_function(self, messages: list[dict[str, Any]]) -> object:
        if inspect.iscoroutinefunction(self.function) or inspect.iscoroutinefunction(
            getattr(self.function, "__call__", None)  # noqa: B004 - a callable object may be async in its __call__
        ):
            return await cast(Awaitable[Answer], self.function(messages))
        answer = await run_in_daemon_thread(lambda: self.function(messages))
        return await answer if inspect.isawaitable(answer) else answer
