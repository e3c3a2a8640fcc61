"""Cancellation at every point where a verb waits: nothing half stored, nothing left open, nothing swallowed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mnesis import Engine, MnesisConfig, MnesisSession, RetryConfig, SessionConfig
from mnesis.errors import LLMConnectionError
from mnesis.testing import FailAfter, ScriptedLLM
from tests.session.support import MODEL, calls, cancelled_at, roles, small, talk, until
from tests.support.summaries import acceptable_summary


async def _outcome(work: Any, step: int) -> tuple[bool, Any]:
    """Whether the work was cancelled at that step, and what it gave otherwise."""
    task = asyncio.create_task(cancelled_at(work, step))  # type: ignore[arg-type]  # a generator-based coroutine
    await asyncio.wait([task])
    return task.cancelled(), None if task.cancelled() else task.result()


async def _every_step(make: Any, check: Any, limit: int = 200) -> int:
    """Cancel `make()` at its 1st, 2nd, … wait until it gets through; `check(cancelled)` after each. Returns the steps."""
    for step in range(1, limit):
        cancelled, _ = await asyncio.wait_for(_outcome(make(), step), 30)
        await check(cancelled)
        if not cancelled:
            return step
    raise AssertionError("it never came to an end")


async def _sound(session: MnesisSession) -> None:
    assert await session.engine.store.check() == []
    sent = await session.context_for_next_turn()
    assert all(message["content"] != "" for message in sent)
    assert not session.compaction_in_progress


@pytest.mark.parametrize("db_path", ["file", ":memory:"])
async def test_send_can_be_cancelled_wherever_it_waits(db_path: str, tmp_path: Path) -> None:
    async def answer(request: Any) -> str:
        await asyncio.sleep(0)
        return "fine"

    path = tmp_path / "a.db" if db_path == "file" else db_path
    async with MnesisSession.open(model=MODEL, db_path=path, llm=ScriptedLLM(answer)) as session:
        attempts = 0

        async def check(cancelled: bool) -> None:
            nonlocal attempts
            attempts += 1
            await session.engine.wait_for_tasks()
            await _sound(session)
            assert (await session.send(f"after {attempts}")).text == "fine"

        steps = await _every_step(lambda: session.send("hello"), check)
        assert steps >= 2
        said = await roles(session)
        assert said.endswith("uaua")
        assert "aa" not in said
        assert [m.seq for m in await session.messages()] == list(range(1, len(said) + 1))
        interruptions = await session.interruptions()
        assert {i.kind for i in interruptions} == {"cancelled"}
        assert all(message.text_content() for message in await session.messages())


async def test_a_send_with_tools_can_be_cancelled_wherever_it_waits(tmp_path: Path) -> None:
    async def work() -> str:
        await asyncio.sleep(0)
        return "worked"

    def answer(request: Any) -> Any:
        return "done" if request.messages[-1]["role"] == "tool" else calls(("work", {}))

    async with MnesisSession.open(model=MODEL, db_path=tmp_path / "a.db", llm=ScriptedLLM(answer)) as session:

        async def check(cancelled: bool) -> None:
            await session.engine.wait_for_tasks()
            await _sound(session)

        steps = await _every_step(lambda: session.send("hello", tools=[work]), check)
        assert steps >= 6
        assert (await session.send("last", tools=[work])).text == "done"


async def test_record_can_be_cancelled_wherever_it_waits(tmp_path: Path) -> None:
    async with MnesisSession.open(
        model=MODEL, db_path=tmp_path / "a.db", config=small(), llm=ScriptedLLM(acceptable_summary)
    ) as session:

        async def check(cancelled: bool) -> None:
            await session.engine.wait_for_tasks()
            await _sound(session)
            assert (await roles(session)) == "ua" * session.history().__len__()

        steps = await _every_step(lambda: session.record("word " * 300, "word " * 300), check)
        assert steps >= 1
        await talk(session, 10)


async def test_compact_can_be_cancelled_wherever_it_waits(tmp_path: Path) -> None:
    async def answer(request: Any) -> str:
        await asyncio.sleep(0)
        return acceptable_summary(request)

    async with MnesisSession.open(
        model=MODEL, db_path=tmp_path / "a.db", config=small(), llm=ScriptedLLM(answer)
    ) as session:
        turns = 0

        async def check(cancelled: bool) -> None:
            nonlocal turns
            await session.engine.wait_for_tasks()
            await _sound(session)
            assert len(await session.messages()) == 2 * (turns + 6)
            await talk(session, 2)
            turns += 2

        await talk(session, 6)
        await _every_step(session.compact, check)
        for summary in await session.summaries():
            assert (await session.expand(summary.id, limit=500)).messages


async def test_a_send_cancelled_while_it_waits_for_its_turn_leaves_the_queue(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with MnesisSession.open(
        model=MODEL, db_path=tmp_path / "a.db", llm=ScriptedLLM("fine", gate=gate)
    ) as session:
        first, second, third = (asyncio.create_task(session.send(text)) for text in ("one", "two", "three"))
        await asyncio.sleep(0.01)
        second.cancel()
        await asyncio.wait([second])
        assert second.cancelled()
        gate.set()
        await asyncio.gather(first, third)
        assert [m.text_content() for m in await session.messages()] == ["one", "fine", "three", "fine"]


async def test_cancelling_while_a_retry_waits_is_not_swallowed(tmp_path: Path) -> None:
    config = MnesisConfig(session=SessionConfig(retry=RetryConfig(max_retries=5, base_delay=30.0)))
    model = ScriptedLLM(LLMConnectionError("down"))
    async with MnesisSession.open(model=MODEL, db_path=tmp_path / "a.db", config=config, llm=model) as session:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(session.send("hello"), 0.2)
        task = asyncio.create_task(session.send("hello again"))
        await until(lambda: len(model.requests) == 2)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert await roles(session) == "uu"
        assert [i.kind for i in await session.interruptions()] == ["cancelled", "cancelled"]


async def test_a_cancelled_question_is_kept_and_answered_with_the_next(tmp_path: Path) -> None:
    gate = asyncio.Event()
    model = ScriptedLLM("both answered", gate=gate)
    async with MnesisSession.open(model=MODEL, db_path=tmp_path / "a.db", llm=model) as session:
        task = asyncio.create_task(session.send("first"))
        await until(lambda: len(model.requests) == 1)
        task.cancel()
        await asyncio.wait([task])
        gate.set()
        await session.send("second")
        assert [m["content"] for m in model.requests[1].messages[1:]] == ["first", "second"]
        (interruption,) = await session.interruptions()
        assert (interruption.kind, interruption.after_seq) == ("cancelled", 1)


async def test_cancelling_the_reader_of_a_stream_does_not_cancel_the_turn(tmp_path: Path) -> None:
    gate = asyncio.Event()
    model = ScriptedLLM("a whole answer", gate=gate)
    session = await MnesisSession.create(model=MODEL, db_path=tmp_path / "a.db", llm=model)

    async def read() -> None:
        async for _ in session.stream("go"):
            pass

    reader = asyncio.create_task(read())
    await until(lambda: len(model.requests) == 1)
    reader.cancel()
    await asyncio.wait([reader])
    assert reader.cancelled()
    gate.set()
    await session.close()
    async with await MnesisSession.load(session.id, db_path=tmp_path / "a.db") as session:
        assert [m.text_content() for m in await session.messages()] == ["go", "a whole answer"]
        assert await session.interruptions() == []


async def test_partial_text_of_a_cancelled_send_is_kept_aside(tmp_path: Path) -> None:
    started = asyncio.Event()

    async def listen(part: Any) -> None:
        started.set()
        await asyncio.sleep(30)

    model = ScriptedLLM("one two three")
    async with MnesisSession.open(model=MODEL, db_path=tmp_path / "a.db", llm=model) as session:
        task = asyncio.create_task(session.send("go", on_part=listen))
        await started.wait()
        task.cancel()
        await asyncio.wait([task])
        (interruption,) = await session.interruptions()
        assert interruption.partial_text.startswith("one")
        assert await roles(session) == "u"


async def test_a_failed_stream_keeps_what_had_arrived_aside(tmp_path: Path) -> None:
    model = ScriptedLLM([FailAfter("half of the ans"), "whole"])
    async with MnesisSession.open(model=MODEL, db_path=tmp_path / "a.db", llm=model) as session:
        heard = ""
        with pytest.raises(LLMConnectionError) as caught:  # noqa: PT012 - the loop is what raises
            async for event in session.stream("go"):
                heard += event.text  # type: ignore[union-attr]  # no TurnComplete comes
        assert heard == caught.value.partial_text == "half of the ans"
        (interruption,) = await session.interruptions()
        assert (interruption.kind, interruption.partial_text) == ("failed", "half of the ans")
        await session.send("again")
        assert "half of the ans" not in str(model.requests[1].messages)
        assert await roles(session) == "uua"


async def test_the_engine_can_be_closed_after_everything_was_cancelled(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with Engine(tmp_path / "a.db", llm=ScriptedLLM("x", gate=gate)) as engine:
        sessions = [await MnesisSession.create(model=MODEL, engine=engine) for _ in range(5)]
        tasks = [asyncio.create_task(session.send("hello")) for session in sessions]
        await asyncio.sleep(0.02)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for session in sessions:
            await asyncio.wait_for(session.close(), 5)
