"""`retry()` continues an unfinished turn: nothing is said, run or paid for twice."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mnesis import (
    LLMError,
    MnesisConfig,
    MnesisError,
    MnesisEvent,
    MnesisSession,
    NothingToRetryError,
    SessionConfig,
    ToolPart,
    ToolResultPart,
)
from mnesis.errors import LLMServerError
from mnesis.sync import SyncSession
from mnesis.testing import EventRecorder, ScriptedLLM
from tests.session.support import MODEL, calls, cancelled_at, roles, until
from tests.support.samples import sampled

PENDING = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


def opened(db: Any, *script: Any, **options: Any) -> Any:
    return MnesisSession.open(model=MODEL, db_path=db, llm=ScriptedLLM(list(script)), **options)


async def outputs(session: MnesisSession) -> dict[str, str]:
    return {part.tool_call_id: part.output for message in await session.messages() for part in message.tool_results}


async def test_a_failed_turn_is_retried_without_sending_again(db: Path) -> None:
    model = ScriptedLLM([LLMServerError("overloaded"), "Sent."])
    async with MnesisSession.open(model=MODEL, db_path=db, llm=model) as session:
        with pytest.raises(LLMServerError):
            await session.send("Transfer 100 euros to Bob.")
        result = await session.retry()
        assert (result.text, await roles(session)) == ("Sent.", "ua")
        assert result.user_message_id == (await session.messages())[0].id
        assert model.requests[0].messages == model.requests[1].messages
        assert len(session.history()) == 1
        assert result.tokens == session.token_usage


@settings(max_examples=sampled(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(failures=st.lists(st.integers(0, 3), max_size=6), rounds=st.integers(1, 3))
async def test_wherever_a_turn_fails_its_retries_lead_to_the_same_log(failures: list[int], rounds: int) -> None:
    paid: list[int] = []

    def pay(n: int) -> str:
        paid.append(n)
        return f"paid {n}"

    replies = [calls(("pay", {"n": 2 * number}), ("pay", {"n": 2 * number + 1})) for number in range(rounds)]
    replies.append("done")  # type: ignore[arg-type]  # a text is a reply too
    script: list[Any] = []
    for number, reply in enumerate(replies):
        script += [LLMServerError("no")] * failures.count(number) + [reply]
    async with opened(":memory:", *script) as session:
        verb: Any = session.send("go", tools=[pay])
        while True:
            try:
                result = await verb
                break
            except LLMServerError:
                verb = session.retry(tools=[pay])
        assert result.text == "done"
        assert await roles(session) == "u" + "att" * rounds + "a"
        assert sorted(paid) == list(range(2 * rounds))
        assert len(session.history()) == 1


async def test_a_cancelled_turn_keeps_the_results_of_finished_tools(db: Path) -> None:
    paid, hangs = [], True

    async def pay() -> str:
        paid.append(1)
        return "paid"

    async def book() -> str:
        if hangs:
            await asyncio.Event().wait()
        return "booked"

    model = ScriptedLLM([calls(("pay", {}), ("book", {})), "Done."])
    async with MnesisSession.open(model=MODEL, db_path=db, llm=model) as session:
        seen = EventRecorder(session.event_bus)
        task = asyncio.create_task(session.send("go", tools=[pay, book]))
        await until(lambda: [p.role for p in seen.of(MnesisEvent.MESSAGE_CREATED)] == ["user", "assistant", "tool"])
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await outputs(session) == {"call_0": "paid"}
        hangs = False
        assert (await session.retry(tools=[pay, book])).text == "Done."
        assert await outputs(session) == {"call_0": "paid", "call_1": "booked"}
        assert len(paid) == 1
        sent = [m["content"] for m in model.requests[-1].messages if m["role"] == "tool"]
        assert sent == ["paid", "booked"]


async def test_results_are_sent_in_the_order_of_their_calls(db: Path) -> None:
    second = asyncio.Event()

    async def slow() -> str:
        await second.wait()
        return "slow"

    async def fast() -> str:
        asyncio.get_running_loop().call_soon(second.set)
        return "fast"

    model = ScriptedLLM([calls(("slow", {}), ("fast", {})), "Done."])
    async with MnesisSession.open(model=MODEL, db_path=db, llm=model) as session:
        await session.send("go", tools=[slow, fast])
    assert [m["content"] for m in model.requests[-1].messages if m["role"] == "tool"] == ["slow", "fast"]


async def test_cancelled_at_any_step_a_turn_pays_once(tmp_path: Path) -> None:
    for step in range(1, 200):
        paid: list[str] = []

        async def pay(to: str, paid: list[str] = paid) -> str:
            paid.append(to)
            return f"paid {to}"

        def book(to: str, paid: list[str] = paid) -> str:
            paid.append(to)
            return f"booked {to}"

        tools = [pay, book]
        model = ScriptedLLM(lambda r: "Done." if r.messages[-1]["role"] == "tool" else calls(
            ("pay", {"to": "a"}), ("book", {"to": "b"})))  # fmt: skip
        async with MnesisSession.open(model=MODEL, db_path=tmp_path / f"{step}.db", llm=model) as session:
            task = asyncio.create_task(cancelled_at(session.send("go", tools=tools), step))  # type: ignore[arg-type]
            await asyncio.wait([task])
            await session.engine.wait_for_tasks()
            with suppress(NothingToRetryError):
                await session.retry(tools=tools)
            said = await roles(session)
            assert said in ("", "uatta")
            assert sorted(paid) == (["a", "b"] if said else [])
        if not task.cancelled():
            assert step > 5
            return
    raise AssertionError("it never came to an end")


LONG = "word " * 60_000
"""Longer than `MAX_CHARS_COUNTED_ON_LOOP` and than a message may be: storing it waits before it writes."""


async def test_a_cancellation_as_the_reply_arrives_keeps_the_reply(db: Path) -> None:
    tasks: list[asyncio.Task[Any]] = []

    def answer(_: Any) -> str:
        asyncio.get_running_loop().call_soon(tasks[0].cancel)
        return LONG

    async with opened(db, answer) as session:
        tasks.append(asyncio.create_task(session.send("go")))
        await asyncio.wait(tasks)
        assert tasks[0].cancelled()
        await session.engine.wait_for_tasks()
        assert await roles(session) == "ua"
        with pytest.raises(NothingToRetryError):
            await session.retry()


@pytest.mark.parametrize("output", ["paid", LONG])
@pytest.mark.parametrize("is_async", [True, False])
async def test_a_cancellation_as_the_tool_returns_loses_nothing(is_async: bool, output: str, db: Path) -> None:
    tasks: list[asyncio.Task[Any]] = []
    loop, paid = asyncio.get_running_loop(), []

    async def pay_async() -> str:
        loop.call_soon(tasks[0].cancel)
        return pay_now()

    def pay_in_thread() -> str:
        loop.call_soon_threadsafe(tasks[0].cancel)
        return pay_now()

    def pay_now() -> str:
        paid.append(1)
        return output

    pay: Any = pay_async if is_async else pay_in_thread
    pay.__name__ = "pay"
    async with opened(db, calls(("pay", {})), "Done.") as session:
        tasks.append(asyncio.create_task(session.send("go", tools=[pay])))
        await asyncio.wait(tasks)
        await session.engine.wait_for_tasks()
        with suppress(NothingToRetryError):
            await session.retry(tools=[pay])
        assert (paid, await roles(session)) == ([1], "uata")


async def test_a_failing_tool_does_not_take_its_siblings_results_along(db: Path) -> None:
    def fail() -> str:
        raise ValueError("no")

    async def pay() -> str:
        return "paid"

    async with opened(db, calls(("fail", {}), ("pay", {})), LLMServerError("no"), "Done.") as session:
        with pytest.raises(LLMServerError):
            await session.send("go", tools=[fail, pay])
        assert (await outputs(session))["call_1"] == "paid"
        assert (await session.retry(tools=[])).text == "Done."


async def test_a_result_that_cannot_be_stored_does_not_lose_the_others(db: Path, monkeypatch: Any) -> None:
    stored = asyncio.Event()

    async def unlucky() -> str:
        return "unlucky"

    async def pay() -> str:
        await stored.wait()
        return "paid"

    async with opened(db, calls(("unlucky", {}), ("pay", {})), "Done.") as session:
        append = session.engine.store.append

        async def failing(session_id: str, request: Any) -> Any:
            if any(part.output == "unlucky" for message in request.messages for part in message.tool_results):
                stored.set()
                raise MnesisError("the disk is full")
            return await append(session_id, request)

        monkeypatch.setattr(session.engine.store, "append", failing)
        with pytest.raises(MnesisError, match="the disk is full"):
            await session.send("go", tools=[unlucky, pay])
        monkeypatch.undo()
        assert await outputs(session) == {"call_1": "paid"}
        assert (await session.retry(tools=[unlucky])).text == "Done."
        assert len(session.history()) == 1


def test_a_synchronous_session_retries_too(db: Path) -> None:
    model = ScriptedLLM([LLMServerError("no"), LLMServerError("no"), "Done."])
    with SyncSession.open(model=MODEL, db_path=db, llm=model) as session:
        with pytest.raises(LLMError):
            session.send("go")
        with pytest.raises(LLMError):
            list(session.stream_retry())
        assert session.retry().text == "Done."
        with pytest.raises(NothingToRetryError):
            session.retry()


async def test_a_complete_turn_cannot_be_retried(db: Path) -> None:
    async with opened(db, "fine", calls(("look", {}))) as session:
        for _ in range(2):
            with pytest.raises(NothingToRetryError, match="complete"):
                await session.retry()
            with pytest.raises(NothingToRetryError, match="complete"):
                [event async for event in session.stream_retry()]
            await session.send("hello") if not await session.messages() else None
        await session.record("q", [ToolPart(tool_name="x", tool_call_id="c", output="y"), "a"])  # type: ignore[list-item]
        with pytest.raises(NothingToRetryError):
            await session.retry()
        await session.send("go", tools=[PENDING])
        with pytest.raises(NothingToRetryError, match="look"):
            await session.retry(tools=[PENDING])
        assert await roles(session) == "uauaua"
        await session.clear_context()
        with pytest.raises(NothingToRetryError):
            await session.retry()


async def test_calls_left_to_the_caller_stay_with_the_caller(db: Path) -> None:
    async def mine() -> str:
        await asyncio.Event().wait()
        return ""

    def now() -> str:
        return "mine"

    now.__name__ = "mine"
    async with opened(db, calls(("mine", {}), ("look", {})), "Done.") as session:
        seen = EventRecorder(session.event_bus)
        task = asyncio.create_task(session.send("go", tools=[mine, PENDING]))
        await until(lambda: len(seen.of(MnesisEvent.MESSAGE_CREATED)) == 2)
        task.cancel()
        await asyncio.wait([task])
        result = await session.retry(tools=[now, PENDING])
        assert [call.tool_name for call in result.tool_calls] == ["look"]
        assert (result.finish_reason, len(session.history())) == ("tool_calls", 1)
        done = await session.send([ToolResultPart(tool_call_id="call_1", output="blue")], tools=[now, PENDING])
        assert done.text == "Done."


async def test_a_turn_that_ran_out_of_rounds_can_be_continued(db: Path) -> None:
    def again() -> str:
        return "more"

    config = MnesisConfig(session=SessionConfig(max_tool_rounds=1))
    async with opened(db, calls(("again", {})), "Done.", config=config) as session:
        assert (await session.send("go", tools=[again])).finish_reason == "max_tool_rounds"
        assert (await session.retry(tools=[again])).text == "Done."
