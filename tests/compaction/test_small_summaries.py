"""A model that exceeds the limits of small summaries is not asked again and again."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from mnesis import Engine, MnesisSession
from mnesis.llm.base import LLMReply, LLMRequest

TURNS = 25


class WordyModel:
    """Writes summaries that are too long for a small window, and counts them."""

    def __init__(self) -> None:
        self.summary_requests = 0

    async def complete(self, request: LLMRequest) -> LLMReply:
        if request.purpose != "summary":
            return LLMReply(text="answer " + "words " * 60)
        self.summary_requests += 1
        return LLMReply(text=" ".join(f"fact{number} about valve{number}" for number in range(27)))

    async def stream(self, request: LLMRequest) -> AsyncIterator[LLMReply]:
        yield await self.complete(request)


@pytest.mark.parametrize("window_tokens", [384, 512])
async def test_a_model_that_is_too_wordy_for_a_window_is_suspended(window_tokens: int) -> None:
    model = WordyModel()
    async with (
        Engine(":memory:", llm=model, config={"recall": {"tools": False}}) as engine,
        MnesisSession.open(model="m", engine=engine, budget=window_tokens) as session,
    ):
        for number in range(TURNS):
            await session.send(f"question {number} about valve {number} " + "text " * 40)
        await engine.wait_for_tasks()
        assert await session.summaries()
    assert 0 < model.summary_requests <= 6
