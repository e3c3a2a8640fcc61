"""When an agent is finished, what it is told while it is not, and what its failures are."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from mnesis import Engine, MnesisConfig, SessionConfig, ToolSpec
from mnesis.errors import LLMAuthenticationError, LLMRateLimitError, LLMServerError, LLMTimeoutError
from mnesis.llm.base import LLMReply, LLMRequest
from mnesis.models.agents import DelegateResult
from mnesis.models.message import ToolPart
from mnesis.operators.delegation import delegate
from mnesis.testing import ScriptedLLM
from mnesis.testing.llm import Scripted

MODEL = "openai/gpt-4o"


class City(BaseModel):
    name: str
    people: int


@pytest.fixture
async def engine(tmp_path: Path):
    async with Engine(tmp_path / "work.db") as engine:
        yield engine


async def at_work(engine: Engine, script: Any, **settings: Any) -> tuple[DelegateResult, list[str]]:
    """What came of it, and what the agent was told, message by message."""
    llm = script if isinstance(script, ScriptedLLM) else ScriptedLLM(script)
    result = await delegate("the task", engine=engine, model=MODEL, llm=llm, **settings)
    told = [str(m["content"]) for request in llm.requests[-1:] for m in request.messages if m["role"] == "user"]
    return result, told


def cut(text: str) -> LLMReply:
    return LLMReply(text=text, finish_reason="length")


def call(number: int = 0, text: str = "") -> LLMReply:
    part = ToolPart(tool_name="look", tool_call_id=f"call_{number}", input={"at": number})
    return LLMReply(text=text, tool_calls=(part,))


LOOK = ToolSpec(
    "look",
    "Look.",
    {"type": "object", "properties": {"at": {"type": "integer"}}},
    handler=lambda at=0: f"seen {at}",
    read_only=True,
)


async def test_an_answer_that_was_cut_off_is_continued_and_put_together(engine: Engine) -> None:
    result, told = await at_work(engine, [cut("It was the best "), cut("of "), "times."])
    assert (result.text, result.output, result.turns) == ("It was the best of times.", "It was the best of times.", 3)
    assert result.intermediate_outputs == ["It was the best ", "of "]
    assert told[0] == "the task"
    assert "cut off" in told[1]


async def test_the_continuation_message_is_the_users_own_where_given(engine: Engine) -> None:
    _, told = await at_work(engine, [cut("a"), "b"], continuation_message="weiter")
    assert told == ["the task", "weiter"]


async def test_an_agent_goes_on_until_its_answer_holds_a_stop_text(engine: Engine) -> None:
    result, told = await at_work(engine, ["first", "second", "third DONE"], stop=["DONE", "FINISHED"])
    assert (result.text, result.turns, len(told)) == ("third DONE", 3, 3)
    assert result.intermediate_outputs == ["first", "second"]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_agent_goes_on_until_the_stop_function_says_so(engine: Engine, asynchronous: bool) -> None:
    async def slowly(result: Any) -> bool:
        return "third" in result.text

    result, _ = await at_work(
        engine, ["first", "second", "third"], stop=slowly if asynchronous else lambda result: "third" in result.text
    )
    assert (result.success, result.text, result.turns) == (True, "third", 3)


async def test_turns_used_up_without_the_stop_condition_are_a_failure(engine: Engine) -> None:
    llm = ScriptedLLM("still at it")
    result, _ = await at_work(engine, llm, stop="DONE", max_turns=3)
    assert (result.success, result.error_kind, result.turns, len(llm.requests)) == (False, "max_turns", 3, 3)
    assert result.text == "still at it"
    assert result.output is None
    assert "3 turn(s)" in str(result.error)


async def test_an_answer_that_stays_cut_off_is_no_answer(engine: Engine) -> None:
    result, _ = await at_work(engine, [cut("a"), cut("b")], max_turns=2)
    assert (result.success, result.error_kind, result.text) == (False, "max_turns", "ab")


async def test_an_empty_answer_is_no_answer(engine: Engine) -> None:
    result, _ = await at_work(engine, [LLMReply(text=" "), "here it is"])
    assert (result.success, result.text, result.turns) == (True, "here it is", 2)


@pytest.mark.parametrize("reason", ["content_filter", "error"])
async def test_an_answer_the_provider_broke_off_is_a_failure(engine: Engine, reason: str) -> None:
    result, _ = await at_work(engine, [LLMReply(text="I", finish_reason=reason)])
    assert (result.success, result.error_kind, result.turns) == (False, "llm_error", 1)


async def test_a_turn_that_used_up_its_tool_rounds_continues(engine: Engine) -> None:
    config = MnesisConfig(session=SessionConfig(max_tool_rounds=2))
    script = [call(1, "looking"), call(2, "still"), call(3, "more"), "found"]
    result, told = await at_work(engine, script, tools=[LOOK], config=config)
    assert (result.success, result.text, result.turns, len(told)) == (True, "found", 2, 2)
    assert result.intermediate_outputs == ["still"]


async def test_an_agent_that_makes_the_same_call_over_and_over_is_stopped(engine: Engine) -> None:
    llm = ScriptedLLM(call(1))
    config = MnesisConfig(session=SessionConfig(max_tool_rounds=4))
    result, _ = await at_work(engine, llm, tools=[LOOK], config=config, max_turns=10)
    assert (result.error_kind, result.turns, len(llm.requests)) == ("doom_loop", 1, 4)


async def test_the_system_prompt_shows_the_schema_and_the_value_is_checked(engine: Engine) -> None:
    llm = ScriptedLLM('Here it is: {"name": "Bern", "people": 134000}')
    result, _ = await at_work(engine, llm, output_schema=City, system_prompt="You know cities.")
    assert result.output == City(name="Bern", people=134000)
    system = str(llm.requests[0].messages[0]["content"])
    assert system.startswith("You know cities.")
    assert "people" in system


async def test_an_answer_that_fails_the_schema_may_be_corrected(engine: Engine) -> None:
    script: list[Scripted] = ['{"name": "Bern"}', '{"name": "Bern", "people": 134000}']
    result, told = await at_work(engine, script, output_schema=City)
    assert (result.success, result.turns, result.attempts) == (True, 2, 2)
    assert "people" in told[1]


async def test_answers_are_refused_only_so_often(engine: Engine) -> None:
    llm = ScriptedLLM("no json")
    result, _ = await at_work(engine, llm, output_schema={"type": "object"}, max_retries=2)
    assert (result.success, result.error_kind, result.attempts, len(llm.requests)) == (False, "validation", 3, 3)
    assert result.text == "no json"
    assert result.output is None


async def test_a_schema_is_asked_for_only_once_the_stop_condition_is_met(engine: Engine) -> None:
    result, told = await at_work(
        engine, ["thinking", '{"a": 1}'], output_schema={"type": "object"}, stop=lambda result: "{" in result.text
    )
    assert (result.output, result.attempts, len(told)) == ({"a": 1}, 1, 2)


async def test_passing_failures_of_the_model_are_repeated_and_counted(engine: Engine) -> None:
    busy = LLMRateLimitError("busy", retry_after_seconds=0.0)
    retry = {"base_delay": 0.0, "max_delay": 0.0}
    config = MnesisConfig(session=SessionConfig(retry=retry))  # type: ignore[arg-type]  # pydantic makes a RetryConfig of it
    result, _ = await at_work(engine, [busy, LLMServerError("down"), "done"], config=config, max_retries=2)
    assert (result.success, result.attempts, result.turns) == (True, 3, 1)
    result, _ = await at_work(engine, [busy, busy], config=config, max_retries=1)
    assert (result.success, result.error_kind, result.attempts) == (False, "llm_error", 2)


async def test_a_model_that_is_too_slow_is_a_timeout(engine: Engine) -> None:
    result, _ = await at_work(engine, [LLMTimeoutError("too slow")], max_retries=0)
    assert (result.success, result.error_kind) == (False, "timeout")


async def test_an_agent_that_takes_too_long_is_a_timeout(engine: Engine) -> None:
    llm = ScriptedLLM("never", gate=asyncio.Event())
    result, _ = await at_work(engine, llm, timeout_seconds=0.05)
    assert (result.success, result.error_kind, result.text) == (False, "timeout", "")
    assert (await engine.store.session(result.session_id)).last_seq == 1


async def test_a_timeout_in_a_stop_function_is_not_the_agents_timeout(engine: Engine) -> None:
    def broken(result: Any) -> bool:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        await at_work(engine, "x", stop=broken, timeout_seconds=60.0)


async def test_a_wrong_key_is_not_tried_again(engine: Engine) -> None:
    llm = ScriptedLLM(LLMAuthenticationError("wrong key"))
    result, _ = await at_work(engine, llm)
    assert (result.error_kind, len(llm.requests)) == ("llm_error", 1)


@pytest.mark.filterwarnings("ignore::mnesis.context.budget.SmallModelWarning")
async def test_a_task_that_can_never_fit_is_a_failure_of_that_task_alone(engine: Engine) -> None:
    config = MnesisConfig(model_overrides={"context_limit": 3_000, "max_output_tokens": 500})  # type: ignore[arg-type]  # made by pydantic
    result, _ = await at_work(engine, "ok", config=config, tools=[many_words()])
    assert (result.success, result.error_kind) == (False, "context")


def many_words() -> ToolSpec:
    return ToolSpec("look", "words " * 5_000, handler=lambda: "", read_only=True)


async def test_options_of_the_call_reach_the_model(engine: Engine) -> None:
    llm = ScriptedLLM("done")
    await at_work(engine, llm, llm_options={"temperature": 0.25})
    request: LLMRequest = llm.requests[0]
    assert request.options["temperature"] == 0.25
