"""What bounds the model calls of a compaction: one deadline, a circuit breaker, and spending limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from mnesis import MnesisConfig, MnesisEvent, MnesisSession, RetryConfig, SessionConfig
from mnesis.compaction.limits import Deadline, SpendingLimit
from mnesis.config import CompactionConfig
from mnesis.engine import Engine
from mnesis.errors import LLMAuthenticationError, LLMServerError
from mnesis.llm.base import LLMReply, LLMRequest
from mnesis.models.results import CompactionAttempt, CompactionResult
from mnesis.testing import EventRecorder, ScriptedLLM
from tests.support.histories import turns
from tests.support.summaries import acceptable_summary
from tests.support.sweep_harness import SweepHarness, budget_of, llm_from

pytestmark = pytest.mark.filterwarnings("ignore::mnesis.context.budget.SmallModelWarning")


@pytest.fixture(autouse=True)
def _mock_switch_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MNESIS_MOCK_LLM", raising=False)


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine(":memory:") as engine:
        yield engine


def opened(engine: Engine, llm: object, session_id: str = "s", **compaction: Any) -> AbstractAsyncContextManager[MnesisSession]:  # fmt: skip
    config = MnesisConfig(
        compaction=CompactionConfig(**compaction), session=SessionConfig(retry=RetryConfig(max_retries=0))
    )
    return MnesisSession.open(model="openai/test", engine=engine, llm=llm, config=config, session_id=session_id)


async def compact(session: MnesisSession) -> CompactionResult:
    """Record some turns and fold them."""
    first = len(await session.messages())
    for turn in range(first, first + 6):
        await session.record(f"Ship order-{turn} to Agent{turn}. " * 20, f"Sent parcel-{turn} by boat. " * 20)
    return await session.compact()


class Clock:
    """A clock that a test sets."""

    seconds = 500.0

    def __call__(self) -> float:
        return self.seconds


def find_breaker(engine: Engine, llm: object) -> Any:
    return engine.session_state("s").breakers.find("openai/test", llm)  # type: ignore[arg-type]  # a fake with the two methods


# Circuit breaker


async def test_repeated_failures_suspend_the_model_for_all_sessions(engine: Engine) -> None:
    llm = llm_from(lambda request: LLMServerError("down"))
    async with opened(engine, llm) as session, opened(engine, llm, "other") as other:
        seen = EventRecorder(session.event_bus)
        results = [await compact(session) for _ in range(3)]
        assert len(llm.requests) == 3, "two levels of the first compaction, one of the second"
        assert {result.level_used for result in results} == {3}
        (opening,) = seen.of(MnesisEvent.SUMMARIZER_BREAKER_CHANGED)
        assert (opening.model, opening.state, opening.failures) == ("openai/test", "open", 3)
        assert opening.retry_after_seconds == pytest.approx(300, abs=60)
        assert "down" in opening.reason
        assert results[2].attempts[0].calls == 0
        assert "not called" in str(results[2].attempts[0].rejection)
        assert (await compact(other)).level_used == 3
        assert len(llm.requests) == 3


async def test_after_a_pause_one_call_tries_again_and_the_model_is_used_again(engine: Engine) -> None:
    is_down = True
    llm = llm_from(lambda request: LLMServerError("down") if is_down else acceptable_summary(request))
    clock = Clock()
    find_breaker(engine, llm).clock = clock
    async with opened(engine, llm, summarizer_pause_seconds=300.0) as session:
        seen = EventRecorder(session.event_bus)
        for _ in range(3):
            await compact(session)
        is_down = False
        assert (await compact(session)).level_used == 3
        clock.seconds += 300
        assert (await compact(session)).level_used < 3
        states = [payload.state for payload in seen.of(MnesisEvent.SUMMARIZER_BREAKER_CHANGED)]
        assert states == ["open", "half_open", "closed"]


async def test_a_rejected_key_is_tried_again_later_and_not_at_each_compaction(engine: Engine) -> None:
    errors: list[Any] = [LLMAuthenticationError("no such key", status_code=401), acceptable_summary]
    llm = ScriptedLLM(errors, repeat_last=True)
    clock = Clock()
    find_breaker(engine, llm).clock = clock
    async with opened(engine, llm) as session:
        for _ in range(3):
            assert (await compact(session)).level_used == 3
        assert len(llm.requests) == 1
        clock.seconds += 300
        assert (await compact(session)).level_used < 3


async def test_one_403_of_a_moderation_does_not_suspend_the_model(engine: Engine) -> None:
    """OpenRouter answers 403 if its moderation flags one input (openrouter.ai/docs, errors)."""
    llm = ScriptedLLM([LLMAuthenticationError("flagged", status_code=403), acceptable_summary], repeat_last=True)
    async with opened(engine, llm) as session:
        result = await compact(session)
        assert [(a.level, a.rejection is None) for a in result.attempts] == [(1, False), (2, True)]
        assert (await compact(session)).level_used < 3


async def test_a_model_whose_summaries_are_always_rejected_is_suspended(engine: Engine) -> None:
    is_bad = True
    llm = llm_from(lambda request: "OK." if is_bad else acceptable_summary(request))
    clock = Clock()
    find_breaker(engine, llm).clock = clock
    async with opened(engine, llm) as session:
        seen = EventRecorder(session.event_bus)
        for _ in range(4):
            assert (await compact(session)).level_used == 3
        assert len(llm.requests) == 6, "two levels of three summaries"
        (opening,) = seen.of(MnesisEvent.SUMMARIZER_BREAKER_CHANGED)
        assert (opening.state, opening.failures) == ("open", 3)
        assert "rejected" in opening.reason
        clock.seconds += 300
        assert (await compact(session)).level_used == 3
        assert len(llm.requests) == 7, "one call tried again"
        is_bad = False
        clock.seconds += 300
        assert (await compact(session)).level_used < 3
        states = [payload.state for payload in seen.of(MnesisEvent.SUMMARIZER_BREAKER_CHANGED)]
        assert states == ["open", "half_open", "open", "half_open", "closed"]


async def test_answers_rejected_now_and_then_do_not_suspend_the_model(engine: Engine) -> None:
    llm = llm_from(lambda request: "OK." if len(llm.requests) % 2 else acceptable_summary(request))
    async with opened(engine, llm, max_summarizer_failures=1) as session:
        for _ in range(5):
            assert (await compact(session)).level_used == 2


# Deadline


async def test_one_deadline_covers_all_calls_and_the_extract_does_the_rest() -> None:
    """Chunks of a long history would each wait for a call's whole time."""
    clock = Clock()

    def answer(request: LLMRequest) -> Any:
        clock.seconds += 100
        return acceptable_summary(request)

    llm = llm_from(answer)
    harness = await SweepHarness(budget=budget_of(20_000), config=CompactionConfig(sweep_timeout_seconds=250.0)).begin(
        turns(60)
    )
    sweep = harness.sweep_of(llm, input_tokens=1_000)
    sweep.clock = clock
    result = (await sweep.run()).result
    assert len(llm.requests) == 3
    assert [request.timeout_seconds for request in llm.requests] == [30.0, 30.0, 30.0]
    assert result.level_used == 3
    assert any("250 s" in str(attempt.rejection) and not attempt.calls for attempt in result.attempts)
    await harness.check()


async def test_a_call_gets_no_more_time_than_the_deadline_leaves() -> None:
    clock = Clock()

    def answer(request: LLMRequest) -> Any:
        clock.seconds += 20
        return ""

    llm = llm_from(answer)
    harness = await SweepHarness(config=CompactionConfig(sweep_timeout_seconds=32.0)).begin(turns(10))
    sweep = harness.sweep_of(llm)
    sweep.clock = clock
    await sweep.run()
    assert [request.timeout_seconds for request in llm.requests] == [30.0, 12.0]


async def test_a_summariser_that_never_answers_ends_with_the_deadline(engine: Engine) -> None:
    async def hangs(request: LLMRequest) -> str:
        await asyncio.Event().wait()
        return ""

    # Long enough for a slow machine to make the first call.
    async with opened(engine, llm_from(hangs), sweep_timeout_seconds=1.0) as session:
        result = await asyncio.wait_for(compact(session), 120)
    assert result.level_used == 3
    assert "no answer within" in str(result.attempts[0].rejection)


def test_a_deadline_counts_down_and_never_below_zero() -> None:
    clock = Clock()
    deadline = Deadline.after(10, clock)
    clock.seconds += 4
    assert deadline.remaining_seconds == 6
    clock.seconds += 100
    assert deadline.remaining_seconds == 0


# Spending limits


def costly(cost: float) -> ScriptedLLM:
    return llm_from(lambda request: LLMReply(text=acceptable_summary(request), cost=cost))


@pytest.mark.parametrize("setting", ["max_summary_cost_per_session", "max_summary_cost_per_hour"])
async def test_summaries_stop_when_they_have_cost_the_limit(engine: Engine, setting: str) -> None:
    llm = costly(0.4)
    async with opened(engine, llm, **{setting: 0.7}) as session:
        levels = [(await compact(session)).level_used for _ in range(4)]
        result = (await session.compactions())[-1]
    assert levels[0] < 3
    assert levels[-1] == 3
    assert len(llm.requests) == 2
    assert setting in str(result.attempts[0].rejection)
    assert result.cost == 0.0


async def test_calls_per_hour_are_limited_also_when_their_price_is_unknown(engine: Engine) -> None:
    llm = costly(0.0)
    async with opened(engine, llm, max_summary_calls_per_hour=2) as session:
        for _ in range(4):
            await compact(session)
        async with opened(engine, llm, "another", max_summary_calls_per_hour=2) as another:
            assert (await compact(another)).level_used < 3, "the limit is the session's"
    assert len(llm.requests) == 3


def result_of(created_at: int, cost: float, calls: int) -> CompactionResult:
    attempts = (CompactionAttempt(level=1, calls=calls, cost=cost),)
    return CompactionResult(session_id="s", created_at=created_at, cost=cost, attempts=attempts)


def test_hourly_limits_end_after_an_hour_and_session_limits_do_not() -> None:
    config = CompactionConfig(
        max_summary_cost_per_session=1.0, max_summary_cost_per_hour=1.0, max_summary_calls_per_hour=5
    )
    results = [result_of(0, 0.75, 4), result_of(3_000_000, 0.125, 1)]
    assert SpendingLimit.remaining(config, results, 3_500_000) == SpendingLimit(0.125, 0.125, 0)
    assert SpendingLimit.remaining(config, results, 4_000_000) == SpendingLimit(0.125, 0.875, 4)
    assert not SpendingLimit.is_set(CompactionConfig())
