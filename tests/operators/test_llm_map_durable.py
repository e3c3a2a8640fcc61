"""A map with a database: what is done stays done, whoever dies and whoever else works on it."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from mnesis.engine import Engine
from mnesis.errors import ConfigurationError, LLMAuthenticationError, RunMismatchError
from mnesis.events.bus import MnesisEvent
from mnesis.ids import now_ms
from mnesis.llm.base import LLMReply, LLMRequest
from mnesis.models.usage import TokenUsage
from mnesis.operators.item_queue import READ_AHEAD_ITEMS
from mnesis.operators.llm_map import LLMMap
from mnesis.operators.worker_ids import is_dead, register_worker
from mnesis.testing import EventRecorder, ScriptedLLM
from tests.support.openai_server import Exchange, OpenAIServer, Reply


class Number(BaseModel):
    n: int


def echo(request: LLMRequest) -> LLMReply:
    text = json.dumps({"n": int(request.messages[1]["content"])})
    return LLMReply(text=text, usage=TokenUsage(input=3, output=2), cost=0.25)


class Held:
    """A model that holds its answers back until `gate` is set; `asked` is set by the first question."""

    def __init__(self) -> None:
        self.gate, self.asked = asyncio.Event(), asyncio.Event()
        self.client = ScriptedLLM(self.answer)

    async def answer(self, request: LLMRequest) -> LLMReply:
        self.asked.set()
        await self.gate.wait()
        return echo(request)


def asked(llm: ScriptedLLM) -> list[int]:
    return sorted(int(request.messages[1]["content"]) for request in llm.requests)


@pytest.fixture(params=["file", "memory"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Engine]:
    async with Engine(tmp_path / "work.db" if request.param == "file" else ":memory:") as engine:
        yield engine


async def test_the_same_run_again_gives_everything_and_asks_nothing(engine: Engine) -> None:
    first, again = ScriptedLLM(echo), ScriptedLLM()
    one = await LLMMap(engine=engine, llm=first).run_all(range(300), "{{ item }}", Number, run_id="numbers")
    assert not any(result.resumed for result in one.results)
    for order in ("completion", "input"):
        running = LLMMap(engine=engine, llm=again).run(range(300), "{{ item }}", Number, run_id="numbers", order=order)  # type: ignore[arg-type]  # one of the two
        results = [result async for result in running]
        assert all(result.resumed for result in results)
        assert [result.index for result in results] == list(range(300))
        assert [result.model_copy(update={"resumed": False}) for result in results] == one.results
    assert again.requests == []


async def test_a_run_without_a_name_gets_one_that_leads_back_to_it(engine: Engine) -> None:
    batch = await LLMMap(engine=engine, llm=ScriptedLLM(echo)).run_all([1], "{{ item }}", Number)
    assert batch.run_id.startswith("run_")
    again = await LLMMap(engine=engine, llm=ScriptedLLM()).run_all([1], "{{ item }}", Number, run_id=batch.run_id)
    assert again.results[0].output == Number(n=1)


@pytest.mark.parametrize("order", ["completion", "input"])
async def test_a_run_that_was_left_goes_on_with_what_is_missing(engine: Engine, order: Any) -> None:
    first, second = ScriptedLLM(echo), ScriptedLLM(echo)
    async with aclosing(
        LLMMap(engine=engine, llm=first).run(range(500), "{{ item }}", Number, run_id="r", order=order)
    ) as running:
        seen = [(await anext(running)).index for _ in range(40)]
    state = await engine.store.run("r")
    assert state.running == 0
    assert state.done >= len(seen)
    rest = await LLMMap(engine=engine, llm=second).run_all(range(500), "{{ item }}", Number, run_id="r", order=order)
    assert [result.output.n for result in rest.results] == list(range(500))
    assert len(second.requests) == 500 - state.done


async def test_a_cancelled_run_gives_its_items_back(engine: Engine) -> None:
    llm = Held()
    running = asyncio.create_task(
        LLMMap(engine=engine, llm=llm.client).run_all(range(50), "{{ item }}", Number, run_id="r")
    )
    await llm.asked.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    state = await engine.store.run("r")
    assert (state.pending, state.running, state.done) == (50, 0, 0)
    assert all(item.claims == 0 for item in await engine.store.run_items("r"))


async def test_a_wrong_key_leaves_items_pending(engine: Engine) -> None:
    refusing = ScriptedLLM([echo, LLMAuthenticationError("wrong key")], repeat_last=True)
    with pytest.raises(LLMAuthenticationError):
        await LLMMap(engine=engine, llm=refusing).run_all(range(20), "{{ item }}", Number, run_id="r", concurrency=1)
    state = await engine.store.run("r")
    assert (state.pending, state.running, state.done, state.failed) == (19, 0, 1, 0)
    llm = ScriptedLLM(echo)
    batch = await LLMMap(engine=engine, llm=llm).run_all(range(20), "{{ item }}", Number, run_id="r")
    assert (len(batch.successes), len(llm.requests)) == (20, 19)


@pytest.mark.parametrize(
    "other",
    [
        {"inputs": [1, 2, 4]},
        {"inputs": [1, 2]},
        {"inputs": [1, 2, 3, 4]},
        {"prompt_template": "{{ item }}!"},
        {"output_schema": {"type": "object"}},
        {"model": "another"},
        {"system_prompt": "Be brief."},
        {"temperature": 1.0},
    ],
    ids=lambda other: next(iter(other)),
)
async def test_another_run_under_the_same_name_is_refused_before_any_call(
    engine: Engine, other: dict[str, Any]
) -> None:
    same: dict[str, Any] = {
        "inputs": [1, 2, 3],
        "prompt_template": "{{ item }}",
        "output_schema": Number,
        "run_id": "r",
    }
    async with aclosing(LLMMap(engine=engine, llm=ScriptedLLM(echo)).run(**same, concurrency=1)) as running:
        await anext(running)
    llm = ScriptedLLM()
    with pytest.raises(RunMismatchError) as caught:
        await LLMMap(engine=engine, llm=llm).run_all(**same | other)
    assert caught.value.run_id == "r"
    assert llm.requests == []


async def test_where_the_model_is_reached_may_change(engine: Engine) -> None:
    for options in ({"api_key": "one"}, {"api_key": "two", "api_base": "http://elsewhere"}):
        await LLMMap(engine=engine, llm=ScriptedLLM(echo)).run_all(
            [1], "{{ item }}", Number, run_id="r", llm_options=options
        )


async def test_failed_items_stay_failed_until_they_are_asked_for_again(engine: Engine) -> None:
    broken = LLMMap(engine=engine, llm=ScriptedLLM("no"))
    failed = await broken.run_all([1, 2], "{{ item }}", Number, run_id="r", max_retries=0)
    assert [result.error_kind for result in failed.failures] == ["validation", "validation"]
    mapper = LLMMap(engine=engine, llm=ScriptedLLM(echo))
    again = await mapper.run_all([1, 2], "{{ item }}", Number, run_id="r")
    assert [result.model_copy(update={"resumed": False}) for result in again.failures] == list(failed.failures)
    mended = await mapper.run_all([1, 2], "{{ item }}", Number, run_id="r", retry_failed=True)
    assert [result.output.n for result in mended.successes] == [1, 2]


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
    code = "from mnesis.operators.worker_ids import register_worker; print(register_worker())"
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


async def child(tmp_path: Path, url: str, output: str) -> asyncio.subprocess.Process:
    arguments = (str(tmp_path / "work.db"), url, str(tmp_path / "in.jsonl"), str(tmp_path / output))
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", WORKER, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
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
        workers = [await child(tmp_path, server.url, f"out{number}.jsonl") for number in range(3)]
        told = [await asyncio.wait_for(worker.communicate(), 50) for worker in workers]
    assert [output.decode().split() for output, _ in told] == [["300", "300"]] * 3, told
    assert answer.asked == Counter(range(items))
    for number in range(3):
        lines = (tmp_path / f"out{number}.jsonl").read_text().splitlines()
        assert sorted(json.loads(line)["index"] for line in lines) == list(range(items))
