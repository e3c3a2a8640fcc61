"""Files, settings and refusals of `AgenticMap`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mnesis import Engine, MnesisConfig, OperatorConfig, SessionConfig, ToolSpec
from mnesis.errors import (
    ConfigurationError,
    LLMAuthenticationError,
    LLMBadRequestError,
    LLMError,
    RunMismatchError,
    ToolDefinitionError,
)
from mnesis.operators.agentic_map import AgenticMap
from mnesis.testing import ScriptedLLM
from tests.support.agentic_items import MODEL, Size, echo, sessions


@pytest.mark.parametrize("error", [LLMAuthenticationError("wrong key"), LLMBadRequestError("?", status_code=404)])
async def test_a_wrong_key_or_model_ends_the_run_and_leaves_its_items_for_later(
    engine: Engine, error: LLMError
) -> None:
    script = [error, "done"]
    agents = AgenticMap(engine=engine, model=MODEL, llm=ScriptedLLM(script, repeat_last=True))
    with pytest.raises(type(error)):
        await agents.run_all(["a", "b"], "{{ item }}", run_id="r", concurrency=1)
    batch = await agents.run_all(["a", "b"], "{{ item }}", run_id="r", concurrency=1)
    assert [r.output_text for r in batch.results] == ["done", "done"]


async def test_inputs_and_outputs_may_be_jsonl_files(engine: Engine, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps({"name": name}) + "\n" for name in ("a", "b")))
    agents = AgenticMap(engine=engine, model=MODEL, llm=ScriptedLLM(echo))
    await agents.run_all(source, "{{ item.name }}", output_path=target)
    lines = [json.loads(line) for line in target.read_text().splitlines()]
    assert {line["index"]: line["output_text"] for line in lines} == {0: "answer to a", 1: "answer to b"}


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"concurrency": 0}, ConfigurationError, "concurrency"),
        ({"concurrency": 33}, ConfigurationError, "32"),
        ({"concurrency": True}, ConfigurationError, "concurrency"),
        ({"run_id": " "}, ConfigurationError, "run_id"),
        ({"order": "random"}, ConfigurationError, "order"),
        ({"max_turns": 0}, ConfigurationError, "max_turns"),
        ({"max_retries": -1}, ConfigurationError, "max_retries"),
        ({"timeout_seconds": -1}, ConfigurationError, "timeout_seconds"),
        ({"continuation_message": 5}, ConfigurationError, "continuation_message"),
        ({"llm_options": 5}, ConfigurationError, "llm_options"),
        ({"output_schema": {"type": "no such type"}}, ConfigurationError, None),
        ({"output_schema": 3}, ConfigurationError, None),
        ({"agent_prompt_template": "no placeholder"}, ConfigurationError, "item"),
        ({"agent_prompt_template": "{{ item"}, ConfigurationError, None),
        ({"agent_prompt_template": "{{ item }} {{ other }}"}, ConfigurationError, "other"),
        ({"model": None}, ConfigurationError, "model"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}, ToolDefinitionError, "'f'"),
        ({"tools": [ToolSpec("erase", "Erase.", handler=print)]}, ConfigurationError, "erase"),
        ({"config": MnesisConfig(), "lcm_config": MnesisConfig()}, ConfigurationError, "lcm_config"),
        ({"parent": "p", "parent_session_id": "q"}, ConfigurationError, "parent_session_id"),
    ],
)
async def test_what_cannot_work_is_refused_before_any_call(
    engine: Engine, wrong: dict[str, Any], error: type[Exception], says: str | None
) -> None:
    settings = {"inputs": ["a"], "agent_prompt_template": "{{ item }}", "model": MODEL, **wrong}
    with pytest.raises(error, match=says):
        await AgenticMap(engine=engine).run_all(
            settings.pop("inputs"), settings.pop("agent_prompt_template"), **settings
        )
    assert await sessions(engine) == []


async def test_a_template_cannot_reach_out_of_its_sandbox(engine: Engine) -> None:
    llm = ScriptedLLM("x")
    with pytest.raises(ConfigurationError, match="sandbox"):
        await AgenticMap(engine=engine, model=MODEL, llm=llm).run_all(["a"], "{{ item.__class__.__mro__ }}")
    assert llm.requests == []


async def test_a_template_that_fails_for_one_item_fails_that_item_alone(engine: Engine) -> None:
    agents = AgenticMap(engine=engine, model=MODEL, llm=ScriptedLLM(echo))
    batch = await agents.run_all([{"x": 1}, {}, {"x": 3}], "{{ item.x + 1 }}")
    assert [(r.index, r.error_kind, r.session_id) for r in batch.failures] == [(1, "template", "")]
    assert [r.output_text for r in batch.successes] == ["answer to 2", "answer to 4"]


async def test_a_mnesis_config_gives_operators_and_sessions_their_settings(engine: Engine) -> None:
    options = SessionConfig(llm_options={"seed": 7})
    config = MnesisConfig(operators=OperatorConfig(agentic_map_concurrency=1, max_retries=0), session=options)
    llm = ScriptedLLM("no json")
    agents = AgenticMap(config, engine=engine, model=MODEL, llm=llm)
    (result,) = (await agents.run_all(["a"], "{{ item }}", output_schema=Size)).results
    assert (result.error_kind, result.attempts) == ("validation", 1)
    assert llm.requests[0].options == {"seed": 7}
    with pytest.raises(ConfigurationError):
        AgenticMap("gpt-4o")  # type: ignore[arg-type]  # wrong on purpose


async def test_a_run_that_is_finished_costs_nothing_the_second_time(engine: Engine) -> None:
    llm = ScriptedLLM('{"letters": 1}')
    agents = AgenticMap(engine=engine, model=MODEL, llm=llm)
    first = await agents.run_all(["a", "b"], "{{ item }}", output_schema=Size, run_id="r")
    again = await agents.run_all(["a", "b"], "{{ item }}", output_schema=Size, run_id="r")
    assert len(llm.requests) == 2
    assert [r.resumed for r in again.results] == [True, True]
    fields = {"resumed"}
    assert [r.model_dump(exclude=fields) for r in again.results] == [
        r.model_dump(exclude=fields) for r in first.results
    ]
    assert isinstance(again.results[0].output, Size)


@pytest.mark.parametrize(
    "other",
    [
        {"agent_prompt_template": "{{ item }}!"},
        {"model": "openai/gpt-4o-mini"},
        {"output_schema": Size},
        {"system_prompt": "another"},
        {"stop": "DONE"},
        {"inputs": ["b"]},
        {"tools": [ToolSpec("look", "Look.", handler=print, read_only=True)]},
    ],
)
async def test_a_run_id_belongs_to_one_set_of_settings_and_inputs(engine: Engine, other: dict[str, Any]) -> None:
    llm = ScriptedLLM("done")
    agents = AgenticMap(engine=engine, llm=llm)
    settings: dict[str, Any] = {"inputs": ["a"], "agent_prompt_template": "{{ item }}", "model": MODEL}
    await agents.run_all(**settings, run_id="r")
    with pytest.raises(RunMismatchError):
        await agents.run_all(**{**settings, **other}, run_id="r")
    assert len(llm.requests) == 1
