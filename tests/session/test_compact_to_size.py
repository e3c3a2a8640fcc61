"""`compact(keep_tokens=…)` and sessions with a budget in tokens."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mnesis import Budget, ConfigurationError, Engine, Message, MnesisConfig, MnesisEvent, MnesisSession
from mnesis.compaction.plan import plan_sweep
from mnesis.config import CompactionConfig
from mnesis.context.budget import resolve_budget
from mnesis.models.summary import Summary
from mnesis.testing import EventRecorder
from mnesis.tokens.model_info import ModelInfo
from tests.session.support import chatter
from tests.support.histories import context_of, count, histories, numbered
from tests.support.samples import sampled


async def talk(session: MnesisSession, turns: int) -> None:
    for number in range(turns):
        await session.record(*chatter(number))


async def unfolded(session: MnesisSession) -> list[Message]:
    context = await session.engine.store.active_context(session.id)
    return [item for item in context.items if not isinstance(item, Summary)]


async def test_compact_keeps_whole_turns_up_to_the_given_tokens() -> None:
    async with Engine(":memory:") as engine:
        session = await MnesisSession.create(model=None, engine=engine)
        await talk(session, 20)
        before = await session.messages()
        recorder = EventRecorder(session.event_bus)
        result = await session.compact(keep_tokens=1_000)
        kept = await unfolded(session)
        assert 500 < sum(message.token_count for message in kept) <= 1_000
        assert kept[0].role == "user"
        assert kept == before[-len(kept) :]
        assert result.level_used == 3
        assert result.trigger == "manual"
        assert recorder.of(MnesisEvent.COMPACTION_COMPLETED)
        assert await session.messages() == before
        again = await session.compact(keep_tokens=1_000)
        assert (again.level_used, again.tokens_after) == (0, result.tokens_after)


async def test_compact_to_nothing_keeps_the_newest_user_message_and_step() -> None:
    async with Engine(":memory:") as engine:
        session = await MnesisSession.create(model=None, engine=engine)
        await talk(session, 8)
        await session.compact(keep_tokens=0)
        assert [message.seq for message in await unfolded(session)] == [15, 16]


async def test_compact_to_a_size_runs_without_automatic_compaction() -> None:
    config = MnesisConfig(compaction=CompactionConfig(auto=False))
    async with Engine(":memory:", config=config) as engine:
        session = await MnesisSession.create(model=None, engine=engine)
        await talk(session, 20)
        assert (await session.compact(keep_tokens=500)).level_used == 3


async def test_pinned_messages_stay_whatever_the_size() -> None:
    async with Engine(":memory:") as engine:
        session = await MnesisSession.create(model=None, engine=engine)
        await talk(session, 10)
        pinned = (await session.messages())[2]
        await session.pin(pinned.id)
        await session.compact(keep_tokens=0)
        assert pinned in await unfolded(session)


@pytest.mark.parametrize("value", [-1, True, 1.5, "100"])
async def test_a_size_that_is_not_a_natural_number_is_refused(value: Any) -> None:
    async with Engine(":memory:") as engine:
        session = await MnesisSession.create(model=None, engine=engine)
        with pytest.raises(ConfigurationError, match=r"keep_tokens must be an integer of at least 0"):
            await session.compact(keep_tokens=value)


def step_with_thinking(messages: list[Message]) -> list[Message]:
    """Return the newest step with signed thinking, which must open a tool loop at the end of a request to Claude."""
    for index in reversed(range(len(messages))):
        if any(part.type == "reasoning" and part.provider is not None for part in messages[index].parts):
            results = takewhile(lambda message: message.role == "tool", messages[index + 1 :])
            return [messages[index], *results]
    return []


@settings(max_examples=sampled(150), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(log=histories(), keep_tokens=st.integers(0, 3_000))
def test_a_plan_leaves_at_most_the_kept_tokens_and_what_must_stay(log: list[Message], keep_tokens: int) -> None:
    budget, config = Budget.for_tokens(100_000), CompactionConfig(prune=False)
    log = numbered(log)
    plan = plan_sweep(context_of(log), budget, config, count, "manual", keep_tokens=keep_tokens)
    folded = {message.seq for span in plan.fold.spans for message in span.messages}
    kept = [message for message in log if message.seq not in folded]
    last_step = next((i for i in reversed(range(len(kept))) if kept[i].role != "tool"), 0)
    newest_user = max((message.seq for message in log if message.role == "user"), default=0)
    assert not newest_user or newest_user not in folded
    opening = step_with_thinking(kept[:last_step]) if log and log[-1].role == "tool" else []
    must_stay = sum(m.token_count for i, m in enumerate(kept) if i >= last_step or m.seq == newest_user or m in opening)
    assert sum(message.token_count for message in kept) <= keep_tokens + must_stay
    tool_seqs = {message.seq for message in kept if message.role == "tool"}
    assert not any(span.messages[-1].seq + 1 in tool_seqs for span in plan.fold.spans), "a call lost its results"


@given(usable=st.integers(1, 300_000), keep=st.none() | st.integers(0, 400_000))
def test_the_thresholds_of_a_token_budget_are_in_order(usable: int, keep: int | None) -> None:
    budget = Budget.for_tokens(usable, keep_tokens=keep)
    assert 0 <= budget.summary_tokens <= budget.low_water_tokens <= budget.soft_tokens < budget.usable_tokens == usable


@pytest.mark.parametrize("value", [0, -5, True, 2.5, "8000"])
def test_a_budget_that_is_not_a_positive_integer_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"usable_tokens must be an integer of at least 1"):
        Budget.for_tokens(value)


async def test_a_session_stays_within_the_tokens_it_is_opened_with(tmp_path: Path) -> None:
    async with MnesisSession.open(model="openai/gpt-4o", db_path=tmp_path / "a.db", budget=2_000) as session:
        assert session.budget.usable_tokens == 2_000
        await talk(session, 30)
        window = await session.window()
        assert window.tokens <= window.budget_tokens <= 2_000
        assert any(message.is_summary for message in window.messages)
    session = await MnesisSession.load(session.id, db_path=tmp_path / "a.db")
    assert session.budget.usable_tokens > 50_000, "a budget belongs to the handle and is not stored"
    await session.close()


def test_a_budget_without_the_system_prompt_grows_by_it() -> None:
    info = ModelInfo(model_id="openai/test", context_limit=100_000, max_output_tokens=1_000)
    config = CompactionConfig()
    plain = Budget.for_tokens(1_000, includes_system_prompt=False)
    grown = resolve_budget(plain, info, config, 5_000)
    assert (grown.usable_tokens, grown.soft_tokens) == (6_000, plain.soft_tokens + 5_000)
    with pytest.raises(ConfigurationError, match=r"5,000 tokens.*shorten the system prompt, or pass a larger budget"):
        resolve_budget(1_000, info, config, 5_000)
