"""Turns: what `stream()` yields, doom loops that stop, recall tools decided from the turn's own window."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mnesis import (
    ConfigurationError,
    Engine,
    FinishReason,
    MnesisConfig,
    MnesisEvent,
    MnesisSession,
    NothingToRetryError,
    RetryConfig,
    SessionConfig,
)
from mnesis.engine.session_state import SessionState
from mnesis.errors import LLMBadRequestError, LLMRateLimitError
from mnesis.llm.base import LLMReply, LLMRequest
from mnesis.models.session import SessionRecord
from mnesis.testing import EventRecorder, ScriptedLLM
from tests.session.support import MODEL, calls, roles, small, talk
from tests.support.summaries import acceptable_summary


async def test_a_stream_yields_reasoning_and_tools_as_they_happen(db: Path) -> None:
    def add(a: int, b: int) -> int:
        return a + b

    def fail() -> None:
        raise ValueError("no")

    first = LLMReply(reasoning="I add.", text="Adding.", tool_calls=calls(("add", {"a": 1, "b": 2})).tool_calls)
    script = [first, calls(("fail", {})), "It is 3."]
    async with MnesisSession.open(model=MODEL, db_path=db, llm=ScriptedLLM(script)) as session:
        events = []
        async for event in session.stream("go", tools=[add, fail]):
            events.append(event)
            if event.type == "tool_call_end":
                stored = [part for message in await session.messages() for part in message.tool_results]
                assert event.result in stored
    kinds = [event.type for event in events]
    assert [kind for kind, before in zip(kinds, [None, *kinds], strict=False) if kind != before] == [
        "reasoning_delta", "text_delta", "tool_call_start", "tool_call_end",
        "tool_call_start", "tool_call_end", "text_delta", "turn_complete",
    ]  # fmt: skip
    assert "".join(event.text for event in events if event.type == "reasoning_delta") == "I add."
    starts = [event for event in events if event.type == "tool_call_start"]
    ends = [event for event in events if event.type == "tool_call_end"]
    assert (starts[0].tool_name, starts[0].tool_call_id, starts[0].call.input) == ("add", "call_0", {"a": 1, "b": 2})
    assert (ends[0].tool_name, ends[0].result.output, ends[0].result.is_error) == ("add", "3", False)
    assert ends[1].result.is_error


@pytest.mark.parametrize("where", ["config", "argument"])
async def test_a_doom_loop_stops_the_turn_before_the_call_runs(where: str, db: Path) -> None:
    ran = []

    def look(at: str) -> str:
        ran.append(at)
        return "nothing"

    settings = SessionConfig(on_doom_loop="stop" if where == "config" else "warn")
    argument: Any = "stop" if where == "argument" else None
    model = ScriptedLLM([calls(("look", {"at": "sky"}))] * 4 + ["Sorry."])
    config = MnesisConfig(session=settings)
    async with MnesisSession.open(model=MODEL, db_path=db, llm=model, config=config) as session:
        seen = EventRecorder(session.event_bus)
        result = await session.send("go", tools=[look], on_doom_loop=argument)
        assert (result.finish_reason, result.doom_loop_detected) == (FinishReason.DOOM_LOOP, True)
        assert (ran, len(model.requests)) == (["sky", "sky"], 3)
        assert len(seen.of(MnesisEvent.DOOM_LOOP_DETECTED)) == 1
        refusal = (await session.messages())[-1].tool_results[0]
        assert refusal.is_error
        assert "not run" in refusal.output
        assert len(session.history()) == 1
        # The next turn tells the model why the call was not run, and is stopped again if it repeats it.
        assert (await session.retry(tools=[look], on_doom_loop="stop")).finish_reason == "doom_loop"
        assert "not run" in model.requests[3].messages[-1]["content"]
        assert (await session.send("Stop looking.", tools=[look])).text == "Sorry."
        with pytest.raises(ConfigurationError, match="on_doom_loop"):
            await session.send("go", on_doom_loop="never")  # type: ignore[arg-type]


def _model(bad: set[int]) -> ScriptedLLM:
    number = 0

    def answer(request: LLMRequest) -> Any:
        nonlocal number
        if request.purpose == "summary":
            return acceptable_summary(request)
        number += 1
        if number in bad:
            raise LLMBadRequestError(f"rejection {number}", status_code=400)
        return "fine"

    return ScriptedLLM(answer)


def _offered(model: ScriptedLLM) -> list[int]:
    return [len(request.tools) for request in model.requests if request.purpose == "turn"]


async def test_an_unrelated_rejection_does_not_disable_recall_tools(db: Path) -> None:
    model = _model({1, 2})
    async with MnesisSession.open(model=MODEL, db_path=db, llm=model, config=small()) as session:
        await talk(session, 20)
        await session.compact()
        with pytest.raises(LLMBadRequestError, match="rejection 1"):
            await session.send("hello")
        await session.send("hello again")
    assert _offered(model) == [3, 0, 3]


async def test_recall_tools_that_were_the_cause_stay_disabled(db: Path) -> None:
    model = _model({1})
    async with MnesisSession.open(model=MODEL, db_path=db, llm=model, config=small()) as session:
        await talk(session, 20)
        await session.compact()
        await session.send("hello")
        await session.send("hello again")
    assert _offered(model) == [3, 0, 0]


async def test_reading_a_small_window_changes_no_other_request(db: Path) -> None:
    model = _model(set())
    config = small(auto=False)
    async with (
        Engine(db, llm=model) as engine,
        MnesisSession.open(model=MODEL, session_id="x", engine=engine, config=config) as session,
    ):
        await talk(session, 8)
        await session.send("one")
        async with await MnesisSession.load("x", engine=engine, config=config) as other:
            assert (await other.window(budget_tokens=600)).hides_content
            assert not (await other.window()).hides_content
        await session.send("two")
    assert _offered(model) == [0, 0]


async def test_recall_tools_are_offered_in_the_turn_whose_window_needs_them(db: Path) -> None:
    model = _model(set())
    async with MnesisSession.open(model=MODEL, db_path=db, llm=model, config=small()) as session:
        await talk(session, 20)
        await session.compact()
        assert (await session.window()).hides_content
        await session.send("one")
        size = (await session.window()).tokens
        assert size < session.budget.usable_tokens
    assert _offered(model) == [3]


def test_the_shared_record_never_goes_back() -> None:
    state = SessionState()
    old = SessionRecord("s", MODEL, created_at=1, updated_at=5, context_tokens=5_000)
    new = SessionRecord("s", MODEL, created_at=1, updated_at=6, context_tokens=2_000)
    for record in (old, new, old):
        state.advance(record)
    assert state.record == new
    again = SessionRecord("s", MODEL, created_at=9, updated_at=9)
    state.advance(again)
    assert state.record == again


async def test_every_change_of_a_record_is_newer_than_the_one_before(db: Path) -> None:
    versions = []
    async with (
        Engine(db) as engine,
        MnesisSession.open(model=None, session_id="x", engine=engine, config=small(auto=False)) as session,
    ):
        for number in range(5):
            await session.record(f"q{number}", "a")
            versions.append((await engine.store.session("x")).updated_at)
            await session.hide(1 + 2 * number, 2 + 2 * number)
            versions.append((await engine.store.session("x")).updated_at)
    assert versions == sorted(set(versions))


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_closing_ends_the_wait_before_a_retry(is_streamed: bool, db: Path) -> None:
    retry = RetryConfig(max_retries=5, base_delay=3_600.0, max_delay=3_600.0)
    config = MnesisConfig(session=SessionConfig(retry=retry))
    model = ScriptedLLM([LLMRateLimitError("slow down"), "Done."])
    async with asyncio.timeout(60):
        session = await MnesisSession.create(model=MODEL, db_path=db, llm=model, config=config)
        waiting = asyncio.Event()
        session.subscribe(MnesisEvent.LLM_RETRY, lambda *_: waiting.set())

        async def turn() -> None:
            if is_streamed:
                async for _ in session.stream("go"):
                    pass
            else:
                await session.send("go")

        task = asyncio.create_task(turn())
        await waiting.wait()
        await session.close()
        with pytest.raises(LLMRateLimitError, match="slow down"):
            await task
        async with await MnesisSession.load(session.id, db_path=db, llm=model) as again:
            assert (await again.retry()).text == "Done."
            assert await roles(again) == "ua"
            with pytest.raises(NothingToRetryError):
                await again.retry()


async def test_closing_ends_the_wait_of_a_summariser_too(db: Path) -> None:
    retry = RetryConfig(max_retries=5, base_delay=3_600.0, max_delay=3_600.0)
    model = ScriptedLLM(lambda _: _raise(LLMRateLimitError("slow down")))
    async with asyncio.timeout(60):
        session = await MnesisSession.create(
            model=MODEL,
            db_path=db,
            llm=model,
            config=small(session=SessionConfig(retry=retry), timeout_seconds=7_200.0),
        )
        waiting = asyncio.Event()
        session.subscribe(MnesisEvent.LLM_RETRY, lambda *_: waiting.set())
        await talk(session, 30)
        await waiting.wait()
        await session.close()
        async with await MnesisSession.load(session.id, db_path=db, llm=model) as again:
            assert [result.level_used for result in await again.compactions()] == [3]


def _raise(error: Exception) -> Any:
    raise error
