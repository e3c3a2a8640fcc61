"""What summaries cost: reported on each result, and part of the session's lifetime sums."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mnesis import MnesisConfig, MnesisSession
from mnesis.config import CompactionConfig
from mnesis.engine import Engine
from mnesis.errors import StaleContextError
from mnesis.llm.base import LLMReply, LLMRequest
from mnesis.models.usage import TokenUsage
from mnesis.testing import ScriptedLLM
from tests.support.histories import turns
from tests.support.summaries import acceptable_summary
from tests.support.sweep_harness import SESSION, SweepHarness, llm_from

USAGE = TokenUsage(input=900, output=30, total=930)


@pytest.fixture(autouse=True)
def _mock_switch_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MNESIS_MOCK_LLM", raising=False)


@pytest.fixture(params=["memory", "file"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Engine]:
    async with Engine(":memory:" if request.param == "memory" else tmp_path / "a.db") as engine:
        yield engine


async def fill(session: MnesisSession) -> None:
    for turn in range(8):
        await session.record(f"Ship order-{turn} to Agent{turn}. " * 20, f"Sent parcel-{turn} by boat. " * 20)


def costly(text: str | None = None) -> ScriptedLLM:
    """Return a model whose every call costs half a dollar."""
    return llm_from(
        lambda request: LLMReply(text=acceptable_summary(request) if text is None else text, usage=USAGE, cost=0.5)
    )


async def test_a_sessions_sums_contain_its_summaries_and_survive_load(engine: Engine) -> None:
    async with MnesisSession.open(model="openai/test", engine=engine, llm=costly()) as session:
        await fill(session)
        before, cost = session.token_usage, session.cost
        result = await session.compact()
        assert (result.usage, result.cost) == (USAGE, 0.5)
        assert (session.token_usage, session.cost) == (before + USAGE, cost + 0.5)
        known = (session.token_usage, session.cost)
    async with await MnesisSession.load(session.id, engine=engine) as loaded:
        assert (loaded.token_usage, loaded.cost) == known


async def test_rejected_attempts_are_paid_for_and_counted(engine: Engine) -> None:
    async with MnesisSession.open(model="openai/test", engine=engine, llm=costly("OK.")) as session:
        await fill(session)
        before = session.cost
        result = await session.compact()
        assert result.level_used == 3
        assert (result.usage, result.cost) == (USAGE + USAGE, 1.0)
        assert [attempt.calls for attempt in result.attempts] == [1, 1, 0]
        assert session.cost == before + 1.0


async def test_calls_of_a_sweep_that_changes_nothing_are_counted_too() -> None:
    """A summary that is not smaller than what it replaces with its fence is dropped, and paid for."""
    harness = await SweepHarness().begin(turns(10))
    before = (await harness.store.session(SESSION)).context_tokens
    sweep = harness.sweep_of(costly())
    build = sweep._build_summary
    sweep._build_summary = lambda *args: build(*args).model_copy(update={"token_count": 10**6})  # type: ignore[method-assign]
    outcome = await sweep.run()
    assert (outcome.result.level_used, outcome.result.cost) == (0, 0.5)
    assert (outcome.session.cost, outcome.session.context_tokens) == (0.5, before)
    assert await harness.store.compactions(SESSION) == []
    await harness.check()


async def test_spending_on_a_changed_context_is_counted_once() -> None:
    harness = await SweepHarness().begin(turns(10))
    calls = 0

    async def answer(request: LLMRequest) -> LLMReply:
        nonlocal calls
        calls += 1
        if calls == 1:  # another writer hides a span that is being summarised
            await harness.store.hide(SESSION, 1, 2)
        return LLMReply(text=acceptable_summary(request), usage=USAGE, cost=0.5)

    outcome = await harness.sweep_of(llm_from(answer)).run()
    assert calls == 2
    assert outcome.result.cost == 1.0
    assert (await harness.store.session(SESSION)).cost == 1.0


async def test_a_sweep_that_gives_up_has_counted_its_calls() -> None:
    harness = await SweepHarness().begin(turns(20))
    hidden = 0

    async def answer(request: LLMRequest) -> LLMReply:
        nonlocal hidden
        hidden += 1
        await harness.store.hide(SESSION, hidden, hidden)
        return LLMReply(text=acceptable_summary(request), usage=USAGE, cost=0.5)

    with pytest.raises(StaleContextError):
        await harness.sweep_of(llm_from(answer)).run()
    assert (await harness.store.session(SESSION)).cost == 0.5 * hidden


async def test_opening_and_loading_a_session_call_no_model(engine: Engine) -> None:
    """Also not if its context is far over the thresholds of the configuration that loads it."""
    large = MnesisConfig(model_overrides={"context_limit": 200_000})  # type: ignore[arg-type]  # a dict is accepted
    async with MnesisSession.open(
        model="openai/test", engine=engine, llm=ScriptedLLM([]), session_id="s", config=large
    ) as session:
        for turn in range(40):
            await session.record(f"Ship order-{turn} to Agent{turn}. " * 20, "Sent. " * 100)
        covers = (await engine.store.active_context("s")).covers
    small = MnesisConfig(
        model_overrides={"context_limit": 8_000, "max_output_tokens": 500},  # type: ignore[arg-type]  # a dict is accepted
        compaction=CompactionConfig(compaction_output_budget=1_000),
    )
    model = ScriptedLLM([])
    async with await MnesisSession.load("s", engine=engine, llm=model, config=small):
        await engine.wait_for_tasks()
    assert model.requests == []
    assert (await engine.store.active_context("s")).covers == covers
