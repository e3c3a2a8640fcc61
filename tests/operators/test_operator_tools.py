"""Operators as tools: a model delegates and maps from within its own turn."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mnesis import Engine, MnesisSession, ToolSpec
from mnesis.llm.base import LLMReply, LLMRequest
from mnesis.models.message import ToolPart
from mnesis.operators.agentic_map import AgenticMap
from mnesis.operators.llm_map import LLMMap
from mnesis.operators.tools import (
    agentic_map_tool,
    delegate_all_tool,
    delegate_tool,
    llm_map_tool,
    map_results_tool,
)
from mnesis.testing import ScriptedLLM
from mnesis.tokens import TokenEstimator

MODEL = "openai/gpt-4o"


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    async with Engine(tmp_path / "work.db") as engine:
        yield engine


def calling(name: str, **arguments: Any) -> LLMReply:
    return LLMReply(tool_calls=(ToolPart(tool_name=name, tool_call_id=f"call_{name}", input=arguments),))


def results_in(request: LLMRequest) -> list[str]:
    return [str(message["content"]) for message in request.messages if message["role"] == "tool"]


async def test_a_model_delegates_and_reads_the_result(engine: Engine) -> None:
    top = ScriptedLLM([calling("delegate", prompt="count the files"), "there are 7"])
    async with MnesisSession.open(model=MODEL, engine=engine, llm=top) as session:
        tool = delegate_tool(session, llm=ScriptedLLM("7 files"))
        result = await session.send("how many files?", tools=[tool])
        (child,) = (await engine.sessions(parent_id=session.id)).sessions
    assert result.text == "there are 7"
    assert results_in(top.requests[1]) == ["7 files"]
    assert child.last_seq == 2


async def test_a_refusal_of_the_guard_is_a_result_the_model_can_act_upon(engine: Engine) -> None:
    """The sub-agent first hands on everything, is refused, then keeps a part, and is allowed."""
    words = {"delegated_scope": "the left half", "kept_work": "the right half"}
    script = [
        calling("delegate", prompt="the middle task"),
        calling("delegate", prompt="do it all for me"),
        calling("delegate", prompt="the left half, please", **words),
        "left half done",
        "both halves done",
        "all done",
    ]
    llm = ScriptedLLM(script)
    async with MnesisSession.open(model=MODEL, engine=engine, llm=llm) as session:
        inner = delegate_tool(session)
        result = await session.send("go", tools=[delegate_tool(session, tools=[inner])])
        (child,) = (await engine.sessions(parent_id=session.id)).sessions
        (grandchild,) = (await engine.sessions(parent_id=child.id)).sessions
    assert result.text == "all done"
    assert grandchild.parent_id == child.id
    (refusal,) = results_in(llm.requests[2])
    assert "DelegationDeniedError" in refusal
    assert "kept_work" in refusal
    assert results_in(llm.requests[4])[1] == "left half done"


async def test_a_sub_agent_that_fails_is_a_tool_error(engine: Engine) -> None:
    top = ScriptedLLM([calling("delegate", prompt="a task"), "sorry"])
    async with MnesisSession.open(model=MODEL, engine=engine, llm=top) as session:
        tool = delegate_tool(session, llm=ScriptedLLM("still thinking"), stop="DONE", max_turns=2)
        await session.send("go", tools=[tool])
    (told,) = results_in(top.requests[1])
    assert "max_turns" in told
    assert "still thinking" in told


async def test_a_long_result_is_bounded_and_says_so(engine: Engine) -> None:
    top = ScriptedLLM([calling("delegate", prompt="write"), "ok"])
    async with MnesisSession.open(model=MODEL, engine=engine, llm=top) as session:
        tool = delegate_tool(session, llm=ScriptedLLM("many words " * 5_000), result_tokens=300)
        await session.send("go", tools=[tool])
    (told,) = results_in(top.requests[1])
    assert TokenEstimator().estimate(told) <= 300
    assert "left out" in told


async def test_independent_tasks_come_back_as_json_in_their_order(engine: Engine) -> None:
    def answer(request: LLMRequest) -> str:
        return f"{request.messages[-1]['content']} done"

    top = ScriptedLLM([calling("delegate_all", tasks=["one", "two"]), "ok"])
    async with MnesisSession.open(model=MODEL, engine=engine, llm=top) as session:
        await session.send("go", tools=[delegate_all_tool(session, llm=ScriptedLLM(answer))])
    (told,) = results_in(top.requests[1])
    assert json.loads(told) == {"results": [{"task": 0, "result": "one done"}, {"task": 1, "result": "two done"}]}


async def test_long_results_are_bounded_and_missing_ones_are_counted(engine: Engine) -> None:
    top = ScriptedLLM([calling("delegate_all", tasks=[f"task {n}" for n in range(10)]), "ok"])
    async with MnesisSession.open(model=MODEL, engine=engine, llm=top) as session:
        tool = delegate_all_tool(session, llm=ScriptedLLM("some words " * 100), result_tokens=600)
        await session.send("go", tools=[tool])
    told = json.loads(results_in(top.requests[1])[0])
    assert TokenEstimator().estimate(json.dumps(told)) <= 620
    assert len(told["results"]) + told["not_shown"] == 10
    assert 0 < len(told["results"]) < 10


@pytest.mark.parametrize("tasks", [[], ["x"] * 4, "one", [""]])
async def test_wrong_tasks_are_a_tool_error(engine: Engine, tasks: Any) -> None:
    below = ScriptedLLM("done")
    top = ScriptedLLM([calling("delegate_all", tasks=tasks), "ok"])
    async with MnesisSession.open(model=MODEL, engine=engine, llm=top) as session:
        await session.send("go", tools=[delegate_all_tool(session, llm=below, max_tasks=3)])
    assert "ConfigurationError" in results_in(top.requests[1])[0]
    assert below.requests == []


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def numbered(request: LLMRequest) -> str:
    """The number that the newest user message holds, as JSON."""
    asked = str(next(m["content"] for m in request.messages if m["role"] == "user"))
    return json.dumps({"n": int(asked.split()[-1])})


async def told(engine: Engine, tool: ToolSpec, **arguments: Any) -> str:
    """What a model is told when it calls the tool so."""
    top = ScriptedLLM([calling(tool.name, **arguments), "ok"])
    async with MnesisSession.open(model=MODEL, engine=engine, llm=top) as session:
        await session.send("go", tools=[tool])
    (result,) = results_in(top.requests[1])
    return result


async def test_a_model_asks_the_same_of_many_items(engine: Engine) -> None:
    tool = llm_map_tool(LLMMap(engine=engine, model=MODEL, llm=ScriptedLLM(numbered)))
    answer = json.loads(
        await told(engine, tool, prompt_template="number {{ item }}", inputs=[3, 4], output_schema=SCHEMA)
    )
    assert answer["results"] == [{"index": 0, "output": {"n": 3}}, {"index": 1, "output": {"n": 4}}]
    assert (answer["total"], answer["succeeded"], answer["failed"]) == (2, 2, 0)


async def test_a_model_gives_each_item_to_an_agent_below_its_own_session(engine: Engine) -> None:
    agents = AgenticMap(engine=engine, llm=ScriptedLLM(lambda request: f"did {request.messages[-1]['content']}"))
    top = ScriptedLLM([calling("agentic_map", prompt_template="{{ item }}", inputs=["a", "b"]), "ok"])
    async with MnesisSession.open(model=MODEL, engine=engine, llm=top) as session:
        await session.send("go", tools=[agentic_map_tool(agents, session)])
        assert len((await engine.sessions(parent_id=session.id)).sessions) == 2
    answer = json.loads(results_in(top.requests[1])[0])
    assert [row["output"] for row in answer["results"]] == ["did a", "did b"]


async def test_agents_of_agents_of_a_tool_obey_the_limit_in_depth(engine: Engine) -> None:
    call = calling("agentic_map", prompt_template="{{ item }}", inputs=["x"])
    llm = ScriptedLLM([call, call, "gave up", "ok"])
    async with MnesisSession.open(model=MODEL, engine=engine, llm=llm) as session:
        inner = agentic_map_tool(AgenticMap(engine=engine), session)
        await session.send(
            "go", tools=[agentic_map_tool(AgenticMap(engine=engine), session, tools=[inner], max_depth=1)]
        )
    assert "DelegationDeniedError" in results_in(llm.requests[2])[0]


async def test_results_that_do_not_fit_are_counted_and_can_be_read_on(engine: Engine) -> None:
    agents = AgenticMap(engine=engine, model=MODEL, llm=ScriptedLLM("some words " * 40))
    tool = agentic_map_tool(agents, result_tokens=500)
    first = json.loads(await told(engine, tool, prompt_template="{{ item }}", inputs=list(range(12))))
    seen = [row["index"] for row in first["results"]]
    assert TokenEstimator().estimate(json.dumps(first)) <= 550
    assert len(seen) + first["not_shown"] == first["total"] == 12
    page = first
    while "the_rest" in page:
        assert "map_results" in page["the_rest"]
        rest = map_results_tool(engine, result_tokens=500)
        page = json.loads(await told(engine, rest, run_id=first["run_id"], after_index=seen[-1]))
        seen += [row["index"] for row in page["results"]]
    assert seen == list(range(12))


async def test_failures_are_among_the_results(engine: Engine) -> None:
    tool = llm_map_tool(LLMMap(engine=engine, model=MODEL, llm=ScriptedLLM("no json")), max_retries=0)
    answer = json.loads(await told(engine, tool, prompt_template="{{ item }}", inputs=[1], output_schema=SCHEMA))
    assert answer["failed"] == 1
    assert "JSON" in answer["results"][0]["error"]


async def test_files_inside_the_directory_may_be_used(engine: Engine, tmp_path: Path) -> None:
    home = tmp_path / "files"
    home.mkdir()
    (home / "in.jsonl").write_text("1\n2\n3\n")
    tool = llm_map_tool(
        LLMMap(engine=engine, model=MODEL, llm=ScriptedLLM(numbered)), directory=home, result_tokens=150
    )
    files = {"input_file": "in.jsonl", "output_file": "out.jsonl"}
    answer = json.loads(await told(engine, tool, prompt_template="{{ item }}", output_schema=SCHEMA, **files))
    assert (answer["total"], answer["output_file"]) == (3, "out.jsonl")
    lines = [json.loads(line) for line in (home / "out.jsonl").read_text().splitlines()]
    assert [line["output"]["n"] for line in lines] == [1, 2, 3]


@pytest.mark.parametrize(
    "files",
    [
        {"input_file": "../secret.jsonl"},
        {"input_file": "link.jsonl"},
        {"input_file": "/etc/passwd"},
        {"input_file": "missing.jsonl"},
        {"inputs": [1], "output_file": "../out.jsonl"},
        {"inputs": [1], "output_file": "program.py"},
        {"inputs": [1], "input_file": "in.jsonl"},
        {},
        {"inputs": []},
        {"inputs": list(range(4))},
    ],
)
async def test_what_a_model_may_not_use_is_a_tool_error(engine: Engine, tmp_path: Path, files: dict[str, Any]) -> None:
    home = tmp_path / "files"
    home.mkdir()
    for place in (home / "in.jsonl", tmp_path / "secret.jsonl"):
        place.write_text("1\n")
    (home / "link.jsonl").symlink_to(tmp_path / "secret.jsonl")
    llm = ScriptedLLM(numbered)
    tool = llm_map_tool(LLMMap(engine=engine, model=MODEL, llm=llm), directory=home, max_items=3)
    assert "Error" in await told(engine, tool, prompt_template="{{ item }}", output_schema=SCHEMA, **files)
    assert llm.requests == []
    assert not (tmp_path / "out.jsonl").exists()


async def test_files_are_not_offered_without_a_directory(engine: Engine) -> None:
    llm = ScriptedLLM(numbered)
    for tool in (llm_map_tool(LLMMap(engine=engine, model=MODEL, llm=llm)), agentic_map_tool(AgenticMap(model=MODEL))):
        assert "input_file" not in tool.parameters["properties"]
        assert "Error" in await told(
            engine, tool, prompt_template="{{ item }}", output_schema=SCHEMA, input_file="in.jsonl"
        )
    assert llm.requests == []


@pytest.mark.parametrize(
    "template", ["no placeholder", "{{ item|upper }}", "{{ item.__class__() }}", "{% include 'x' %}{{ item }}"]
)
async def test_a_models_template_is_checked_before_any_call(engine: Engine, template: str) -> None:
    llm = ScriptedLLM(numbered)
    for tool in (llm_map_tool(LLMMap(engine=engine, model=MODEL, llm=llm)), agentic_map_tool(AgenticMap(llm=llm))):
        answer = await told(engine, tool, prompt_template=template, inputs=[1], output_schema=SCHEMA)
        assert "ConfigurationError" in answer
    assert llm.requests == []


async def test_an_unknown_run_is_a_tool_error(engine: Engine) -> None:
    assert "RunNotFoundError" in await told(engine, map_results_tool(engine), run_id="nothing")


def test_a_map_tool_is_read_only_if_nothing_it_starts_can_write(tmp_path: Path) -> None:
    assert llm_map_tool(LLMMap(model=MODEL)).read_only
    assert not llm_map_tool(LLMMap(model=MODEL), directory=tmp_path).read_only
    assert agentic_map_tool(AgenticMap()).read_only
    assert not agentic_map_tool(AgenticMap(), read_only=False).read_only
    assert not agentic_map_tool(AgenticMap(), directory=tmp_path).read_only


def test_a_delegation_is_read_only_exactly_if_its_sub_agents_are() -> None:
    erase = ToolSpec("erase", "Erase.", handler=lambda: "gone")
    for make in (delegate_tool, delegate_all_tool):
        assert make().read_only
        assert not make(tools=[erase], read_only=False).read_only
