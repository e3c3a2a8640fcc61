"""A run of agents that ends too early and is started again does only what is missing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mnesis import Engine, MnesisEvent, ToolSpec
from mnesis.errors import LLMServerError
from mnesis.llm.base import LLMReply, LLMRequest
from mnesis.models.message import ToolPart
from mnesis.operators.agentic_map import AgenticMap
from mnesis.testing import EventRecorder, ScriptedLLM
from tests.support.openai_server import Exchange, OpenAIServer, Reply

MODEL = "openai/gpt-4o"
ITEMS = 12


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    async with Engine(tmp_path / "work.db") as engine:
        yield engine


def said(request: LLMRequest) -> list[tuple[str, str]]:
    return [(m["role"], str(m["content"])) for m in request.messages if m["role"] != "system"]


async def cut_short(engine: Engine, script: list[Any], *, requests: int, **settings: Any) -> None:
    """Begin the run "r" over one item, and cancel it once the model was asked so often; the last answer never comes."""
    arrived = asyncio.Event()

    async def never(request: LLMRequest) -> str:
        arrived.set()
        await asyncio.Event().wait()
        return "never"

    llm = ScriptedLLM([*script, never])
    agents = AgenticMap(engine=engine, model=MODEL, llm=llm)
    running = asyncio.create_task(agents.run_all(["a"], "Do {{ item }}", run_id="r", **settings))
    await asyncio.wait_for(arrived.wait(), 30)
    assert len(llm.requests) == requests
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def resumed(engine: Engine, script: Any, **settings: Any) -> tuple[Any, ScriptedLLM]:
    llm = ScriptedLLM(script)
    batch = await AgenticMap(engine=engine, model=MODEL, llm=llm).run_all(
        ["a"], "Do {{ item }}", run_id="r", **settings
    )
    return batch.results[0], llm


async def test_turns_that_were_made_are_not_made_again(engine: Engine) -> None:
    await cut_short(engine, ["first"], requests=2, stop="DONE")
    result, llm = await resumed(engine, ["second", "third DONE"], stop="DONE")
    assert (result.success, result.turns, result.intermediate_outputs) == (True, 3, ["first", "second"])
    told = said(llm.requests[0])
    assert told[:2] == [("user", "Do a"), ("assistant", "first")]
    assert "interrupted" in told[-1][1]
    (record,) = (await engine.sessions()).sessions
    assert (record.id, result.token_usage) == (result.session_id, record.usage)


async def test_tool_calls_that_were_made_are_not_made_again(engine: Engine) -> None:
    ran: list[int] = []
    look = ToolSpec("look", "Look.", handler=lambda: ran.append(1) or "seen", read_only=True)
    call = LLMReply(tool_calls=(ToolPart(tool_name="look", tool_call_id="c"),))
    await cut_short(engine, [call], requests=2, tools=[look])
    result, llm = await resumed(engine, "it is blue", tools=[look])
    assert (result.output_text, ran) == ("it is blue", [1])
    assert ("tool", "seen") in said(llm.requests[0])


async def test_refused_answers_count_across_the_interruption(engine: Engine) -> None:
    settings: dict[str, Any] = {"output_schema": {"type": "object"}, "max_retries": 1}
    await cut_short(engine, ["no json"], requests=2, **settings)
    result, llm = await resumed(engine, "still none", **settings)
    assert (result.success, result.error_kind, result.attempts, len(llm.requests)) == (False, "validation", 2, 1)


async def test_an_answer_that_was_complete_is_taken_as_it_is(engine: Engine) -> None:
    """As a process leaves it that dies between the last turn and the end of the item."""
    first, _ = await resumed(engine, "the answer")
    await engine.store.purge_run("r")
    again, llm = await resumed(engine, [])
    assert (again.output_text, again.session_id, llm.requests) == ("the answer", first.session_id, [])


async def test_an_item_whose_model_failed_continues_in_its_session(engine: Engine) -> None:
    settings: dict[str, Any] = {"stop": "DONE", "max_retries": 0}
    failed, _ = await resumed(engine, ["first", LLMServerError("down")], **settings)
    assert (failed.error_kind, failed.output_text) == ("llm_error", "first")
    stored, llm = await resumed(engine, [], **settings)
    assert (stored.error_kind, stored.resumed, llm.requests) == ("llm_error", True, [])
    done, llm = await resumed(engine, ["DONE"], retry_failed=True, **settings)
    assert (done.success, done.session_id, done.turns) == (True, failed.session_id, 2)


async def test_an_item_that_used_up_its_turns_begins_anew_when_it_is_retried(engine: Engine) -> None:
    settings: dict[str, Any] = {"stop": "DONE", "max_turns": 2}
    failed, _ = await resumed(engine, "thinking", **settings)
    done, llm = await resumed(engine, ["DONE"], retry_failed=True, **settings)
    assert (done.success, done.turns, said(llm.requests[0])) == (True, 1, [("user", "Do a")])
    assert done.session_id != failed.session_id


async def test_resuming_closes_what_it_opens(engine: Engine) -> None:
    await resumed(engine, "the answer")
    await engine.store.purge_run("r")
    with EventRecorder(engine.events) as recorder:
        await resumed(engine, [])
        assert len(recorder.of(MnesisEvent.SESSION_CLOSED)) == 1


WORKER = """
import asyncio, json, sys, urllib.request
from mnesis import Engine
from mnesis.operators.agentic_map import AgenticMap

url, path, out = sys.argv[1:]

def ask(messages):
    body = json.dumps({"messages": messages}).encode()
    with urllib.request.urlopen(url + "/chat/completions", body, timeout=60) as answer:
        return json.load(answer)["choices"][0]["message"]["content"]

async def main():
    async with Engine(path, llm=ask) as engine:
        agents = AgenticMap(engine=engine, model="openai/gpt-4o")
        batch = await agents.run_all(
            list(range(12)), "item {{ item }}.", run_id="r", stop="DONE", concurrency=3,
            output_path=out, lease_seconds=2.0, max_claims=10)
        print(len(batch.successes), len(batch.failures))

asyncio.run(main())
"""


def test_repeated_kills_lose_nothing_and_pay_for_no_turn_twice(
    tmp_path: Path,
) -> None:
    """The server kills its client in place of the 3rd and the 15th answer. Each item takes two turns."""
    child: subprocess.Popen[str] | None = None
    asked = 0
    deadly = {3, 15}

    def answer(exchange: Exchange) -> None:
        nonlocal asked
        asked += 1
        assert child is not None
        if asked in deadly:
            os.kill(child.pid, signal.SIGKILL)
            return
        messages = [m for m in exchange.body["messages"] if m["role"] != "system"]
        finished = any(m["role"] == "assistant" for m in messages)
        Reply((f"{messages[0]['content']} DONE" if finished else "thinking",))(exchange)

    with OpenAIServer(answer) as server:
        command = [sys.executable, "-c", WORKER, server.url, str(tmp_path / "work.db"), str(tmp_path / "out.jsonl")]
        ends = []
        for _ in range(len(deadly) + 1):
            child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            output, _ = child.communicate(timeout=90)
            ends.append((child.returncode, output.strip()))
    assert ends == [(-signal.SIGKILL, "")] * len(deadly) + [(0, f"{ITEMS} 0")]
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert sorted(line["index"] for line in lines) == list(range(ITEMS))
    assert all(line["output_text"] == f"item {line['index']}. DONE" for line in lines)
    # An answer under way when its client died may be asked for again: at most as many as there were agents at work.
    assert asked <= 2 * ITEMS + 3 * len(deadly)
    records = asyncio.run(all_sessions(tmp_path / "work.db"))
    assert len(records) == ITEMS
    assert all(record.turn_count == 2 for record in records)


async def all_sessions(path: Path) -> list[Any]:
    async with Engine(path) as engine:
        return list((await engine.sessions()).sessions)
