"""When a session compacts, what it waits for, and what resuming takes up."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from mnesis import (
    Engine,
    MnesisEvent,
    MnesisSession,
    TokenUsage,
)
from mnesis.testing import EventRecorder, ScriptedLLM
from tests.session.support import MODEL, chatter, small, talk, until
from tests.support.filled_sessions import fill, opened
from tests.support.summaries import acceptable_summary


async def test_below_the_soft_threshold_nothing_runs(db: Path) -> None:
    async with opened(db, ScriptedLLM([])) as session:
        seen = EventRecorder(session.event_bus)
        while session.context_tokens < session.budget.soft_tokens - 300:
            assert not (await session.record(*chatter(1))).compaction_triggered
            await session.context_for_next_turn()
        assert not seen.of(MnesisEvent.COMPACTION_TRIGGERED)


async def test_between_soft_and_hard_it_runs_beside_the_conversation(db: Path) -> None:
    gate = asyncio.Event()
    model = ScriptedLLM(acceptable_summary, gate=gate)
    async with opened(db, model) as session:
        turns = await fill(session, session.budget.soft_tokens)
        assert session.compaction_in_progress
        await asyncio.wait_for(session.record(*chatter(turns)), 5)
        assert len(await session.context_for_next_turn()) == 2 * (turns + 1)
        assert len(await session.messages()) == 2 * (turns + 1)
        seen = EventRecorder(session.event_bus)
        gate.set()
        (payload,) = await seen.wait_for(MnesisEvent.COMPACTION_COMPLETED)
        assert payload.trigger == "soft"
        assert payload.tokens_after <= session.budget.low_water_tokens + 700
        shown = await session.context_for_next_turn()
        assert len(shown) < 2 * turns
        assert shown[-1]["content"] == chatter(turns)[1]


async def test_turns_over_the_threshold_start_one_compaction_not_one_each(db: Path) -> None:
    gate = asyncio.Event()
    model = ScriptedLLM(acceptable_summary, gate=gate)
    async with opened(db, model) as session:
        turns = await fill(session, session.budget.soft_tokens)
        triggered = [(await session.record(*chatter(turns + n))).compaction_triggered for n in range(6)]
        assert triggered == [False] * 6
        seen = EventRecorder(session.event_bus)
        gate.set()
        await seen.wait_for(MnesisEvent.COMPACTION_COMPLETED)
        await until(lambda: not session.compaction_in_progress)
        assert len(seen.of(MnesisEvent.COMPACTION_COMPLETED)) == 1


async def test_beyond_the_hard_threshold_it_runs_before_the_request(db: Path) -> None:
    asked: list[int] = []

    def answer(request: Any) -> str:
        asked.append(len(str(request.messages)))
        return acceptable_summary(request) if request.purpose == "summary" else "fine"

    async with opened(db, ScriptedLLM(answer), soft_threshold_fraction=0.95) as session:
        await fill(session, session.budget.soft_tokens - 250)
        result = await session.send("word " * 800)
        assert result.compaction_triggered
        assert result.compaction_result is not None
        assert result.compaction_result.trigger == "hard"
        assert result.text == "fine"
        assert session.context_tokens < session.budget.soft_tokens


async def test_the_window_for_an_own_client_is_compacted_first_when_it_must_be(db: Path) -> None:
    async with opened(db) as session:
        await talk(session, 6)
        await session.record("huge system prompt", "noted", tokens=TokenUsage(input=7_000, output=10))
        assert session.context_tokens >= session.budget.usable_tokens or session.compaction_in_progress
        shown = await session.context_for_next_turn()
        assert "[Summary" in str(shown[0]["content"])
        assert session.context_tokens < session.budget.soft_tokens


async def test_tool_definitions_take_part_in_the_budget(db: Path) -> None:
    tool = {"name": "look", "description": "what to look at " * 700, "parameters": {"type": "object", "properties": {}}}
    async with opened(db, ScriptedLLM("fine"), soft_threshold_fraction=0.95) as session:
        await fill(session, session.budget.soft_tokens - 500)
        assert not (await session.send("look")).compaction_triggered
        result = await session.send("look", tools=[tool])
        assert result.compaction_triggered


async def test_one_or_two_turns_are_left_alone(db: Path) -> None:
    async with opened(db, ScriptedLLM([])) as session:
        for _ in range(2):
            await session.record("word " * 300, "word " * 300)
            before = await session.context_for_next_turn()
            assert (await session.compact()).level_used == 0
            assert await session.context_for_next_turn() == before


async def test_the_two_newest_turns_stay_verbatim_at_every_level(db: Path) -> None:
    for level, answer in ((1, acceptable_summary), (3, "")):
        async with opened(db.with_name(f"{level}.db"), ScriptedLLM(answer)) as session:
            await talk(session, 8)
            result = await session.compact()
            assert result.level_used == level
            shown = [m["content"] for m in await session.context_for_next_turn()]
            assert shown[-4:] == [*chatter(6), *chatter(7)]
            assert result.compacted_message_count == 12


async def test_repeated_compaction_of_nothing_new_calls_no_model(db: Path) -> None:
    model = ScriptedLLM(acceptable_summary)
    async with opened(db, model) as session:
        await talk(session, 8)
        first = await session.compact()
        count = len(model.requests)
        again = [await session.compact() for _ in range(3)]
        assert first.level_used == 1
        assert [result.level_used for result in again] == [0, 0, 0]
        assert len(model.requests) == count
        assert len(await session.compactions()) == 1


async def test_compactions_at_once_fold_once(db: Path) -> None:
    async with opened(db) as session:
        await talk(session, 8)
        results = await asyncio.gather(*(session.compact() for _ in range(3)))
        assert sorted(result.level_used for result in results) == [0, 0, 1]
        assert await session.engine.store.check() == []


async def test_a_summariser_that_hangs_is_given_up_in_time(db: Path) -> None:
    model = ScriptedLLM(acceptable_summary, gate=asyncio.Event())
    async with opened(db, model, timeout_seconds=0.05) as session:
        await talk(session, 8)
        result = await asyncio.wait_for(session.compact(), 20)
        assert result.level_used == 3
        assert [(a.rejection or "").startswith("no answer within") for a in result.attempts] == [True, True, False]


async def test_close_is_not_held_up_by_a_summariser_that_hangs(db: Path) -> None:
    model = ScriptedLLM(acceptable_summary, gate=asyncio.Event())
    session = await MnesisSession.create(model=MODEL, db_path=db, llm=model, config=small(timeout_seconds=0.05))
    await fill(session, session.budget.soft_tokens)
    assert session.compaction_in_progress
    await asyncio.wait_for(session.close(), 20)
    async with await MnesisSession.load(session.id, db_path=db, config=small(), llm=ScriptedLLM([])) as session:
        assert (await session.compactions())[0].level_used == 3


async def test_a_failing_summariser_leaves_the_conversation_going(db: Path) -> None:
    def summariser(messages: list[dict[str, Any]]) -> str:
        raise ValueError("mine")

    async with opened(db, ScriptedLLM("fine"), compaction_model=summariser) as session:
        await talk(session, 60)
        assert (await session.send("still there?")).text == "fine"
    async with await MnesisSession.load(
        session.id, db_path=db, config=small(), llm=ScriptedLLM(acceptable_summary)
    ) as session:
        levels = {result.level_used for result in await session.compactions()}
        assert levels == {3}
        assert len(await session.messages()) == 122


async def test_close_waits_for_streams_and_for_the_compaction_they_start(db: Path) -> None:
    gate = asyncio.Event()

    def answer(request: Any) -> str:
        return acceptable_summary(request) if request.purpose == "summary" else "a long answer " * 300

    model = ScriptedLLM(answer, gate=gate)
    session = await MnesisSession.create(model=MODEL, db_path=db, llm=model, config=small())
    seen = EventRecorder(session.engine.events)
    await fill(session, session.budget.soft_tokens - 400)

    async def first_piece() -> None:
        async for _ in session.stream("go"):
            break

    reader = asyncio.create_task(first_piece())
    await until(lambda: len(model.requests) == 1)
    closing = asyncio.create_task(session.close())
    await asyncio.sleep(0.01)
    assert not closing.done()
    gate.set()
    await asyncio.wait_for(closing, 20)
    await reader
    kinds = [kind for kind, _ in seen.events]
    assert kinds.index(MnesisEvent.COMPACTION_COMPLETED) < kinds.index(MnesisEvent.SESSION_CLOSED)


async def test_context_lifetime_and_history_survive_loading(db: Path) -> None:
    async with MnesisSession.open(
        model=MODEL, db_path=db, system_prompt="Be kind.", config=small(), llm=ScriptedLLM(acceptable_summary)
    ) as session:
        await talk(session, 30)
        await session.record("reported", "yes", tokens=TokenUsage(input=2_500, output=20, cache_read=100))
        await until(lambda: not session.compaction_in_progress)
        known = (session.model, session.system_prompt, session.context_tokens, session.token_usage, session.cost)
        history, shown = session.history(), await session.context_for_next_turn()
        results = await session.compactions()
    assert len(history) == 31
    async with await MnesisSession.load(session.id, db_path=db, config=small(), llm=ScriptedLLM([])) as loaded:
        assert (loaded.model, loaded.system_prompt, loaded.context_tokens, loaded.token_usage, loaded.cost) == known
        assert loaded.history() == history
        assert await loaded.context_for_next_turn() == shown
        assert await loaded.compactions() == results


async def test_loading_calls_no_model_and_the_next_turn_compacts(db: Path) -> None:
    async with opened(db, auto=False) as session:
        await fill(session, session.budget.soft_tokens)
    model = ScriptedLLM(lambda request: acceptable_summary(request) if request.purpose == "summary" else "fine")
    async with Engine(db, llm=model) as engine:
        seen = EventRecorder(engine.events)
        loaded = await MnesisSession.load(session.id, engine=engine, config=small())
        assert not loaded.compaction_in_progress
        await engine.wait_for_tasks()
        assert model.requests == []
        assert (await loaded.send("Where were we?")).compaction_triggered
        payload = (await seen.wait_for(MnesisEvent.COMPACTION_COMPLETED))[0]
        assert payload.trigger == "soft"
        await loaded.close()


async def test_a_session_loaded_with_a_smaller_window_is_compacted_first(db: Path) -> None:
    sent: list[Any] = []

    def answer(request: Any) -> str:
        if request.purpose == "summary":
            return acceptable_summary(request)
        sent.append(request)
        return "fine"

    async with MnesisSession.open(model=MODEL, db_path=db, llm=ScriptedLLM([])) as session:
        await talk(session, 60)
        assert session.context_tokens > 8_192
    loaded = await MnesisSession.load(
        session.id, db_path=db, model="openai/other", config=small(), llm=ScriptedLLM(answer)
    )
    async with loaded:
        assert loaded.model == "openai/other"
        result = await loaded.send("still there?")
        assert result.text == "fine"
        assert result.compaction_triggered or loaded.compaction_in_progress or await loaded.compactions()
        assert sent[0].model == "openai/other"
        window = await loaded.window()
        assert window.tokens <= loaded.budget.usable_tokens
        assert loaded.context_tokens < loaded.budget.usable_tokens
        assert len(await loaded.messages()) == 122


async def test_reports_that_grow_with_the_context_cause_one_compaction_per_fill(db: Path) -> None:
    async with opened(db) as session:
        seen = EventRecorder(session.event_bus)
        for number in range(40):
            context = session.context_tokens
            await session.record(*chatter(number), tokens=TokenUsage(input=context + 60, output=60))
            await until(lambda: not session.compaction_in_progress)
        assert 1 <= len(seen.of(MnesisEvent.COMPACTION_COMPLETED)) <= 6


async def test_usage_counted_again_each_turn_is_not_added_up(db: Path) -> None:
    async with opened(db, ScriptedLLM([])) as session:
        for number in range(40):
            await session.record(f"q{number}", "a", tokens=TokenUsage(input=1_000 + number, output=1))
        assert session.context_tokens < session.budget.soft_tokens
        assert session.token_usage.input > 40_000
