"""One question asked of many inputs: answers, retries, limits, events, and leaving early."""

from __future__ import annotations

import asyncio
import gc
import json
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from mnesis.config import MnesisConfig, OperatorConfig, RetryConfig
from mnesis.engine import Engine
from mnesis.errors import ConfigurationError, LLMAuthenticationError, LLMError, LLMRateLimitError, LLMServerError
from mnesis.events.bus import EventBus, MnesisEvent
from mnesis.llm.base import LLMReply, LLMRequest
from mnesis.models.usage import TokenUsage
from mnesis.operators.agentic_map import AgenticMap
from mnesis.operators.llm_map import LLMMap
from mnesis.testing import EventRecorder, ScriptedLLM
from tests.support.openai_server import OpenAIServer, Reply, error

NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
QUICK = RetryConfig(base_delay=0, max_delay=60, jitter=False)


class Number(BaseModel):
    n: int


def echo(request: LLMRequest) -> str:
    """The prompt is the number."""
    return json.dumps({"n": int(request.messages[1]["content"])})


async def test_every_input_is_answered_once_with_instances_of_the_class() -> None:
    llm = ScriptedLLM(echo)
    batch = await LLMMap(llm=llm).run_all(range(40), "{{ item }}", Number)
    assert [result.output for result in batch.results] == [Number(n=index) for index in range(40)]
    assert [result.input for result in batch.results] == list(range(40))
    assert (batch.total, len(batch.successes), batch.total_attempts) == (40, 40, 40)
    assert batch.usage.input > 0
    assert len(llm.requests) == 40


async def test_a_json_schema_gives_json_values() -> None:
    batch = await LLMMap(llm=ScriptedLLM(echo)).run_all([7], "{{ item }}", NUMBER)
    assert batch.results[0].output == {"n": 7}


async def test_the_model_is_shown_the_schema_and_the_system_prompt() -> None:
    llm = ScriptedLLM(echo)
    await LLMMap(llm=llm).run_all([1], "{{ item }}", NUMBER, system_prompt="Count.", llm_options={"seed": 1})
    system = llm.requests[0].messages[0]
    assert system["role"] == "system"
    assert system["content"].startswith("Count.")
    assert json.dumps(NUMBER) in system["content"]
    assert llm.requests[0].options == {"temperature": 0.0, "seed": 1}
    assert llm.requests[0].purpose == "map"


async def test_results_keep_input_order_unless_completion_is_requested() -> None:
    first_may_end = asyncio.Event()

    async def answer(request: LLMRequest) -> str:
        if request.messages[1]["content"] == "0":
            await first_may_end.wait()
        if request.messages[1]["content"] == "7":
            first_may_end.set()
        return echo(request)

    mapper = LLMMap(llm=ScriptedLLM(answer))
    by_completion = [r.index async for r in mapper.run(range(8), "{{ item }}", Number, order="completion")]
    assert by_completion[0] != 0
    assert sorted(by_completion) == list(range(8))
    first_may_end.clear()
    assert [r.index async for r in mapper.run(range(8), "{{ item }}", Number)] == list(range(8))


async def test_a_wrong_answer_is_shown_to_the_model_again_with_what_is_wrong() -> None:
    llm = ScriptedLLM(['{"n": "many"}', 'I think it is\n```json\n{"n": 3}\n```'])
    batch = await LLMMap(llm=llm).run_all(["x"], "{{ item }}", NUMBER, retry_guidance="Think again.")
    assert batch.results[0].output == {"n": 3}
    assert batch.results[0].attempts == 2
    *_, answer, told = llm.requests[1].messages
    assert answer == {"role": "assistant", "content": '{"n": "many"}'}
    assert "$.n" in told["content"]
    assert "not of type 'integer'" in told["content"]
    assert told["content"].endswith("Think again.")


async def test_an_item_that_never_satisfies_the_schema_fails_alone() -> None:
    def answer(request: LLMRequest) -> Any:
        good = request.messages[1]["content"] != "1"
        return LLMReply(text='{"n": 1}' if good else "no", usage=TokenUsage(input=10, output=1), cost=0.5)

    batch = await LLMMap(llm=ScriptedLLM(answer)).run_all(range(3), "{{ item }}", Number, max_retries=2)
    failure = batch.failures[0]
    assert (failure.index, failure.error_kind, failure.attempts, failure.cost) == (1, "validation", 3, 1.5)
    assert failure.usage.input == 30
    assert failure.output is None
    assert (batch.cost, batch.total_attempts, len(batch.successes)) == (2.5, 5, 2)


async def test_only_temporary_failures_are_repeated() -> None:
    busy = LLMRateLimitError("busy")
    llm = ScriptedLLM([busy, LLMServerError("down"), '{"n": 1}'])
    batch = await LLMMap(llm=llm).run_all([1], "{{ item }}", Number, retry=QUICK)
    assert (batch.results[0].success, batch.results[0].attempts) == (True, 3)
    batch = await LLMMap(llm=ScriptedLLM(busy)).run_all([1], "{{ item }}", Number, retry=QUICK, max_retries=1)
    assert (batch.results[0].error_kind, batch.results[0].attempts) == ("llm_error", 2)
    batch = await LLMMap(llm=ScriptedLLM(LLMError("refused"))).run_all([1], "{{ item }}", Number, retry=QUICK)
    assert (batch.results[0].error_kind, batch.results[0].attempts) == ("llm_error", 1)
    assert "refused" in (batch.results[0].error or "")


async def test_an_item_that_waits_to_try_again_leaves_its_slot_to_another() -> None:
    llm = ScriptedLLM([LLMRateLimitError("busy", retry_after_seconds=1000), '{"n": 1}', '{"n": 2}'])
    patient = RetryConfig(base_delay=1000, max_delay=1000)
    running = LLMMap(llm=llm).run(range(3), "{{ item }}", Number, concurrency=1, retry=patient, order="completion")
    async with aclosing(running):
        assert [(await anext(running)).index, (await anext(running)).index] == [1, 2]


async def test_no_more_calls_are_made_at_once_than_allowed() -> None:
    now = most = 0

    async def answer(request: LLMRequest) -> str:
        nonlocal now, most
        now += 1
        most = max(most, now)
        for _ in range(3):
            await asyncio.sleep(0)
        now -= 1
        return echo(request)

    await LLMMap(OperatorConfig(llm_map_concurrency=5), llm=ScriptedLLM(answer)).run_all(
        range(60), "{{ item }}", Number
    )
    assert most == 5


async def test_a_model_that_does_not_answer_is_a_timeout() -> None:
    llm = ScriptedLLM('{"n": 1}', gate=asyncio.Event())
    batch = await LLMMap(llm=llm).run_all([1], "{{ item }}", Number, timeout_secs=0.01, max_retries=1, retry=QUICK)
    assert (batch.results[0].error_kind, batch.results[0].attempts) == ("timeout", 2)


async def test_a_template_that_does_not_suit_one_item_fails_that_item_only() -> None:
    llm = ScriptedLLM('{"n": 1}')
    batch = await LLMMap(llm=llm).run_all([{"a": 1}, {}, {"a": 2}], "{{ item.a }}", Number)
    assert [(one.index, one.error_kind, one.attempts) for one in batch.failures] == [(1, "template", 0)]
    assert len(llm.requests) == 2


async def test_data_is_never_a_template() -> None:
    llm = ScriptedLLM('{"n": 1}')
    await LLMMap(llm=llm).run_all(["{{ 7 * 7 }}"], "{{ item }}", Number)
    assert llm.requests[0].messages[1]["content"] == "{{ 7 * 7 }}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("concurrency", value) for value in (0, -1, 129, True, 1.5, "4")],
        *[("max_retries", value) for value in (-1, 21, True, 1.5)],
        *[("timeout_secs", value) for value in (0, -1, "1", float("nan"), True)],
        ("order", "random"),
        *[(name, 5) for name in ("model", "system_prompt", "retry_guidance", "llm_options")],
        ("run_id", "r"),
        ("retry_failed", True),
        ("progress", 3),
        ("retry", 3),
        ("lease_seconds", 0),
        ("max_claims", 0),
        ("output_path", "/"),
        ("output_path", "/nowhere/at/all.jsonl"),
    ],
)
async def test_settings_that_cannot_work_are_refused_before_anything_runs(name: str, value: object) -> None:
    llm = ScriptedLLM(echo)
    options: dict[str, Any] = {name: value}
    with pytest.raises(ConfigurationError, match=name.partition("_")[0]):
        LLMMap(llm=llm).run([1], "{{ item }}", Number, **options)
    with pytest.raises(ConfigurationError):
        await LLMMap(llm=llm).run_all([1], "{{ item }}", Number, **options)
    assert llm.requests == []


def test_a_map_without_a_model_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="model"):
        LLMMap().run([1], "{{ item }}", Number)


def test_the_settings_may_be_those_of_everything_and_nothing_else() -> None:
    config = MnesisConfig(operators=OperatorConfig(llm_map_concurrency=3))
    assert LLMMap(config).config.llm_map_concurrency == 3
    assert LLMMap({"operators": {"llm_map_concurrency": 3}}).config.llm_map_concurrency == 3
    with pytest.raises(ValueError, match=r"field of OperatorConfig: pass operators=\{'llm_map_concurrency': …\}"):
        LLMMap({"llm_map_concurrency": 3})


async def test_a_map_that_names_its_class_needs_no_other_schema() -> None:
    typed = LLMMap[Number](llm=ScriptedLLM(echo))
    batch = await typed.run_all(range(2), "{{ item }}")
    assert [result.output for result in batch.successes] == [Number(n=0), Number(n=1)]
    results = [result async for result in typed.run(["5"], "{{ item }}", {"type": "object"})]
    assert results[0].output == {"n": 5}
    with pytest.raises(ConfigurationError, match="output_schema is missing"):
        LLMMap(llm=ScriptedLLM(echo)).run(range(2), "{{ item }}")


async def test_a_wrong_key_ends_the_run_after_the_calls_that_were_under_way() -> None:
    llm = ScriptedLLM(LLMAuthenticationError("wrong key"))
    with pytest.raises(LLMAuthenticationError, match="wrong key"):
        await LLMMap(llm=llm).run_all(range(1_000), "{{ item }}", Number, concurrency=4)
    assert len(llm.requests) <= 8


async def test_an_unknown_model_ends_the_run() -> None:
    llm = ScriptedLLM(LLMError("no such model", status_code=404))
    with pytest.raises(LLMError, match="no such model"):
        await LLMMap(llm=llm).run_all(range(1_000), "{{ item }}", Number, concurrency=4)
    assert len(llm.requests) <= 8


class Holding:
    """A client that holds every call after the first few, and knows which were cut off."""

    def __init__(self, answered: int) -> None:
        self.answered, self.started, self.cut = answered, 0, 0
        self.changed = asyncio.Event()

    async def complete(self, request: LLMRequest) -> LLMReply:
        self.started += 1
        self.changed.set()
        if self.started > self.answered:
            try:
                await asyncio.Event().wait()
            finally:
                self.cut += 1
                self.changed.set()
        return LLMReply(text='{"n": 1}')

    def stream(self, request: LLMRequest) -> Any:
        raise NotImplementedError

    async def until(self, started: int = 0, cut: int = 0) -> None:
        async with asyncio.timeout(20):
            while self.started < started or self.cut < cut:
                self.changed.clear()
                await self.changed.wait()


async def test_leaving_the_loop_stops_outstanding_calls_and_starts_no_more() -> None:
    llm = Holding(answered=1)
    async for _ in LLMMap(llm=llm).run(range(100), "{{ item }}", Number, concurrency=4):
        await llm.until(started=5)
        break
    gc.collect()
    await llm.until(cut=4)
    assert llm.started == 5


async def test_a_cancelled_run_stops_outstanding_calls() -> None:
    llm = Holding(answered=0)
    running = asyncio.create_task(LLMMap(llm=llm).run_all(range(100), "{{ item }}", Number, concurrency=4))
    await llm.until(started=4)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (llm.started, llm.cut) == (4, 4)


async def test_a_reader_that_pauses_holds_back_the_calls() -> None:
    llm = ScriptedLLM(echo)
    async with aclosing(LLMMap(llm=llm).run(range(100_000), "{{ item }}", Number, concurrency=4)) as running:
        await anext(running)
        for _ in range(5_000):
            await asyncio.sleep(0)
        made = len(llm.requests)
        for _ in range(1_000):
            await asyncio.sleep(0)
        assert len(llm.requests) == made <= 100


async def test_two_runs_of_one_map_at_once_do_not_touch_each_other() -> None:
    mapper = LLMMap(llm=ScriptedLLM(echo))
    one, other = await asyncio.gather(
        mapper.run_all(range(30), "{{ item }}", Number), mapper.run_all(range(100, 120), "{{ item }}", NUMBER)
    )
    assert [result.output.n for result in one.results] == list(range(30))
    assert [result.output["n"] for result in other.results] == list(range(100, 120))


async def test_events_tell_of_the_run_and_of_each_item() -> None:
    bus = EventBus()
    with EventRecorder(bus) as heard:
        batch = await LLMMap(llm=ScriptedLLM(echo), event_bus=bus).run_all([1, 2, "x"], "{{ item }}", Number)
    assert [event for event, _ in heard.events] == [
        MnesisEvent.MAP_STARTED, *[MnesisEvent.MAP_ITEM_COMPLETED] * 3, MnesisEvent.MAP_COMPLETED,
    ]  # fmt: skip
    started, ended = heard.events[0][1], heard.events[-1][1]
    assert (started.total, started.type, started.run_id) == (3, "llm", batch.run_id)
    assert [payload.completed for payload in heard.of(MnesisEvent.MAP_ITEM_COMPLETED)] == [1, 2, 3]
    assert sorted(payload.success for payload in heard.of(MnesisEvent.MAP_ITEM_COMPLETED)) == [False, True, True]
    assert (ended.total, ended.completed) == (3, 3)


async def test_progress_goes_to_a_function_and_needs_a_terminal_to_show(
    capfd: pytest.CaptureFixture[str],
) -> None:
    told: list[tuple[int, int | None]] = []
    mapper = LLMMap(llm=ScriptedLLM(echo))
    await mapper.run_all(
        [1, 2], "{{ item }}", Number, progress=lambda completed, total: told.append((completed, total))
    )
    assert told == [(1, 2), (2, 2)]
    await mapper.run_all([1, 2], "{{ item }}", Number, progress=True)
    assert capfd.readouterr() == ("", "")


async def test_progress_is_a_bar_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    await LLMMap(llm=ScriptedLLM(echo)).run_all([1, 2], "{{ item }}", Number, progress=True)
    output, errors = capfd.readouterr()
    assert output == ""
    assert "2/2" in errors


async def test_the_limits_of_the_engine_count_where_none_are_given(tmp_path: Path) -> None:
    config = MnesisConfig(operators=OperatorConfig(max_retries=0))
    async with Engine(tmp_path / "work.db", config=config, llm=ScriptedLLM("no json")) as engine:
        of_engine = await LLMMap(engine=engine).run_all([1], "{{ item }}", Number)
        own = await LLMMap(OperatorConfig(max_retries=2), engine=engine).run_all([1], "{{ item }}", Number)
        assert (of_engine.total_attempts, own.total_attempts) == (1, 3)


def test_what_is_no_bus_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="event_bus must be an EventBus"):
        LLMMap(llm=ScriptedLLM(), event_bus=5).run([1], "{{ item }}", Number)  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize("kind", [LLMMap, AgenticMap])
def test_what_is_no_engine_is_refused(kind: Any) -> None:
    with pytest.raises(ConfigurationError, match="engine must be an Engine"):
        kind(engine="work.db")


async def test_no_inputs_are_a_run_without_results() -> None:
    batch = await LLMMap(llm=ScriptedLLM()).run_all([], "{{ item }}", Number)
    assert (batch.total, batch.results) == (0, [])


async def test_a_real_request_carries_the_schema_if_the_provider_knows_it() -> None:
    with OpenAIServer(error(429, "slow down", headers={"retry-after": "0"}), Reply(['{"n": 5}'])) as server:
        mapper = LLMMap(model="openai/gpt-4o-mini")
        batch = await mapper.run_all([5], "{{ item }}", NUMBER, retry=QUICK, llm_options=server.options)
        assert batch.results[0].output == {"n": 5}
        assert batch.results[0].attempts == 2
        assert batch.cost > 0
        assert server.requests[-1]["response_format"]["json_schema"]["schema"] == NUMBER
        await mapper.run_all([5], "{{ item }}", NUMBER, model="openai/unheard-of", llm_options=server.options)
        assert "response_format" not in server.requests[-1]
        assert json.dumps(NUMBER) in server.requests[-1]["messages"][0]["content"]


async def test_over_a_real_connection_a_wrong_key_ends_the_run() -> None:
    with OpenAIServer(error(401, "Incorrect API key", code="invalid_api_key")) as server:
        with pytest.raises(LLMAuthenticationError):
            await LLMMap(model="openai/unheard-of").run_all(
                range(100), "{{ item }}", NUMBER, concurrency=2, llm_options=server.options
            )
        assert len(server.requests) <= 4


async def test_the_keyless_model_satisfies_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNESIS_MOCK_LLM", "1")
    batch = await LLMMap().run_all(["a"], "{{ item }}", Number)
    assert batch.results[0].output == Number(n=0)
