"""Tools: described to the model, called by it, run by the session or by its user."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field

from mnesis import (
    FinishReason,
    ToolPart,
    ToolResultPart,
    ToolSpec,
    ToolStatus,
)
from tests.session.support import calls, roles
from tests.support.tool_sessions import LOOK, opened, requests, results

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
