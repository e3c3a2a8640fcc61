"""Delegation: sub-sessions, the guard, the limit in depth, tasks side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mnesis import Engine, MnesisSession
from mnesis.errors import (
    DelegationDeniedError,
    LLMAuthenticationError,
    LLMServerError,
)
from mnesis.llm.base import LLMReply, LLMRequest
from mnesis.operators.delegation import delegate, delegate_all
from mnesis.testing import EventRecorder, ScriptedLLM
from tests.support.delegating import MODEL, a_sub_agent, calling, children


@pytest.fixture
async def engine(tmp_path: Path):
    async with Engine(tmp_path / "work.db", llm=ScriptedLLM("done")) as engine:
        yield engine


def text_of(request: LLMRequest) -> str:
    return "\n".join(str(message.get("content")) for message in request.messages)


async def test_a_sub_agent_works_in_a_child_session(engine: Engine) -> None:
    async with MnesisSession.open(model=MODEL, engine=engine) as session:
        result = await delegate("count the files", session=session, agent="counter")

        (child,) = await children(engine, session.id)
        assert (result.text, result.output, result.success, result.turns) == ("done", "done", True, 1)
        assert (child.id, child.agent, child.model) == (result.session_id, "counter", MODEL)
        assert result.usage == child.usage
        assert result.usage.input > 0
        assert await session.messages() == []
    loaded = await MnesisSession.load(result.session_id, engine=engine)
    assert [m.text_content() for m in await loaded.messages()] == ["count the files", "done"]
    await loaded.close()


async def test_the_sub_session_is_closed_and_its_events_reach_the_engine(engine: Engine) -> None:
    with EventRecorder(engine.events) as recorder:
        result = await delegate("a task", engine=engine, model=MODEL)
    assert [str(kind) for kind, payload in recorder.events if payload["session_id"] == result.session_id][
        -1
    ] == "session.closed"


async def test_a_sub_agent_inherits_the_settings_of_the_session(engine: Engine) -> None:
    own = ScriptedLLM("from the session's own client")
    async with MnesisSession.open(model=MODEL, engine=engine, llm=own) as session:
        assert (await delegate("a task", session=session)).text == "from the session's own client"
        assert (await delegate("a task", session=session, llm=ScriptedLLM("another"))).text == "another"


async def test_a_failing_model_is_a_failure_that_keeps_its_session(engine: Engine) -> None:
    llm = ScriptedLLM(LLMServerError("the provider is down", model=MODEL))
    result = await delegate("a task", engine=engine, model=MODEL, llm=llm, max_retries=0)
    assert (result.success, result.error_kind, result.output) == (False, "llm_error", None)
    assert result.error is not None
    assert "the provider is down" in result.error
    assert (await engine.store.session(result.session_id)).last_seq == 1


async def test_a_wrong_key_is_a_failure_too(engine: Engine) -> None:
    llm = ScriptedLLM(LLMAuthenticationError("no key", model=MODEL))
    result = await delegate("a task", engine=engine, model=MODEL, llm=llm)
    assert (result.success, result.error_kind, len(llm.requests)) == (False, "llm_error", 1)


async def test_a_top_level_session_delegates_without_saying_what_it_keeps(engine: Engine) -> None:
    async with MnesisSession.open(model=MODEL, engine=engine) as session:
        assert (await delegate("everything there is to do", session=session)).success


@pytest.mark.parametrize(
    ("scope", "kept", "says"),
    [
        (None, None, "delegated_scope is missing"),
        ("the tests", None, "kept_work is missing"),
        (None, "the report", "delegated_scope is missing"),
        ("   ", "the report", "delegated_scope is missing"),
        ("the tests", " None. ", "kept_work is missing"),
        ("the tests", "Nothing", "kept_work is missing"),
        ("the tests", "n/a", "kept_work is missing"),
        ("The  tests", "the tests.", "are the same"),
        ("Everything!", "the report", "your whole task"),
    ],
)
async def test_a_sub_agent_that_keeps_no_work_is_refused_before_any_call(
    engine: Engine, scope: str | None, kept: str | None, says: str
) -> None:
    llm = ScriptedLLM("done")
    child = await a_sub_agent(engine, llm)
    with pytest.raises(DelegationDeniedError, match=says) as refused:
        await delegate("run the tests", session=child, delegated_scope=scope, kept_work=kept)
    assert "delegated_scope" in str(refused.value)
    assert "kept_work" in str(refused.value)
    assert llm.requests == []
    assert await children(engine, child.id) == []
    await child.close()


async def test_a_sub_agent_may_hand_over_a_part_of_its_task(engine: Engine) -> None:
    llm = ScriptedLLM("tested")
    child = await a_sub_agent(engine, llm)
    result = await delegate("run them", session=child, delegated_scope="the unit tests", kept_work="the report")
    assert result.success
    assert len(await children(engine, child.id)) == 1
    asked = text_of(llm.requests[0])
    assert "run them" in asked
    assert "the unit tests" in asked
    assert "the report" in asked
    await child.close()


async def test_code_in_a_sub_agents_tool_delegates_as_that_sub_agent(engine: Engine) -> None:
    seen: list[Any] = []

    async def hand_on() -> str:
        try:
            await delegate("do my task")
        except DelegationDeniedError as error:
            seen.append(error)
        part = await delegate("half of it", delegated_scope="the left half", kept_work="the right half")
        seen.append(part)
        return part.text

    def answer(request: LLMRequest) -> LLMReply | str:
        newest = request.messages[-1]
        return calling("hand_on") if "do all" in str(newest["content"]) else f"answered {newest['role']}"

    async with MnesisSession.open(model=MODEL, engine=engine, llm=ScriptedLLM(answer)) as session:
        result = await delegate("do all", session=session, tools=[hand_on], read_only=False)
        assert result.success
        assert result.text == "answered tool"
        refused, part = seen
        assert isinstance(refused, DelegationDeniedError)
        assert (await engine.store.session(part.session_id)).parent_id == result.session_id


@pytest.mark.parametrize(
    ("prompt", "scope"), [("x", "Write the report"), ("Write the report.", "chapter 1"), ("x", "the  whole of it")]
)
async def test_a_sub_agent_cannot_hand_on_the_whole_of_what_it_was_given(
    engine: Engine, prompt: str, scope: str
) -> None:
    errors: list[str] = []

    async def hand_on() -> str:
        with pytest.raises(DelegationDeniedError) as refused:
            await delegate(prompt, delegated_scope=scope, kept_work="looking on")
        errors.append(str(refused.value))
        return "refused"

    llm = ScriptedLLM([calling("hand_on"), "done"])
    settings: dict[str, Any] = {"engine": engine, "model": MODEL, "llm": llm, "tools": [hand_on], "read_only": False}
    await delegate("write the report", **settings, delegated_scope="the whole of it")
    assert "whole task" in errors[0]


async def test_depth_is_limited_whatever_is_said(engine: Engine) -> None:
    parent_id, depths = None, []
    for _ in range(4):
        session = await MnesisSession.create(model=MODEL, engine=engine, parent_id=parent_id)
        depths.append(session)
        parent_id = session.id
    words = {"delegated_scope": "a part", "kept_work": "the rest"}
    assert (await delegate("x", session=depths[2], **words)).success
    with pytest.raises(DelegationDeniedError, match="depth 4; the limit is max_depth=3"):
        await delegate("x", session=depths[3], **words)
    with pytest.raises(DelegationDeniedError, match="max_depth=3"):
        await delegate_all(["x"], session=depths[3])
    assert (await delegate("x", session=depths[3], max_depth=4, **words)).success
    for session in depths:
        await session.close()


async def test_a_sub_agents_code_cannot_raise_the_limit_it_is_under(engine: Engine) -> None:
    caught: list[str] = []

    async def deeper() -> str:
        try:
            await delegate_all(["x"], max_depth=99)
        except DelegationDeniedError as error:
            caught.append(str(error))
        return "ok"

    llm = ScriptedLLM([calling("deeper"), "done"])
    await delegate("y", engine=engine, model=MODEL, llm=llm, tools=[deeper], read_only=False, max_depth=1)
    assert "max_depth=1" in caught[0]
