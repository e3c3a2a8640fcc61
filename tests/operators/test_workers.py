"""Workers join a stored run knowing only its name: from other processes, which may die at any moment."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, field_validator

from mnesis.engine import Engine
from mnesis.errors import ConfigurationError, RunMismatchError, RunNotFoundError
from mnesis.llm.base import LLMReply, LLMRequest
from mnesis.models.run import RunSpec
from mnesis.operators import AgenticMap, LLMMap
from mnesis.testing import ScriptedLLM
from mnesis.testing.run_suite import assert_counts_agree
from tests.store.children import Child, Report, start
from tests.support.durable_items import Number, echo
from tests.support.openai_server import Exchange, OpenAIServer, Reply
from tests.support.postgres import connect, temporary_schema
from tests.support.warm_python import run_python

ITEMS = 90
FOREVER_SECONDS = 10.0**6
KILL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'test-workers'"
TEMPLATE = "{{ item }}"


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database that several processes can use."""
    if request.param == "sqlite":
        yield str(tmp_path / "work.db")
        return
    pytest.importorskip("psycopg")
    with temporary_schema() as url:
        yield f"{url}&application_name=test-workers"


def start_worker(database: str, work: Callable[[Engine, Any], Any]) -> Child:
    """Start a process that joins the run "r" and reports each question that its model is asked."""

    async def run(tell: Report) -> None:
        async def answer(request: LLMRequest) -> LLMReply:
            tell(str(request.messages[-1]["content"]))
            await asyncio.sleep(0)
            return echo(request)

        async with Engine(database) as engine:
            joined = await work(engine, ScriptedLLM(answer))
            tell(f"finished {joined.is_finished} {joined.done}")

    return start(run)


def work_on_map(engine: Engine, llm: Any) -> Any:
    return LLMMap(engine=engine, llm=llm).work("r", concurrency=3)


def kill_after(child: Child, lines: int) -> None:
    """Kill a worker after it was asked this many questions, unless it ends before."""
    for _ in range(lines):
        if not child.read_line():
            break
    os.kill(child.pid, signal.SIGKILL)
    child.wait()


def test_killed_workers_and_connections_lose_and_repeat_nothing(database: str) -> None:
    async def enqueue() -> None:
        async with Engine(database) as engine:
            run = await LLMMap(engine=engine, llm=ScriptedLLM()).enqueue(
                range(ITEMS), TEMPLATE, Number, run_id="r", lease_seconds=FOREVER_SECONDS, max_claims=1_000
            )
            assert (run.total, run.pending) == (ITEMS, ITEMS)

    asyncio.run(enqueue())
    choose = random.Random(17)
    for _ in range(3):
        workers = [start_worker(database, work_on_map) for _ in range(3)]
        for worker in workers:
            kill_after(worker, choose.randint(1, 8))
            if "postgresql" in database:
                with connect(database) as connection:
                    connection.execute(KILL + " AND pid <> pg_backend_pid()")
    workers = [start_worker(database, work_on_map) for _ in range(2)]
    for worker in workers:
        lines, code = worker.wait()
        assert (lines[-1], code) == (f"finished True {ITEMS}", 0)

    async def verify() -> None:
        async with Engine(database) as engine:
            await assert_counts_agree(engine.store)
            run = await engine.store.run("r")
            assert (run.done, run.failed, run.attempts) == (ITEMS, 0, ITEMS)
            unused = ScriptedLLM()
            batch = await LLMMap(engine=engine, llm=unused).run_all(range(ITEMS), TEMPLATE, Number, run_id="r")
            assert [result.output.n for result in batch.results] == list(range(ITEMS))
            assert batch.cost == pytest.approx(run.cost) == pytest.approx(0.25 * ITEMS)
            assert await engine.store.check() == []

    asyncio.run(verify())


def test_a_command_joins_a_run_with_its_own_key(database: str) -> None:
    server = OpenAIServer(_echo_item)

    async def enqueue() -> None:
        async with Engine(database) as engine:
            await LLMMap(model="openai/test-model", engine=engine).enqueue(
                range(5), TEMPLATE, Number, run_id="r", llm_options={**server.options, "seed": 7}
            )
            plan = await engine.store.run_plan("r")
            assert server.options["api_key"] not in plan
            assert json.loads(plan)["llm_options"] == {"temperature": 0.0, "api_base": server.url, "seed": 7}

    try:
        asyncio.run(enqueue())
        command = ["-m", "mnesis.cli", "worker", "r", "--db", database, "--json"]
        environment = {**os.environ, "OPENAI_API_KEY": "sk-worker-own-key-0123456789"}
        done = run_python(command, env=environment, has_mnesis=True)
        assert done.returncode == 0, done.stderr
        run = json.loads(done.stdout)
        assert (run["done"], run["total"], run["attempts"]) == (5, 5, 5)
        assert {headers["authorization"] for headers in server.headers} == {"Bearer sk-worker-own-key-0123456789"}
        assert {request["seed"] for request in server.requests} == {7}
        unknown = run_python([*command[:3], "other", *command[4:]], has_mnesis=True)
        assert unknown.returncode == 2
        assert "Run not found: 'other'" in unknown.stderr
    finally:
        server.close()


def _echo_item(exchange: Exchange) -> None:
    Reply((json.dumps({"n": int(exchange.body["messages"][1]["content"])}),))(exchange)


@pytest.fixture
async def engine(tmp_path: Path) -> Any:
    async with Engine(tmp_path / "work.db") as engine:
        yield engine


def contains(folder: Path, text: str) -> bool:
    """Return whether a file of the database contains a text."""
    return any(text.encode() in path.read_bytes() for path in folder.iterdir())


async def test_no_secret_is_stored_with_a_run(engine: Engine, tmp_path: Path) -> None:
    secret = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789"
    options = {
        "api_key": secret,
        "api_base": f"https://ada:{secret}@proxy.example/v1?key={secret}",
        "extra_headers": {"authorization": f"Bearer {secret}"},
        "aws_secret_access_key": secret,
        "metadata": {"token": secret},
        "callback": print,
        "stop": ("a", "b"),
        "top_p": 0.5,
    }
    mapper = LLMMap(model="openai/x", engine=engine, llm=ScriptedLLM(echo))
    await mapper.enqueue([1], TEMPLATE, Number, run_id="r", llm_options=options)
    plan = json.loads(await engine.store.run_plan("r"))
    assert plan["llm_options"] == {"temperature": 0.0, "top_p": 0.5}
    assert plan["omitted_options"] == ["callback", "metadata", "stop"]
    assert not contains(tmp_path, secret)
    with pytest.raises(ConfigurationError, match="not stored: callback, metadata, stop; pass them"):
        await mapper.work("r")
    own = {name: options[name] for name in ("callback", "metadata", "stop")}
    with pytest.raises(RunMismatchError, match="would not give the results"):
        await mapper.work("r", llm_options={**own, "stop": "a"})
    assert (await mapper.work("r", llm_options=own)).done == 1
    await mapper.enqueue([1], f"The key is {secret}: {{{{ item }}}}", Number, run_id="s")
    assert secret not in await engine.store.run_plan("s")
    with pytest.raises(ConfigurationError, match="contain a secret"):
        await mapper.work("s")


class Even(BaseModel):
    n: int

    @field_validator("n")
    @classmethod
    def _refuse_odd(cls, value: int) -> int:
        if value % 2:
            raise ValueError("odd")
        return value


async def test_code_of_a_schema_must_be_passed_to_a_worker(engine: Engine) -> None:
    mapper = LLMMap(engine=engine, llm=ScriptedLLM(echo))
    await mapper.enqueue([2, 3], TEMPLATE, Even, run_id="r", max_retries=0)
    with pytest.raises(ConfigurationError, match=r"test_workers\.Even; pass that class"):
        await mapper.work("r")
    with pytest.raises(RunMismatchError):
        await mapper.work("r", output_schema=Number)
    run = await mapper.work("r", output_schema=Even)
    assert (run.done, run.failed) == (1, 1)


async def test_a_worker_reports_the_progress_of_the_whole_run(engine: Engine) -> None:
    mapper = LLMMap(engine=engine, llm=ScriptedLLM(echo))
    await mapper.enqueue(range(7), TEMPLATE, Number, run_id="r")
    held = await engine.store.claim_items("r", "w", limit=3, now_ms=0, lease_ms=1, max_claims=3)
    assert len(held) == 3
    seen: list[tuple[int, int | None]] = []
    run = await mapper.work("r", concurrency=1, progress=lambda *counts: seen.append(counts))
    assert seen[-1] == (7, 7)
    assert seen == sorted(seen)
    assert run.is_finished
    again = await mapper.work("r")
    assert again == run


async def test_what_cannot_be_joined_is_refused_with_a_reason(engine: Engine) -> None:
    mapper = LLMMap(engine=engine, llm=ScriptedLLM(echo))
    with pytest.raises(RunNotFoundError):
        await mapper.work("r")
    with pytest.raises(ConfigurationError, match="run_id must be"):
        await mapper.work(" ")
    with pytest.raises(ConfigurationError, match="needs the database of the run"):
        await LLMMap(llm=ScriptedLLM(echo)).work("r")
    with pytest.raises(ConfigurationError, match="pass engine="):
        await LLMMap(llm=ScriptedLLM(echo)).enqueue([1], TEMPLATE, Number)
    with pytest.raises(TypeError, match="did you mean 'concurrency'"):
        await mapper.work("r", concurency=1)  # type: ignore[call-arg]  # what is refused
    await engine.store.begin_run(RunSpec("old", "llm", "f"))
    with pytest.raises(ConfigurationError, match="no plan was stored"):
        await mapper.work("old")
    await mapper.enqueue([1], TEMPLATE, Number, run_id="map")
    with pytest.raises(ConfigurationError, match="of kind 'llm'"):
        await AgenticMap(engine=engine, llm=ScriptedLLM("x")).work("map")


async def test_a_run_whose_inputs_stay_incomplete_is_left(engine: Engine) -> None:
    mapper = LLMMap(engine=engine, llm=ScriptedLLM(echo))
    await mapper.enqueue([1], TEMPLATE, Number, run_id="whole")
    spec = await engine.store.run("whole")
    plan = await engine.store.run_plan("whole")
    await engine.store.begin_run(RunSpec("cut", "llm", spec.fingerprint, plan=plan))
    await engine.store.add_items("cut", 0, ["5", "6"])
    run = await mapper.work("cut", stall_seconds=0.01)
    assert (run.done, run.total, run.is_finished) == (2, None, False)


async def test_enqueuing_twice_is_safe_and_other_inputs_are_refused(engine: Engine) -> None:
    mapper = LLMMap(engine=engine, llm=ScriptedLLM(echo))
    one = await mapper.enqueue(range(3), TEMPLATE, Number, run_id="r")
    assert await mapper.enqueue(range(3), TEMPLATE, Number, run_id="r") == one
    for other in (range(4), range(1, 4)):
        with pytest.raises(RunMismatchError):
            await mapper.enqueue(other, TEMPLATE, Number, run_id="r")
