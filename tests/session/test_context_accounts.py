"""What counts as context: not the tools of a request, and nothing twice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mnesis import MnesisEvent, MnesisSession, TokenUsage
from mnesis.errors import ContextOverflowError
from mnesis.llm.base import Delta, LLMReply, LLMRequest
from mnesis.tokens import TokenEstimator
from tests.session.support import small, talk

COUNT = TokenEstimator()
COUNT.estimate("warm", "openai/gpt-4o")  # tables are loaded here, not in an event loop


def request_tokens(request: LLMRequest) -> int:
    """Count a request as a provider does: messages and tools."""
    return COUNT.estimate(f"{request.messages}{request.tools}", "openai/gpt-4o")


class ReportingLLM:
    """A client that reports the size of each request, `factor` times our own count, and rejects what is too long."""

    def __init__(self, factor: float = 1.0, limit: int | None = None) -> None:
        self.factor, self.limit = factor, limit
        self.sizes: list[int] = []

    async def complete(self, request: LLMRequest) -> LLMReply:
        size = int(request_tokens(request) * self.factor)
        self.sizes.append(size)
        if self.limit is not None and size > self.limit:
            raise ContextOverflowError("too long", model=request.model)
        return LLMReply(text="Noted.", usage=TokenUsage(input=size, output=4))

    async def stream(self, request: LLMRequest) -> AsyncIterator[Delta | LLMReply]:
        yield await self.complete(request)


def tool_of(tokens: int) -> dict[str, Any]:
    """A tool definition of about `tokens` tokens."""
    words = " ".join(f"word{number}" for number in range(tokens // 2))
    return {"type": "function", "function": {"name": "lookup", "description": words, "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    ("model", "tokens"), [("openai/gpt-4o", 46_000), ("anthropic/claude-sonnet-4-5", 75_000)], ids=["128k", "200k"]
)
async def test_many_tools_cause_no_compaction_of_a_short_chat(model: str, tokens: int, db: Path) -> None:
    tool, llm = tool_of(tokens), ReportingLLM()
    size = COUNT.estimate(str(tool), "openai/gpt-4o")
    tool = tool_of(int(tokens * tokens / size))
    async with MnesisSession.open(model=model, db_path=db, llm=llm) as session:
        compactions: list[object] = []
        session.subscribe(MnesisEvent.COMPACTION_TRIGGERED, lambda event, payload: compactions.append(payload))
        for number in range(60):
            await session.send(f"Small turn {number}.", tools=[tool])
        assert compactions == []
        assert session.context_tokens < 5_000
    assert max(llm.sizes) > tokens


async def test_the_retry_after_an_overflow_applies_the_calibration_once(db: Path) -> None:
    llm = ReportingLLM(factor=2.0)
    async with MnesisSession.open(model="openai/gpt-4o", db_path=db, llm=llm, config=small(auto=False)) as session:
        await talk(session, 24, words=12)
        await session.send("First.")
        llm.limit = llm.sizes[-1] - 1
        await session.send("Second.")
    rejected, retried = llm.sizes[-2:]
    assert rejected > llm.limit
    assert 0.45 * rejected < retried <= llm.limit


async def test_one_warning_says_that_tools_take_most_of_the_window(db: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with MnesisSession.open(model="openai/gpt-4o", db_path=db, llm=ReportingLLM(), config=small()) as session:
        await session.send("Hello.", tools=[tool_of(1_000)])
        assert "tool definitions" not in caplog.text
        for number in range(3):
            await session.send(f"Turn {number}.", tools=[tool_of(4_000)])
    warnings = [record for record in caplog.records if "tool definitions" in record.getMessage()]
    assert len(warnings) == 1
    assert "offer fewer tools" in warnings[0].getMessage()


async def test_a_long_system_prompt_beside_tools_causes_no_sweep_each_turn(db: Path) -> None:
    prompt = " ".join(f"rule{number}" for number in range(12_000))
    llm, triggered = ReportingLLM(), []
    async with MnesisSession.open(model="openai/gpt-4o", db_path=db, llm=llm, system_prompt=prompt) as session:
        assert session.budget.system_tokens > 20_000
        session.subscribe(MnesisEvent.COMPACTION_TRIGGERED, lambda event, payload: triggered.append(payload))
        for number in range(20):
            await session.send(f"Small turn {number}.", tools=[tool_of(23_000)])
    assert triggered == []


async def test_a_reply_that_arrives_after_a_fold_leaves_the_folded_size(db: Path) -> None:
    class FoldingLLM(ReportingLLM):
        async def complete(self, request: LLMRequest) -> LLMReply:
            if len(self.sizes) == 1 and request.purpose != "summary":
                await session.compact()
            return await super().complete(request)

    llm = FoldingLLM()
    async with MnesisSession.open(model="openai/gpt-4o", db_path=db, llm=llm, config=small(auto=False)) as session:
        await talk(session, 20)
        await session.send("First.")
        before = session.context_tokens
        await session.send("Second.")
        assert session.context_tokens < before / 2
        assert session.context_tokens < llm.sizes[-1] / 2
