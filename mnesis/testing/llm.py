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
from mnesis.llm.mock import estimate_usage, split_words
from mnesis.models.usage import TokenUsage


@dataclass(frozen=True, slots=True)
class FailAfter:
    """A script item: a reply that fails after `text` with `error`, by default a broken connection."""

    text: str
    error: Exception | None = None


Scripted = str | LLMReply | Exception | FailAfter | Callable[[LLMRequest], Any]
"""One item of a script. A callable gets the request and returns any other item; it may be async."""


class ScriptedLLM:
    """A model client that replies with the items of `script` in order and records each request in `requests`.

    A single item instead of a sequence answers every request, as does the last item with `repeat_last`. A call after the
    end of the script raises AssertionError. `usage` is the usage of replies without one: "estimate" (counted from the
    text), a fixed TokenUsage, or None for a provider that reports none. Until `gate` is set, replies wait; their requests
    are recorded already.
    """

    def __init__(
        self,
        script: Sequence[Scripted] | Scripted = (),
        *,
        repeat_last: bool = False,
        usage: TokenUsage | Literal["estimate"] | None = "estimate",
        gate: asyncio.Event | None = None,
    ) -> None:
        is_single = isinstance(script, str) or not isinstance(script, Sequence)
        self._script: list[Any] = [script] if is_single else list(script)  # type: ignore[arg-type]  # not single: a sequence
        self._repeat_last = repeat_last or is_single
        self._usage = usage
        self.gate = gate
        self.requests: list[LLMRequest] = []

    async def complete(self, request: LLMRequest) -> LLMReply:
        """Return the next reply of the script."""
        item = await self._next(request)
        if isinstance(item, FailAfter):
            raise _error(item)
        return self._reply(item, request)

    async def stream(self, request: LLMRequest) -> AsyncGenerator[Delta | LLMReply, None]:
        """Yield the next reply of the script word by word, then the complete reply."""
        item = await self._next(request)
        is_broken = isinstance(item, FailAfter)
        reply = self._reply(item.text if is_broken else item, request)
        if reply.reasoning:
            yield Delta(reasoning=reply.reasoning)
        for piece in split_words(reply.text):
            yield Delta(text=piece)
        if is_broken:
            raise _error(item)
        yield reply

    async def _next(self, request: LLMRequest) -> Any:
        self.requests.append(copy.deepcopy(request))
        item = self._item(len(self.requests))
        if self.gate is not None:
            await self.gate.wait()
        while callable(item):
            item = item(request)
            if inspect.isawaitable(item):
                item = await item
        if isinstance(item, BaseException):
            raise item
        return item

    def _item(self, number: int) -> Any:
        if number > len(self._script) and not (self._repeat_last and self._script):
            raise AssertionError(f"request {number} arrived, but the script has only {len(self._script)} item(s)")
        return self._script[min(number, len(self._script)) - 1]

    def _reply(self, item: Any, request: LLMRequest) -> LLMReply:
        reply = LLMReply(text=item) if isinstance(item, str) else item
        if not isinstance(reply, LLMReply):
            raise AssertionError(f"a scripted reply must be a str or an LLMReply, not {item!r}")
        usage = reply.usage or self._usage
        if usage == "estimate":
            usage = estimate_usage(request.messages, reply.text)
        return replace(reply, usage=usage, model=reply.model or request.model)


def _error(item: FailAfter) -> Exception:
    return item.error or LLMConnectionError("the connection broke in the middle of the reply", partial_text=item.text)
