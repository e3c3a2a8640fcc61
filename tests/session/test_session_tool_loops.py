"""Tool rounds of one turn: errors, limits, streams and repeated calls."""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from mnesis import (
    FinishReason,
    MnesisError,
    MnesisEvent,
    ToolDefinitionError,
    ToolPart,
    ToolResultPart,
)
from mnesis.llm.base import LLMReply
from mnesis.session import session as session_module
from mnesis.testing import EventRecorder
from tests.session.support import calls, roles
from tests.support.tool_sessions import LOOK, opened, requests, results


def _fails() -> None:
    raise ValueError("no such file")


async def _cancels() -> None:
    raise asyncio.CancelledError


async def _times_out() -> None:
    raise TimeoutError


def _exits() -> None:
    sys.exit(2)


async def _exits_later() -> None:
    sys.exit("no such option")


def _stops() -> None:
    raise StopIteration


async def _raises_a_group() -> None:
    raise ExceptionGroup("several", [ValueError("one")])


@pytest.mark.parametrize("tool", [_fails, _cancels, _times_out, _raises_a_group, _exits, _exits_later, _stops])
async def test_an_error_of_a_tool_goes_back_to_the_model(tool: Any, db: Path) -> None:
    async with opened(db, calls((tool.__name__, {})), "I see.") as session:
        assert (await session.send("go", tools=[tool])).text == "I see."
        (result,) = await results(session)
        assert result.is_error
        assert result.output
        sent = requests[session.id][1].messages
        assert sent[-1]["role"] == "tool"
        assert sent[-1]["content"].startswith("Error") or "Error" in sent[-1]["content"]


async def test_a_call_of_an_unknown_tool_is_answered_with_the_tools_there_are(db: Path) -> None:
    def known() -> str:
        return "ok"

    async with opened(db, calls(("unknown", {}), ("known", {})), "I see.") as session:
        await session.send("go", tools=[known])
        wrong, right = await results(session)
    assert wrong.is_error
    assert "known" in wrong.output
    assert (right.output, right.is_error) == ("ok", False)


async def test_bad_arguments_are_explained_to_the_model_without_a_call(db: Path) -> None:
    called = []

    def add(a: int) -> None:
        called.append(a)

    broken = ToolPart(tool_name="add", tool_call_id="x", raw_input='{"a": ')
    reply = LLMReply(tool_calls=(*calls(("add", {"a": "two"}), ("add", {})).tool_calls, broken))
    async with opened(db, reply, "I see.") as session:
        await session.send("go", tools=[add])
        found = await results(session)
    assert called == []
    assert all(result.is_error for result in found)
    assert "a" in found[0].output
    assert '{"a": ' in found[2].output


async def test_rounds_are_bounded_and_the_turn_is_complete(db: Path) -> None:
    def again() -> str:
        return "once more"

    async with opened(db, calls(("again", {})), max_tool_rounds=3) as session:
        result = await session.send("go", tools=[again])
        assert result.finish_reason == FinishReason.MAX_TOOL_ROUNDS
        assert await roles(session) == "uatatat"
        assert len(session.history()) == 1
        assert result.tokens == session.token_usage
        await session.record("and", "on")
        assert [snapshot.turn_index for snapshot in session.history()] == [0, 1]


async def test_own_tools_and_the_callers_tools_mix(db: Path) -> None:
    def mine() -> str:
        return "mine"

    async with opened(db, calls(("mine", {}), ("look", {"at": "sky"})), "done") as session:
        result = await session.send("go", tools=[mine, LOOK])
        assert [call.tool_name for call in result.tool_calls] == ["look"]
        assert [r.output for r in await results(session)] == ["mine"]
        assert len(session.history()) == 1
        done = await session.send([ToolResultPart(tool_call_id="call_1", output="blue")], tools=[mine, LOOK])
        assert done.text == "done"
        sent = requests[session.id][1].messages
        assert [m.get("tool_call_id") for m in sent if m["role"] == "tool"] == ["call_0", "call_1"]
        assert len(session.history()) == 2


async def test_streamed_turns_run_tools_too(db: Path) -> None:
    def add(a: int, b: int) -> int:
        return a + b

    first = LLMReply(text="Let me add. ", tool_calls=calls(("add", {"a": 1, "b": 2})).tool_calls)
    async with opened(db, first, "It is 3.") as session:
        events = [event async for event in session.stream("go", tools=[add])]
        assert "".join(event.text for event in events if event.type == "text_delta") == "Let me add. It is 3."
        assert events[-1].result.text == "It is 3."
        assert await roles(session) == "uata"


@pytest.mark.parametrize("verb", ["send", "record", "append", "stream", "hide", "clear_context", "close"])
async def test_a_tool_that_calls_its_own_session_gets_an_error(verb: str, db: Path) -> None:
    async with opened(db, calls(("reenter", {})), "I see.") as session:

        async def reenter() -> None:
            if verb == "stream":
                async for _ in session.stream("again"):
                    pass
            arguments = {"send": ("again",), "record": ("a", "b"), "append": ([],), "hide": (1, 1)}.get(verb, ())
            await getattr(session, verb)(*arguments)

        result = await asyncio.wait_for(session.send("go", tools=[reenter]), 5)
        assert result.text == "I see."
        (outcome,) = await results(session)
        assert outcome.is_error
        assert session.id in outcome.output


async def test_a_tool_may_read_its_own_session_and_use_another(db: Path) -> None:
    async with opened(db, calls(("nested", {})), "done") as session, opened(db, "inner answer") as inner:

        async def nested() -> str:
            assert len(await session.messages()) == 2
            return (await inner.send("inner question")).text

        await session.send("go", tools=[nested])
        assert (await results(session))[0].output == "inner answer"


async def test_a_task_left_by_a_tool_may_use_the_session_once_the_turn_is_over(db: Path) -> None:
    left: list[asyncio.Task[Any]] = []
    over = asyncio.Event()
    async with opened(db, calls(("remind", {})), "done") as session:

        async def remind() -> str:
            async def later() -> None:
                await over.wait()
                await session.record("reminder", "thanks")

            left.append(asyncio.create_task(later()))
            return "ok"

        await session.send("go", tools=[remind])
        over.set()
        await left[0]
        assert await roles(session) == "uataua"


async def test_two_tools_of_one_name_are_refused(db: Path) -> None:
    def look() -> str:
        return ""

    async with opened(db, "x") as session:
        with pytest.raises(ToolDefinitionError, match="look"):
            await session.send("go", tools=[LOOK, look])


async def test_outputs_that_are_no_text_are_given_as_json(db: Path) -> None:
    values: list[Any] = [None, 5, [1, "ü"], {"a": {1, 2}}, float("nan"), b"raw", "\ud800", object]

    def give(n: int) -> Any:
        return values[n]

    async with opened(db, calls(*(("give", {"n": n}) for n in range(len(values)))), "done") as session:
        assert (await session.send("go", tools=[give])).text == "done"
        outputs = [r.output for r in await results(session)]
    assert outputs[:3] == ["", "5", '[1, "ü"]']
    assert outputs[6] == "\ud800"
    assert all(isinstance(output, str) for output in outputs)


def test_the_session_cannot_be_left_hanging_by_a_tool_in_a_thread(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "TOOL_GRACE_SECONDS", 0.1)
    release = threading.Event()

    def hang() -> None:
        release.wait(30)

    async def main() -> str:
        async with opened(db, calls(("hang", {})), "done") as session:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(session.send("go", tools=[hang]), 0.2)
            assert (await session.send("next")).text == "done"
            return await roles(session)

    try:
        assert asyncio.run(asyncio.wait_for(main(), 20)) == "uaua"
        assert not release.is_set()
    finally:
        release.set()


@pytest.mark.parametrize("api", ["send", "record"])
async def test_a_repeated_call_is_reported_at_the_threshold(api: str, db: Path) -> None:
    reply = calls(("look", {"at": "sky", "for": 1}))
    async with opened(db, reply, doom_loop_threshold=3) as session:
        seen = EventRecorder(session.event_bus)
        flags = []
        for _ in range(5):
            if api == "send":
                flags.append((await session.send("go", tools=[LOOK])).doom_loop_detected)
            else:
                same = ToolPart(tool_name="look", tool_call_id="c", input={"for": 1, "at": "sky"}, output="blue")
                flags.append((await session.record("go", [same])).doom_loop_detected)
        assert flags == [False, False, True, True, True]
        (payload,) = seen.of(MnesisEvent.DOOM_LOOP_DETECTED)
        assert (payload.tool, payload.count, payload["session_id"]) == ("look", 3, session.id)
        other = ToolPart(tool_name="look", tool_call_id="c", input={"at": "sea"}, output="grey")
        assert not (await session.record("go", [other])).doom_loop_detected


async def test_a_loop_inside_one_send_is_seen_while_it_runs(db: Path) -> None:
    def again() -> str:
        return "no"

    async with opened(db, calls(("again", {})), max_tool_rounds=6, doom_loop_threshold=2) as session:
        seen = EventRecorder(session.event_bus)
        result = await session.send("go", tools=[again])
        assert result.doom_loop_detected
        assert len(seen.of(MnesisEvent.DOOM_LOOP_DETECTED)) == 1


def test_refusals_are_errors_of_this_library() -> None:
    assert issubclass(ToolDefinitionError, MnesisError)
