"""What the tests of sessions share."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any

from mnesis import CompactionConfig, MnesisConfig, MnesisSession, SessionConfig, ToolPart
from mnesis.llm.base import LLMReply

MODEL = "openai/gpt-4o"
WINDOW = {"context_limit": 8_192, "max_output_tokens": 1_024}


def small(*, session: SessionConfig | None = None, **compaction: Any) -> MnesisConfig:
    """Settings with a window of 8,192 tokens, of which 6,144 are usable: some forty turns of `chatter`."""
    compaction = {"compaction_output_budget": 1_024, **compaction}
    return MnesisConfig(
        compaction=CompactionConfig(**compaction), session=session or SessionConfig(), model_overrides=WINDOW
    )


def chatter(number: int, words: int = 60) -> tuple[str, str]:
    """One turn of about `words` words on each side, with a fact of its own."""
    question = (
        f"Question {number}: the code of drawer {number} is K{number * 7919 % 99991}. "
        + "please note it down " * (words // 4)
    )
    return question, f"Answer {number}: noted. " + "I will keep it in mind " * (words // 5)


async def talk(session: MnesisSession, turns: int, *, first: int = 0, words: int = 60) -> None:
    """Record turns of `chatter`."""
    for number in range(first, first + turns):
        await session.record(*chatter(number, words))


def calls(*named: tuple[str, dict[str, Any]], text: str = "") -> LLMReply:
    """A reply that calls tools, given as (name, arguments); their ids are call_0, call_1, …"""
    parts = tuple(
        ToolPart(tool_name=name, tool_call_id=f"call_{index}", input=arguments)
        for index, (name, arguments) in enumerate(named)
    )
    return LLMReply(text=text, tool_calls=parts, finish_reason="tool_calls")


async def roles(session: MnesisSession) -> str:
    """The log's roles by their initials, such as "uaua"."""
    return "".join(message.role[0] for message in await session.messages())


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Let the loop run until `condition` holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0.001)


@types.coroutine
async def cancelled_at(work: Coroutine[Any, Any, Any], step: int) -> Any:
    """Run `work`, cancelling the task while it waits for the `step`-th time (counted from 1)."""
    return await _driven(work, step)


@types.coroutine
def _driven(work: Coroutine[Any, Any, Any], step: int) -> Generator[Any, Any, Any]:
    waits, resume = 0, partial(work.send, None)
    while True:
        try:
            awaited = resume()
        except StopIteration as done:
            return done.value
        waits += 1
        if waits == step:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        try:
            yield awaited
            resume = partial(work.send, None)
        except BaseException as error:  # handed on to `work`, whatever it is
            resume = partial(work.throw, error)
