"""No model is asked for summaries that are too small to succeed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from mnesis import Engine, MnesisSession
from mnesis.llm.base import LLMReply, LLMRequest

TURNS = 25


class CountingModel:
    """Answers each request and counts the summaries it was asked for."""

    def __init__(self) -> None:
        self.summary_requests = 0

    async def complete(self, request: LLMRequest) -> LLMReply:
        if request.purpose != "summary":
            return LLMReply(text="answer " + "words " * 60)
        self.summary_requests += 1
        return LLMReply(text=" ".join(f"fact{number} about valve{number}" for number in range(27)))

    async def stream(self, request: LLMRequest) -> AsyncIterator[LLMReply]:
        yield await self.complete(request)


async def count_summary_requests(window_tokens: int) -> int:
    model = CountingModel()
    async with (
        Engine(":memory:", llm=model, config={"recall": {"tools": False}}) as engine,
        MnesisSession.open(model="m", engine=engine, budget=window_tokens) as session,
    ):
        for number in range(TURNS):
            await session.send(f"question {number} about valve {number} " + "text " * 40)
        await engine.wait_for_tasks()
        assert await session.summaries()
    return model.summary_requests


async def test_a_tiny_window_asks_no_model_for_summaries() -> None:
    assert await count_summary_requests(512) == 0


@pytest.mark.parametrize("window_tokens", [1_024, 2_048])
async def test_a_small_window_asks_for_summaries(window_tokens: int) -> None:
    assert 0 < await count_summary_requests(window_tokens) < TURNS
