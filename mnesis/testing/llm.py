"""A language model that answers from a script, for tests."""

from __future__ import annotations

import asyncio
import copy
import inspect
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from mnesis.errors import LLMConnectionError
from mnesis.llm.base import Delta, LLMReply, LLMRequest
from mnesis.llm.mock import estimated_usage, words
from mnesis.models.usage import TokenUsage


@dataclass(frozen=True, slots=True)
class FailAfter:
    """A script item: an answer that breaks off after `text`, with `error` (a broken connection if not given)."""

    text: str
    error: Exception | None = None


Scripted = str | LLMReply | Exception | FailAfter | Callable[[LLMRequest], Any]
"""One item of a script. A callable takes the request and returns any other item; it may be async."""


class ScriptedLLM:
    """Gives the answers of `script` in order and keeps every request in `requests`.

    A single item in place of a sequence answers every request, as the last one does with `repeat_last`. Past the end of
    the script a call raises AssertionError. `usage` is what answers without one report: "estimate" (counted from the
    text), a fixed TokenUsage, or None for a provider that reports nothing. While `gate` is not set, answers are held
    back (their requests are recorded).
    """

    def __init__(
        self,
        script: Sequence[Scripted] | Scripted = (),
        *,
        repeat_last: bool = False,
        usage: TokenUsage | Literal["estimate"] | None = "estimate",
        gate: asyncio.Event | None = None,
    ) -> None:
        single = isinstance(script, str) or not isinstance(script, Sequence)
        self._script: list[Any] = [script] if single else list(script)  # type: ignore[arg-type]  # not single: a sequence
        self._repeat_last = repeat_last or single
        self._usage = usage
        self._gate = gate
        self.requests: list[LLMRequest] = []

    async def complete(self, request: LLMRequest) -> LLMReply:
        """The next answer of the script."""
        item = await self._next(request)
        if isinstance(item, FailAfter):
            raise _error(item)
        return self._reply(item, request)

    async def stream(self, request: LLMRequest) -> AsyncGenerator[Delta | LLMReply, None]:
        """The next answer of the script, word by word, then whole."""
        item = await self._next(request)
        broken = isinstance(item, FailAfter)
        reply = self._reply(item.text if broken else item, request)
        if reply.reasoning:
            yield Delta(reasoning=reply.reasoning)
        for piece in words(reply.text):
            yield Delta(text=piece)
        if broken:
            raise _error(item)
        yield reply

    async def _next(self, request: LLMRequest) -> Any:
        self.requests.append(copy.deepcopy(request))
        item = self._item(len(self.requests))
        if self._gate is not None:
            await self._gate.wait()
        while callable(item):
            item = item(request)
            if inspect.isawaitable(item):
                item = await item
        if isinstance(item, BaseException):
            raise item
        return item

    def _item(self, number: int) -> Any:
        if number > len(self._script) and not (self._repeat_last and self._script):
            raise AssertionError(f"request {number} came, but the script has {len(self._script)} answer(s)")
        return self._script[min(number, len(self._script)) - 1]

    def _reply(self, item: Any, request: LLMRequest) -> LLMReply:
        reply = LLMReply(text=item) if isinstance(item, str) else item
        if not isinstance(reply, LLMReply):
            raise AssertionError(f"a scripted answer is a str or an LLMReply, not {item!r}")
        usage = reply.usage or self._usage
        if usage == "estimate":
            usage = estimated_usage(request.messages, reply.text)
        return replace(reply, usage=usage, model=reply.model or request.model)


def _error(item: FailAfter) -> Exception:
    return item.error or LLMConnectionError("the connection broke in mid-answer", partial_text=item.text)
