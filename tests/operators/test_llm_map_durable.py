"""A map with a database: what is done stays done, whoever dies and whoever else works on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from mnesis.engine import Engine
from mnesis.errors import LLMAuthenticationError, RunMismatchError
from mnesis.operators.llm_map import LLMMap
from mnesis.testing import ScriptedLLM
from tests.support.durable_items import Held, Number, echo


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
