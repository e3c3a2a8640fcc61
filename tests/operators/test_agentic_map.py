"""AgenticMap: a session per item, results, parents, refusals, events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mnesis import Engine, MnesisConfig, MnesisEvent, MnesisSession, OperatorConfig, SessionConfig, ToolSpec
from mnesis.errors import (
    DelegationDeniedError,
    LLMServerError,
    SessionNotFoundError,
)
from mnesis.llm.base import LLMReply, LLMRequest
from mnesis.models.agents import AgentMapResult
from mnesis.models.message import ToolPart
from mnesis.operators.agentic_map import AgenticMap
from mnesis.operators.delegation import delegate
from mnesis.testing import EventRecorder, ScriptedLLM
from tests.support.agentic_items import MODEL, Size, asked, echo, sessions
from tests.support.openai_server import OpenAIServer, Reply


async def results(stream: AsyncIterator[AgentMapResult[Any]]) -> list[AgentMapResult[Any]]:
    return [result async for result in stream]


def names_in(directory: Path) -> list[str]:
    return sorted(place.name for place in directory.iterdir())


async def test_every_item_gets_a_session_of_its_own(engine: Engine) -> None:
    agents = AgenticMap(engine=engine, model=MODEL, llm=ScriptedLLM(echo))
    batch = await agents.run_all(["a", "b", "c"], "Do {{ item }}.", agent="reader")
    assert [r.output_text for r in batch.results] == [f"answer to Do {x}." for x in "abc"]
    assert [(r.index, r.input, r.success, r.turns, r.attempts) for r in batch.results] == [
        (n, x, True, 1, 1) for n, x in enumerate("abc")
    ]
    assert (batch.total, len(batch.successes), batch.failures, batch.total_attempts) == (3, 3, [], 3)
    stored = {record.id: record for record in await sessions(engine)}
    assert len({r.session_id for r in batch.results}) == 3
    for result in batch.results:
        record = stored[result.session_id]
        assert (record.agent, record.model, record.turn_count) == ("reader", MODEL, 1)
        assert result.token_usage == result.usage == record.usage
    assert batch.usage.input == sum(r.token_usage.input for r in batch.results) > 0


async def test_a_class_given_with_the_map_is_the_schema_of_its_runs(engine: Engine) -> None:
    agents = AgenticMap[Size](engine=engine, model=MODEL, llm=ScriptedLLM(lambda request: '{"letters": 3}'))
    (result,) = (await agents.run_all(["abc"], "{{ item }}")).results
    assert result.output == Size(letters=3)
    (untyped,) = (await agents.run_all(["abc"], "{{ item }}", output_schema={"type": "object"})).results
    assert untyped.output == {"letters": 3}


async def test_agents_work_over_http_with_tools_and_real_usage(engine: Engine) -> None:
    """Through litellm: the model calls the tool, gets its result, and answers."""
    look = ToolSpec("look", "Look.", handler=lambda: "it is blue", read_only=True)
    with OpenAIServer(Reply((), calls=[("c1", "look", "{}")], finish_reason="tool_calls"), Reply(("blue",))) as server:
        config = MnesisConfig(session=SessionConfig(llm_options=server.options))
        agents = AgenticMap(config, engine=engine, model="openai/gpt-4o")
        (result,) = (await agents.run_all(["sky"], "What colour has the {{ item }}?", tools=[look])).results
    assert (result.output_text, result.turns) == ("blue", 1)
    assert (result.token_usage.input, result.token_usage.output) == (200, 40)
    assert server.requests[1]["messages"][-1]["content"] == "it is blue"


async def test_results_keep_the_order_of_the_inputs_or_come_as_they_finish(engine: Engine) -> None:
    later = asyncio.Event()

    async def answer(request: LLMRequest) -> str:
        if "slow" in asked(request):
            await later.wait()
        else:
            later.set()
        return "done"

    agents = AgenticMap(engine=engine, model=MODEL, llm=ScriptedLLM(answer))
    items = ["slow", "quick"]
    assert [r.index for r in await results(agents.run(items, "{{ item }}", order="completion"))] == [1, 0]
    later.clear()
    assert [r.index for r in await results(agents.run(items, "{{ item }}"))] == [0, 1]


async def test_no_more_agents_work_at_once_than_allowed(engine: Engine) -> None:
    running, most = 0, 0

    async def answer(request: LLMRequest) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return "done"

    config = OperatorConfig(agentic_map_concurrency=2)
    agents = AgenticMap(config, engine=engine, model=MODEL, llm=ScriptedLLM(answer))
    await agents.run_all(list(range(8)), "{{ item }}")
    assert 1 <= most <= 2
    most = 0
    await agents.run_all(list(range(8)), "{{ item }}", concurrency=1)
    assert most == 1


async def test_tools_are_called_and_the_sub_session_logs_them(engine: Engine) -> None:
    def look(name: str) -> str:
        """Look at something."""
        return f"{name} is blue"

    def answer(request: LLMRequest) -> LLMReply | str:
        newest = request.messages[-1]
        if newest["role"] == "tool":
            return f"seen: {newest['content']}"
        return LLMReply(tool_calls=(ToolPart(tool_name="look", tool_call_id="c", input={"name": asked(request)}),))

    agents = AgenticMap(engine=engine, model=MODEL, llm=ScriptedLLM(answer))
    batch = await agents.run_all(["sky", "sea"], "{{ item }}", tools=[look], read_only=False)
    assert [r.output_text for r in batch.results] == ["seen: sky is blue", "seen: sea is blue"]
    session = await MnesisSession.load(batch.results[0].session_id, engine=engine)
    assert [m.role for m in await session.messages()] == ["user", "assistant", "tool", "assistant"]
    await session.close()


async def test_read_only_offers_only_tools_that_are_declared_so(engine: Engine) -> None:
    look = ToolSpec("look", "Look.", handler=lambda: "seen", read_only=True)
    erase = ToolSpec("erase", "Erase.", handler=lambda: "gone")
    llm = ScriptedLLM("done")
    agents = AgenticMap(engine=engine, model=MODEL, llm=llm)
    await agents.run_all(["a"], "{{ item }}", tools=[look, erase])
    await agents.run_all(["a"], "{{ item }}", tools=[look, erase], read_only=False)
    names = [[tool["function"]["name"] for tool in request.tools] for request in llm.requests]
    assert names == [["look"], ["look", "erase"]]


async def test_outputs_are_validated_and_typed(engine: Engine) -> None:
    def answer(request: LLMRequest) -> str:
        told = [m for m in request.messages if m["role"] == "user"]
        if asked(request) == "never" or (asked(request) == "late" and len(told) == 1):
            return '{"letters": "many"}'
        return '```json\n{"letters": 3}\n```'

    agents = AgenticMap(engine=engine, model=MODEL, llm=ScriptedLLM(answer))
    batch = await agents.run_all(["good", "late", "never"], "{{ item }}", output_schema=Size, max_retries=1)
    good, late, never = batch.results
    assert (good.output, good.attempts, late.output, late.attempts) == (Size(letters=3), 1, Size(letters=3), 2)
    assert (never.success, never.error_kind, never.attempts, never.output) == (False, "validation", 2, None)
    assert batch.total_attempts == 5


async def test_a_failing_model_is_a_failure_of_its_item_alone(engine: Engine) -> None:
    def answer(request: LLMRequest) -> Any:
        return LLMServerError("the provider is down") if "bad" in asked(request) else "fine"

    agents = AgenticMap(engine=engine, model=MODEL, llm=ScriptedLLM(answer))
    batch = await agents.run_all(["good", "bad", "good"], "{{ item }}", max_retries=0)
    (failure,) = batch.failures
    assert (failure.index, failure.error_kind, failure.output_text) == (1, "llm_error", "")
    assert "the provider is down" in str(failure.error)
    assert [r.index for r in batch.successes] == [0, 2]


async def test_continuation_stop_and_turns_reach_the_agent(engine: Engine) -> None:
    def answer(request: LLMRequest) -> str:
        said = [m["content"] for m in request.messages if m["role"] == "user"]
        return "DONE" if len(said) == 3 and "keep on" in str(said[2]) else "thinking"

    agents = AgenticMap(engine=engine, model=MODEL, llm=ScriptedLLM(answer))
    settings = {"stop": "DONE", "continuation_message": "keep on"}
    (result,) = (await agents.run_all(["a"], "{{ item }}", **settings)).results
    assert (result.output_text, result.turns, result.intermediate_outputs) == ("DONE", 3, ["thinking", "thinking"])
    (result,) = (await agents.run_all(["a"], "{{ item }}", max_turns=2, **settings)).results
    assert (result.success, result.error_kind, result.turns) == (False, "max_turns", 2)


async def test_sub_sessions_are_children_of_the_parent_in_its_database(engine: Engine) -> None:
    own = ScriptedLLM(echo)
    async with MnesisSession.open(model=MODEL, engine=engine, llm=own) as parent:
        batch = await AgenticMap().run_all(["a", "b"], "{{ item }}", parent=parent)
        assert {r.session_id for r in batch.results} == {s.id for s in await sessions(engine, parent.id)}
        assert len(own.requests) == 2
        by_name = await AgenticMap(engine=engine, llm=own).run_all(["c"], "{{ item }}", parent_session_id=parent.id)
        assert len(await sessions(engine, parent.id)) == 3
        assert by_name.results[0].output_text == "answer to c"


async def test_an_unknown_parent_is_refused_before_any_call(engine: Engine, tmp_path: Path) -> None:
    llm = ScriptedLLM("x")
    with pytest.raises(SessionNotFoundError) as missing:
        await AgenticMap(engine=engine, model=MODEL, llm=llm).run_all(["a"], "{{ item }}", parent_session_id="nobody")
    assert missing.value.id == "nobody"
    elsewhere = tmp_path / "not-there.db"
    with pytest.raises(SessionNotFoundError):
        await AgenticMap(model=MODEL, llm=llm).run_all(["a"], "{{ item }}", parent_session_id="p", db_path=elsewhere)
    assert llm.requests == []
    assert not elsewhere.exists()
    assert await sessions(engine) == []


async def test_a_named_database_is_the_one_that_is_used_and_is_closed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    agents = AgenticMap(model=MODEL, llm=ScriptedLLM("x", repeat_last=True))
    batch = await agents.run_all(["a"], "{{ item }}", db_path=tmp_path / "a.db")
    with pytest.raises(SessionNotFoundError):
        await agents.run_all(["a"], "{{ item }}", db_path=tmp_path / "a.db", parent_session_id="nobody")
    # Only an open database has a write-ahead log beside it.
    assert names_in(tmp_path) == ["a.db"]
    async with Engine(tmp_path / "a.db") as engine:
        assert [s.id for s in await sessions(engine)] == [batch.results[0].session_id]


async def test_agents_inside_agents_obey_the_limit_in_depth(engine: Engine) -> None:
    inner = ScriptedLLM("inner")
    caught: list[BaseException] = []

    async def hand_on() -> str:
        agents = AgenticMap(llm=inner)
        try:
            return (await agents.run_all(["x"], "{{ item }}")).results[0].output_text
        except DelegationDeniedError as error:
            caught.append(error)
            raise

    script = [LLMReply(tool_calls=(ToolPart(tool_name="hand_on", tool_call_id="c"),)), "done"] * 2
    settings: dict[str, Any] = {"tools": [hand_on], "read_only": False, "llm": ScriptedLLM(script)}
    allowed = await delegate("go", engine=engine, model=MODEL, max_depth=2, **settings)
    (child,) = await sessions(engine, allowed.session_id)
    assert (child.parent_id, caught) == (allowed.session_id, [])
    await delegate("go", engine=engine, model=MODEL, max_depth=1, **settings)
    assert len(caught) == 1
    assert len(inner.requests) == 1


async def test_what_happens_is_told(engine: Engine) -> None:
    agents = AgenticMap(engine=engine, model=MODEL, llm=ScriptedLLM("done"))
    with EventRecorder(engine.events) as recorder:
        batch = await agents.run_all(["a", "b"], "{{ item }}", run_id="told")
    (started,) = recorder.of(MnesisEvent.MAP_STARTED)
    assert (started.type, started.model, started.run_id) == ("agentic", MODEL, "told")
    completed = recorder.of(MnesisEvent.MAP_ITEM_COMPLETED)
    assert [(e.completed, e.success, e.run_id) for e in completed] == [(1, True, "told"), (2, True, "told")]
    (ended,) = recorder.of(MnesisEvent.MAP_COMPLETED)
    assert (ended.total, ended.completed) == (2, 2)
    closed = {e.session_id for e in recorder.of(MnesisEvent.SESSION_CLOSED)}
    assert closed == {r.session_id for r in batch.results}


async def test_leaving_early_ends_the_agents_and_closes_their_sessions(engine: Engine) -> None:
    async def answer(request: LLMRequest) -> str:
        if asked(request) != "0":
            await asyncio.Event().wait()
        return "done"

    llm = ScriptedLLM(answer)
    with EventRecorder(engine.events) as recorder:
        stream = AgenticMap(engine=engine, model=MODEL, llm=llm).run(list(range(20)), "{{ item }}", concurrency=4)
        async for result in stream:
            assert result.index == 0
            break
        await stream.aclose()
        created = {e.session_id for e in recorder.of(MnesisEvent.SESSION_CREATED)}
        assert created == {e.session_id for e in recorder.of(MnesisEvent.SESSION_CLOSED)}
    calls = len(llm.requests)
    await asyncio.sleep(0.05)
    assert len(llm.requests) == calls <= 6
