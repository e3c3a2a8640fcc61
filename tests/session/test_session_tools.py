"""Tools: described to the model, called by it, run by the session or by its user."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field

from mnesis import (
    FinishReason,
    MnesisConfig,
    MnesisError,
    MnesisEvent,
    MnesisSession,
    SessionConfig,
    ToolDefinitionError,
    ToolPart,
    ToolResultPart,
    ToolSpec,
    ToolStatus,
)
from mnesis.llm.base import LLMReply, LLMRequest
from mnesis.testing import EventRecorder, ScriptedLLM
from tests.session.support import MODEL, calls, roles

LOOK = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {"at": {"type": "string"}}}},
}


requests: dict[str, list[LLMRequest]] = {}


@asynccontextmanager
async def opened(db: Path, *script: Any, **settings: Any) -> AsyncIterator[MnesisSession]:
    model = ScriptedLLM(list(script), repeat_last=True)
    config = MnesisConfig(session=SessionConfig(**settings))
    async with MnesisSession.open(model=MODEL, db_path=db, llm=model, config=config) as session:
        requests[session.id] = model.requests
        yield session


async def results(session: MnesisSession) -> list[ToolResultPart]:
    """The results in the order of their calls. The log has them in the order in which the tools finished."""
    stored = [part for message in await session.messages() for part in message.tool_results]
    return sorted(stored, key=lambda part: part.tool_call_id)


RESULTS = [
    ToolResultPart(tool_call_id="call_0", output="blue"),
    {"type": "tool_result", "tool_call_id": "call_0", "output": "blue"},
    {"type": "tool_result", "tool_use_id": "call_0", "content": "blue"},
    {"type": "tool_result", "tool_use_id": "call_0", "content": [{"type": "text", "text": "blue"}]},
    {"role": "tool", "tool_call_id": "call_0", "content": "blue"},
    ToolPart(tool_name="look", tool_call_id="call_0", output="blue"),
    ToolPart(tool_name="look", tool_call_id="call_0", output="blue", status=ToolStatus(state="completed")),
]


@pytest.mark.parametrize("given", RESULTS)
async def test_the_output_of_a_dict_tool_goes_into_the_next_send(given: Any, db: Path) -> None:
    async with opened(db, calls(("look", {"at": "sky"})), "It is blue.") as session:
        first = await session.send("What colour?", tools=[LOOK])
        assert first.finish_reason == FinishReason.TOOL_CALLS
        assert [(c.tool_name, c.tool_call_id, c.input) for c in first.tool_calls] == [("look", "call_0", {"at": "sky"})]
        second = await session.send([given], tools=[LOOK])
        assert second.text == "It is blue."
        sent = requests[session.id][1].messages
    assert sent[-1] == {"role": "tool", "tool_call_id": "call_0", "content": "blue"}
    assert json.loads(sent[-2]["tool_calls"][0]["function"]["arguments"]) == {"at": "sky"}
    assert len(sent) == 4


async def test_a_result_may_come_with_further_words(db: Path) -> None:
    async with opened(db, calls(("look", {})), "ok") as session:
        await session.send("What colour?", tools=[LOOK])
        await session.send([RESULTS[0], "Say it in French."], tools=[LOOK])
        assert await roles(session) == "uatua"


async def test_a_call_whose_result_never_comes_does_not_spoil_the_session(db: Path) -> None:
    async with opened(db, calls(("look", {})), "Never mind then.") as session:
        await session.send("What colour?", tools=[LOOK])
        await session.send("Forget it.")
        sent = requests[session.id][1].messages
        assert [message["role"] for message in sent] == ["system", "user", "assistant", "tool", "user"]
        assert "No result was recorded" in sent[3]["content"]
        assert await results(session) == []


@pytest.mark.parametrize(
    "tool",
    [
        LOOK,
        {"name": "look", "input_schema": LOOK["function"]["parameters"]},  # type: ignore[index]  # a dict
        {"name": "look", "parameters": LOOK["function"]["parameters"]},  # type: ignore[index]  # a dict
        {"type": "function", "name": "look", "parameters": LOOK["function"]["parameters"]},  # type: ignore[index]  # a dict
    ],
)
async def test_tool_dicts_of_each_dialect_reach_the_model_in_one_form(tool: Any, db: Path) -> None:
    async with opened(db, "ok") as session:
        await session.send("go", tools=[tool])
        assert list(requests[session.id][0].tools) == [LOOK]


async def test_functions_run_and_the_model_sees_what_they_gave(db: Path) -> None:
    def add(a: int, b: Annotated[int, Field(description="the other")] = 1) -> int:
        """Add two numbers."""
        return a + b

    async def shout(text: str) -> str:
        return text.upper()

    async with opened(db, calls(("add", {"a": "2"}), ("shout", {"text": "hi"})), "done") as session:
        result = await session.send("go", tools=[add, shout])
        assert (result.text, result.tool_calls, result.finish_reason) == ("done", (), "stop")
        assert await roles(session) == "uatta"
        assert [(r.tool_name, r.output, r.is_error) for r in await results(session)] == [
            ("add", "3", False),
            ("shout", "HI", False),
        ]
        schema = requests[session.id][0].tools[0]["function"]
        assert schema["description"] == "Add two numbers."
        assert schema["parameters"]["required"] == ["a"]
        assert schema["parameters"]["properties"]["b"]["description"] == "the other"
        assert len(session.history()) == 1
        assert result.tokens == session.token_usage


async def test_a_tool_spec_an_object_and_a_method_can_be_tools(db: Path) -> None:
    class Box:
        name, description, parameters = "box", "A box.", {"type": "object", "properties": {}}

        def __call__(self) -> str:
            return "boxed"

        def method(self, word: str) -> str:
            return word * 2

    spec = ToolSpec("spec", "A spec.", {"type": "object", "properties": {}}, handler=lambda: {"a": [1]})
    async with opened(db, calls(("spec", {}), ("box", {}), ("method", {"word": "ab"})), "done") as session:
        await session.send("go", tools=[spec, Box(), Box().method])
        assert [r.output for r in await results(session)] == ['{"a": [1]}', "boxed", "abab"]


async def test_sync_and_async_tools_of_one_reply_run_side_by_side(db: Path) -> None:
    met = threading.Barrier(2, timeout=10)
    other = asyncio.Event()

    def one() -> str:
        met.wait()
        return "met"

    async def waits() -> str:
        await asyncio.wait_for(other.wait(), 10)
        return "woken"

    async def wakes() -> str:
        other.set()
        return "woke"

    reply = calls(("one", {}), ("waits", {}), ("two", {}), ("wakes", {}))
    async with opened(db, reply, "done") as session:
        two = ToolSpec("two", "Another.", handler=one)
        await session.send("go", tools=[one, two, waits, wakes])
        assert [r.output for r in await results(session)] == ["met", "woken", "met", "woke"]


async def test_no_more_tools_run_at_once_than_allowed(db: Path) -> None:
    running, most = 0, 0

    async def work(n: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(5):
            await asyncio.sleep(0)
        running -= 1

    async with opened(db, calls(*(("work", {"n": n}) for n in range(9))), "done", tool_concurrency=3) as session:
        await session.send("go", tools=[work])
        assert len(await results(session)) == 9
    assert most == 3


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


def test_the_session_cannot_be_left_hanging_by_a_tool_in_a_thread(db: Path) -> None:
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


@pytest.mark.parametrize("door", ["send", "record"])
async def test_a_repeated_call_is_reported_at_the_threshold(door: str, db: Path) -> None:
    reply = calls(("look", {"at": "sky", "for": 1}))
    async with opened(db, reply, doom_loop_threshold=3) as session:
        seen = EventRecorder(session.event_bus)
        flags = []
        for _ in range(5):
            if door == "send":
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
