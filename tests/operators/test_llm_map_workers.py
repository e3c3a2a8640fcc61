"""Several workers of one durable map, and workers that die."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from mnesis.engine import Engine
from mnesis.errors import ConfigurationError
from mnesis.events.bus import MnesisEvent
from mnesis.ids import now_ms
from mnesis.llm.base import LLMReply, LLMRequest
from mnesis.operators.item_queue import READ_AHEAD_ITEMS
from mnesis.operators.llm_map import LLMMap
from mnesis.system.worker_ids import is_dead, register_worker
from mnesis.testing import EventRecorder, ScriptedLLM
from tests.support.durable_items import Held, Number, asked, echo
from tests.support.openai_server import Exchange, OpenAIServer, Reply
from tests.support.warm_python import warm_command


@pytest.fixture(params=["file", "memory"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Engine]:
    async with Engine(tmp_path / "work.db" if request.param == "file" else ":memory:") as engine:
        yield engine


async def test_two_workers_share_a_run_and_both_see_every_result(engine: Engine) -> None:
    async def slowly(request: LLMRequest) -> LLMReply:
        await asyncio.sleep(0.001)
        return echo(request)

    one, two = ScriptedLLM(slowly), ScriptedLLM(slowly)
    batches = await asyncio.gather(
        *(
            LLMMap(engine=engine, llm=llm).run_all(range(200), "{{ item }}", Number, run_id="r", concurrency=4)
            for llm in (one, two)
        )
    )
    for batch in batches:
        assert [result.output.n for result in batch.results] == list(range(200))
    assert sorted(asked(one) + asked(two)) == list(range(200))
    assert one.requests
    assert two.requests


async def test_a_silent_worker_loses_its_items_and_results_count_once(engine: Engine) -> None:
    await engine.open()
    mapper = LLMMap(engine=engine, llm=ScriptedLLM(echo))
    async with aclosing(mapper.run(range(4), "{{ item }}", Number, run_id="r", concurrency=1)) as running:
        await anext(running)
    silent = await engine.store.claim_items("r", "elsewhere-1-1-x", limit=2, now_ms=0, lease_ms=1, max_claims=3)
    assert silent
    batch = await mapper.run_all(range(4), "{{ item }}", Number, run_id="r")
    assert [result.output.n for result in batch.results] == [0, 1, 2, 3]
    late = await engine.store.finish_items("r", "elsewhere-1-1-x", [])
    assert late == []


@pytest.mark.skipif(os.name != "posix", reason="processes are looked for by their ids")
async def test_items_of_a_dead_process_are_claimed_before_leases_end(engine: Engine) -> None:
    mapper = LLMMap(engine=engine, llm=ScriptedLLM(echo))
    async with aclosing(mapper.run(range(4), "{{ item }}", Number, run_id="r", concurrency=1)) as running:
        await anext(running)
    code = "from mnesis.system.worker_ids import register_worker; print(register_worker())"
    command = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    gone = (await command.communicate())[0].decode().strip()
    held = await engine.store.claim_items("r", gone, limit=4, now_ms=now_ms(), lease_ms=10**9, max_claims=3)
    assert held
    assert is_dead(gone)
    assert not is_dead(register_worker())
    batch = await mapper.run_all(range(4), "{{ item }}", Number, run_id="r")
    assert [result.output.n for result in batch.results] == [0, 1, 2, 3]


async def test_items_of_a_closed_engine_are_claimed_before_leases_end(
    tmp_path: Path,
) -> None:
    held, settings = Held(), {"run_id": "r", "lease_seconds": 10**6, "concurrency": 2}
    async with Engine(tmp_path / "work.db", llm=held.client) as engine:
        left = LLMMap(engine=engine).run(range(9), "{{ item }}", Number, **settings)
        running = asyncio.ensure_future(anext(left))
        await held.asked.wait()
    running.cancel()
    await asyncio.wait({running})
    async with Engine(tmp_path / "work.db", llm=ScriptedLLM(echo)) as engine, asyncio.timeout(30):
        batch = await LLMMap(engine=engine).run_all(range(9), "{{ item }}", Number, **settings)
    assert [result.output.n for result in batch.results] == list(range(9))


async def test_leases_are_prolonged_while_a_call_is_under_way(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    llm, renewed = Held(), asyncio.Event()
    renew = engine.store.renew_items

    async def watched(*arguments: Any, **named: Any) -> list[int]:
        try:
            return await renew(*arguments, **named)
        finally:
            renewed.set()

    monkeypatch.setattr(engine.store, "renew_items", watched)
    mapper = LLMMap(engine=engine, llm=llm.client)
    running = asyncio.create_task(mapper.run_all([1], "{{ item }}", Number, run_id="r", lease_seconds=0.3))
    await llm.asked.wait()
    before = (await engine.store.run_items("r"))[0].lease_until
    renewed.clear()
    await asyncio.wait_for(renewed.wait(), 20)
    after = (await engine.store.run_items("r"))[0].lease_until
    assert before is not None
    assert after is not None
    assert after > before
    llm.gate.set()
    assert (await running).results[0].resumed is False


async def test_a_poison_item_is_given_up_and_every_other_item_is_done(engine: Engine) -> None:
    mapper = LLMMap(engine=engine, llm=ScriptedLLM(echo))
    async with aclosing(mapper.run(range(10), "{{ item }}", Number, run_id="r", concurrency=1)) as running:
        await anext(running)
    for death in range(3):  # each time, with all that is left in its hands
        await engine.store.claim_items("r", f"w{death}", limit=1, now_ms=death * 10, lease_ms=1, max_claims=3)
    batch = await mapper.run_all(range(10), "{{ item }}", Number, run_id="r")
    assert [result.error_kind for result in batch.failures] == ["worker_died"]
    assert "3" in (batch.failures[0].error or "")
    assert len(batch.successes) == 9


async def test_an_item_on_its_last_claim_is_worked_on_alone(engine: Engine) -> None:
    held = Held()
    first = asyncio.create_task(
        LLMMap(engine=engine, llm=held.client).run_all(range(6), "{{ item }}", Number, run_id="r")
    )
    await held.asked.wait()
    first.cancel()
    await asyncio.wait({first})
    for death in range(2):
        await engine.store.claim_items("r", f"w{death}", limit=6, now_ms=death * 10, lease_ms=1, max_claims=3)
    now = most = 0

    async def answer(request: LLMRequest) -> LLMReply:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1
        return echo(request)

    mapper = LLMMap(engine=engine, llm=ScriptedLLM(answer))
    assert len((await mapper.run_all(range(6), "{{ item }}", Number, run_id="r")).successes) == 6
    assert most == 1


async def test_inputs_are_read_only_so_far_ahead_of_the_work(engine: Engine) -> None:
    read = 0

    def endless() -> Any:
        nonlocal read
        while True:
            read += 1
            yield read

    async with aclosing(
        LLMMap(engine=engine, llm=ScriptedLLM(echo)).run(endless(), "{{ item }}", Number, run_id="r")
    ) as running:
        for _ in range(100):
            await anext(running)
    assert read < 2 * READ_AHEAD_ITEMS


async def test_without_a_database_inputs_are_read_only_so_far_ahead_too() -> None:
    read = 0

    async def endless() -> AsyncIterator[int]:
        nonlocal read
        while True:
            read += 1
            yield read

    async with aclosing(LLMMap(llm=ScriptedLLM(echo)).run(endless(), "{{ item }}", Number, order="input")) as running:
        assert [(await anext(running)).index for _ in range(100)] == list(range(100))
    assert read < 2 * READ_AHEAD_ITEMS


async def test_the_engine_hears_the_events_of_its_maps(engine: Engine) -> None:
    with EventRecorder(engine.events) as heard:
        await LLMMap(engine=engine, llm=ScriptedLLM(echo)).run_all([1], "{{ item }}", Number, run_id="r")
    assert [payload.run_id for payload in heard.of(MnesisEvent.MAP_COMPLETED)] == ["r"]


def test_a_run_id_without_a_database_is_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigurationError, match="engine="):
        LLMMap(llm=ScriptedLLM()).run([1], "{{ item }}", Number, run_id="r")


WORKER = """
import asyncio, sys
from mnesis.engine import Engine
from mnesis.operators.llm_map import LLMMap
from pydantic import BaseModel

class Number(BaseModel):
    n: int

class Client:
    def __init__(self, url):
        self.host, self.port = url.removeprefix("http://").split("/")[0].split(":")
    async def complete(self, request):
        import json
        from mnesis.llm.base import LLMReply
        body = json.dumps({"messages": list(request.messages)}).encode()
        reader, writer = await asyncio.open_connection(self.host, int(self.port))
        writer.write(b"POST /v1/chat/completions HTTP/1.1\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
        answer = json.loads((await reader.read()).partition(b"\\r\\n\\r\\n")[2])
        writer.close()
        return LLMReply(text=answer["choices"][0]["message"]["content"])
    def stream(self, request):
        raise NotImplementedError

async def main(db, url, inputs, output):
    async with Engine(db) as engine:
        mapper = LLMMap(engine=engine, llm=Client(url))
        results = [r async for r in mapper.run(inputs, "{{ item }}", Number, run_id="r", output_path=output, max_claims=1000)]
        print(len(results), sum(r.success for r in results))

asyncio.run(main(*sys.argv[1:]))
"""


class Numbers:
    """Answers with the number it is asked about, and counts for which the answer was sent whole."""

    def __init__(self) -> None:
        self.asked: Counter[int] = Counter()
        self.heard = threading.Condition()

    def __call__(self, exchange: Exchange) -> None:
        number = int(exchange.body["messages"][1]["content"])
        with self.heard:
            self.asked[number] += 1
            self.heard.notify_all()
        Reply([json.dumps({"n": number})])(exchange)

    def wait_for(self, count: int) -> None:
        with self.heard:
            self.heard.wait_for(lambda: sum(self.asked.values()) >= count, timeout=30)


async def child(
    tmp_path: Path, url: str, output: str, python: Sequence[str] = (sys.executable,)
) -> asyncio.subprocess.Process:
    arguments = (str(tmp_path / "work.db"), url, str(tmp_path / "in.jsonl"), str(tmp_path / output))
    return await asyncio.create_subprocess_exec(
        *python, "-c", WORKER, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )


async def stored_done(path: Path) -> set[int]:
    async with Engine(path) as engine:
        return {item.index for item in await engine.store.run_items("r", state="done", limit=10_000)}


@pytest.mark.skipif(os.name != "posix", reason="kill -9")
async def test_a_run_killed_repeatedly_does_each_item_once(tmp_path: Path) -> None:
    items, answer, chance = 240, Numbers(), random.Random(7)
    (tmp_path / "in.jsonl").write_text("".join(f"{number}\n" for number in range(items)))
    with OpenAIServer(answer) as server:
        for _ in range(3):
            worker = await child(tmp_path, server.url, "out.jsonl")
            await asyncio.to_thread(answer.wait_for, sum(answer.asked.values()) + chance.randrange(20, 60))
            if worker.returncode is None:
                worker.send_signal(signal.SIGKILL)
            await worker.communicate()
            assert not (tmp_path / "out.jsonl").exists()
            done = await stored_done(tmp_path / "work.db")
            before = {number: answer.asked[number] for number in done}
        worker = await child(tmp_path, server.url, "out.jsonl")
        output, errors = await asyncio.wait_for(worker.communicate(), 50)
    assert output.decode().split() == ["240", "240"], errors.decode()
    assert {number: answer.asked[number] for number in done} == before
    assert done
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert sorted(line["index"] for line in lines) == list(range(items))
    assert all(line["output"] == {"n": line["index"]} for line in lines)
    assert (tmp_path / "out.jsonl").stat().st_mode & 0o777 == 0o600
    assert [name for name in os.listdir(tmp_path) if name.endswith(".part")] == []


async def test_several_processes_work_one_run_each_item_done_once(tmp_path: Path) -> None:
    items, answer = 300, Numbers()
    (tmp_path / "in.jsonl").write_text("".join(f"{number}\n" for number in range(items)))
    with OpenAIServer(answer) as server:
        workers = [
            await child(tmp_path, server.url, f"out{number}.jsonl", warm_command(has_mnesis=True))
            for number in range(3)
        ]
        told = [await asyncio.wait_for(worker.communicate(), 50) for worker in workers]
    assert [output.decode().split() for output, _ in told] == [["300", "300"]] * 3, told
    assert answer.asked == Counter(range(items))
    for number in range(3):
        lines = (tmp_path / f"out{number}.jsonl").read_text().splitlines()
        assert sorted(json.loads(line)["index"] for line in lines) == list(range(items))
