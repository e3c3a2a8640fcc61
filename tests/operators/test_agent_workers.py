"""Workers join stored runs of agents and stored delegations; sessions of dead workers are continued."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mnesis import Engine, MnesisSession, ToolSpec
from mnesis.errors import ConfigurationError, RunMismatchError
from mnesis.llm.base import LLMReply, LLMRequest
from mnesis.models.message import ToolPart
from mnesis.operators import AgenticMap, Task, delegate_all
from mnesis.operators.join import join_run
from mnesis.recall.grants import Grant
from mnesis.testing import ScriptedLLM
from tests.store.children import Child, Report, start
from tests.support.durable_items import Number
from tests.support.postgres import temporary_schema
from tests.support.warm_python import run_python

MODEL = "openai/gpt-4o"
ITEMS = 12
LOOK = ToolSpec("look", "Look something up.", handler=lambda: "it is blue", read_only=True)


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database that several processes can use."""
    if request.param == "sqlite":
        yield str(tmp_path / "work.db")
        return
    pytest.importorskip("psycopg")
    with temporary_schema() as url:
        yield url


def look_then_answer(request: LLMRequest) -> LLMReply:
    """Call the tool first, and answer with what it found."""
    newest = request.messages[-1]
    if newest["role"] == "tool":
        return LLMReply(text=f"found: {newest['content']}")
    return LLMReply(tool_calls=(ToolPart(tool_name="look", tool_call_id="call_1"),), finish_reason="tool_calls")


def start_worker(database: str) -> Child:
    async def run(tell: Report) -> None:
        def answer(request: LLMRequest) -> LLMReply:
            tell(request.messages[-1]["role"])
            return look_then_answer(request)

        async with Engine(database) as engine:
            joined = await join_run(engine, "r", llm=ScriptedLLM(answer), tools=[LOOK], concurrency=2)
            tell(f"finished {joined.done}")

    return start(run)


def finish_with_kills(database: str) -> None:
    """Start workers and kill them after some model calls, then let two of them finish the run."""
    choose = random.Random(5)
    for _ in range(3):
        workers = [start_worker(database) for _ in range(2)]
        for worker in workers:
            for _ in range(choose.randint(1, 6)):
                worker.read_line()
            os.kill(worker.pid, signal.SIGKILL)
            worker.wait()
    for worker in [start_worker(database) for _ in range(2)]:
        lines, code = worker.wait()
        assert (lines[-1], code) == (f"finished {ITEMS}", 0)


def test_agents_of_killed_workers_are_continued(database: str) -> None:
    template, options = "Look at {{ item }}.", {"run_id": "r", "tools": [LOOK], "max_claims": 1_000}

    async def enqueue() -> None:
        async with Engine(database) as engine:
            run = await AgenticMap(engine=engine, model=MODEL).enqueue(range(ITEMS), template, **options)
            assert (run.pending, run.kind) == (ITEMS, "agentic")

    async def verify() -> None:
        async with Engine(database) as engine:
            unused = AgenticMap(engine=engine, model=MODEL, llm=ScriptedLLM())
            batch = await unused.run_all(range(ITEMS), template, **options)
            assert {result.output_text for result in batch.results} == {"found: it is blue"}
            sessions = [result.session_id for result in batch.results]
            assert len(set(sessions)) == ITEMS
            for session_id in sessions:
                log = await engine.store.messages(session_id)
                assert [message.role for message in log].count("user") >= 1
                assert log[-1].text_content() == "found: it is blue"
            assert await engine.store.check() == []

    asyncio.run(enqueue())
    finish_with_kills(database)
    asyncio.run(verify())


def test_delegated_tasks_are_shared_with_other_processes(database: str) -> None:
    tasks = [Task(f"Part {number}", tools=[LOOK], agent=f"agent-{number}") for number in range(ITEMS)]

    async def delegate(llm: Any, **more: Any) -> Any:
        async with (
            Engine(database) as engine,
            await MnesisSession.open(model=MODEL, engine=engine, session_id="parent", llm=llm) as parent,
        ):
            return await delegate_all(tasks, session=parent, run_id="r", **more)

    async def begin() -> None:
        asked = asyncio.Event()

        async def never(request: LLMRequest) -> LLMReply:
            asked.set()
            await asyncio.Event().wait()
            raise AssertionError

        running = asyncio.create_task(delegate(ScriptedLLM(never)))
        await asyncio.wait([running, asyncio.ensure_future(asked.wait())], return_when=asyncio.FIRST_COMPLETED)
        assert asked.is_set(), running
        running.cancel()
        await asyncio.wait([running])

    asyncio.run(begin())
    for _ in range(2):
        worker = start_worker(database)
        worker.read_line()
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
    lines, code = start_worker(database).wait()
    assert (lines[-1], code) == (f"finished {ITEMS}", 0)
    results = asyncio.run(delegate(ScriptedLLM()))
    assert [result.text for result in results] == ["found: it is blue"] * ITEMS

    async def verify() -> None:
        async with Engine(database) as engine:
            records = [await engine.store.session(result.session_id) for result in results]
            assert [record.agent for record in records] == [f"agent-{number}" for number in range(ITEMS)]
            assert {record.parent_id for record in records} == {"parent"}

    asyncio.run(verify())


async def test_a_worker_needs_the_tools_and_functions_of_the_agents(tmp_path: Path) -> None:
    async with Engine(tmp_path / "work.db", llm=ScriptedLLM(look_then_answer)) as engine:
        agents = AgenticMap(engine=engine, model=MODEL)
        await agents.enqueue([1], "{{ item }}", run_id="r", tools=[LOOK], stop=is_blue)
        with pytest.raises(ConfigurationError, match="tools that this worker does not have: look"):
            await agents.work("r", stop=is_blue)
        with pytest.raises(ConfigurationError, match=r"the function .*\.is_blue says so"):
            await agents.work("r", tools=[LOOK])
        with pytest.raises(RunMismatchError):
            await agents.work("r", tools=[LOOK], stop=lambda result: True)
        other = ToolSpec("other", "Not part of the run.", handler=print)
        run = await agents.work("r", tools=[other, LOOK], stop=is_blue)
        assert (run.done, run.failed) == (1, 0)


def is_blue(result: Any) -> bool:
    return "blue" in result.text


async def test_delegation_as_a_run_keeps_its_rules(tmp_path: Path) -> None:
    llm = ScriptedLLM('{"n": 4}')
    async with (
        Engine(tmp_path / "work.db", llm=llm) as engine,
        await MnesisSession.open(model=MODEL, engine=engine) as parent,
    ):
        with pytest.raises(ConfigurationError, match="grant= opens the history"):
            await delegate_all(["a"], session=parent, run_id="r", grant=Grant())
        same_name = ToolSpec("look", "Another.", handler=print, read_only=True)
        with pytest.raises(ConfigurationError, match="two tools are named 'look'"):
            await delegate_all([Task("a", tools=[LOOK]), Task("b", tools=[same_name])], session=parent, run_id="r")
        (result,) = await delegate_all(["a"], session=parent, run_id="r", output_schema=Number)
        assert result.output == Number(n=4)
        count = len(llm.requests)
        (again,) = await delegate_all(["a"], session=parent, run_id="r", output_schema=Number)
        assert (again.output, again.session_id, len(llm.requests)) == (Number(n=4), result.session_id, count)
        with pytest.raises(RunMismatchError):
            await delegate_all(["b"], session=parent, run_id="r", output_schema=Number)


def test_a_command_takes_the_code_of_agents_from_modules(tmp_path: Path) -> None:
    path = tmp_path / "work.db"

    async def enqueue() -> None:
        async with Engine(path) as engine:
            await AgenticMap(engine=engine, model="mock").enqueue([1], "{{ item }}", run_id="r", tools=[LOOK])

    asyncio.run(enqueue())
    (tmp_path / "my_tools.py").write_text(
        "from mnesis import ToolSpec\nLOOK = ToolSpec('look', 'Look.', handler=lambda: 'blue', read_only=True)\n"
    )
    command = ["-m", "mnesis.cli", "worker", "r", "--db", str(path)]
    environment = {**os.environ, "MNESIS_MOCK_LLM": "1"}

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return run_python([*command, *more], cwd=tmp_path, env=environment, has_mnesis=True)

    missing = run()
    assert missing.returncode == 2
    assert "--tools" in missing.stderr
    assert run("--tools", "no_such_module:LOOK").returncode == 2
    done = run("--tools", "my_tools:LOOK")
    assert done.returncode == 0, done.stderr
    assert "run r: 1 done, 0 failed of 1 item" in done.stdout
