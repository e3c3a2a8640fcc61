"""Delegation: sub-sessions, the guard, the limit in depth, tasks side by side."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mnesis import Engine, Grant, MnesisEvent, MnesisSession, OperatorConfig, ToolSpec
from mnesis.errors import (
    ConfigurationError,
    DelegationDeniedError,
    LLMAuthenticationError,
    LLMServerError,
    SessionNotFoundError,
    ToolDefinitionError,
)
from mnesis.llm.base import LLMReply, LLMRequest
from mnesis.models.message import ToolPart
from mnesis.operators.delegation import Task, check_scope, delegate, delegate_all
from mnesis.sync import SyncSession
from mnesis.testing import EventRecorder, ScriptedLLM

MODEL = "openai/gpt-4o"


@pytest.fixture
async def engine(tmp_path: Path):
    async with Engine(tmp_path / "work.db", llm=ScriptedLLM("done")) as engine:
        yield engine


def calling(name: str, **arguments: Any) -> LLMReply:
    return LLMReply(tool_calls=(ToolPart(tool_name=name, tool_call_id=f"call_{name}", input=arguments),))


def text_of(request: LLMRequest) -> str:
    return "\n".join(str(message.get("content")) for message in request.messages)


async def children(engine: Engine, parent_id: str) -> list[Any]:
    return list((await engine.sessions(parent_id=parent_id)).sessions)


async def a_sub_agent(engine: Engine, llm: object | None = None) -> MnesisSession:
    parent = await MnesisSession.create(model=MODEL, engine=engine)
    child = await MnesisSession.create(model=MODEL, engine=engine, parent_id=parent.id, llm=llm)
    await parent.close()
    return child


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


async def test_tasks_run_side_by_side_and_come_back_in_their_order(engine: Engine) -> None:
    together = asyncio.Barrier(3)

    async def answer(request: LLMRequest) -> str:
        await together.wait()
        return f"{request.messages[-1]['content']} done"

    results = await delegate_all(
        ["one", Task("two", agent="second"), "three"],
        engine=engine,
        model=MODEL,
        llm=ScriptedLLM(answer),
        concurrency=3,
    )
    assert [result.text for result in results] == ["one done", "two done", "three done"]
    assert (await engine.store.session(results[1].session_id)).agent == "second"


async def test_no_more_tasks_run_at_once_than_allowed(engine: Engine) -> None:
    running, most = 0, 0

    async def answer(request: LLMRequest) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return "done"

    await delegate_all(
        [f"task {n}" for n in range(8)], engine=engine, model=MODEL, llm=ScriptedLLM(answer), concurrency=2
    )
    assert most <= 2


async def test_one_failing_task_does_not_end_the_others(engine: Engine) -> None:
    def answer(request: LLMRequest) -> Any:
        return LLMServerError("down") if "bad" in str(request.messages[-1]["content"]) else "fine"

    llm = ScriptedLLM(answer)
    results = await delegate_all(["good", "bad", "good too"], engine=engine, model=MODEL, llm=llm, max_retries=0)
    assert [(r.success, r.error_kind) for r in results] == [(True, None), (False, "llm_error"), (True, None)]


async def test_parallel_tasks_of_a_sub_agent_need_no_words_of_the_guard(engine: Engine) -> None:
    child = await a_sub_agent(engine, ScriptedLLM("done"))
    results = await delegate_all(["left", "right"], session=child)
    assert [r.success for r in results] == [True, True]
    assert len(await children(engine, child.id)) == 2
    await child.close()


async def test_cancelling_ends_every_task_and_closes_every_session(engine: Engine) -> None:
    gate = asyncio.Event()
    llm = ScriptedLLM("never", gate=gate)
    with EventRecorder(engine.events) as recorder:
        running = asyncio.create_task(delegate_all(["a", "b"], engine=engine, model=MODEL, llm=llm))
        await recorder.wait_for(MnesisEvent.MESSAGE_CREATED, 2)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert len(recorder.of(MnesisEvent.SESSION_CLOSED)) == 2


async def test_a_fault_in_the_callers_code_ends_the_other_tasks_first(engine: Engine) -> None:
    def broken(result: Any) -> bool:
        raise ZeroDivisionError

    both_at_work = asyncio.Event()

    async def answer(request: LLMRequest) -> str:
        if "slow" in str(request.messages[-1]["content"]):
            both_at_work.set()
            await asyncio.Event().wait()
        await both_at_work.wait()
        return "x"

    with EventRecorder(engine.events) as recorder:
        with pytest.raises(ZeroDivisionError):
            await delegate_all(["slow", "quick"], engine=engine, model=MODEL, llm=ScriptedLLM(answer), stop=broken)
        assert len(recorder.of(MnesisEvent.SESSION_CLOSED)) == 2


async def test_a_grant_opens_the_delegating_sessions_history(engine: Engine) -> None:
    llm = ScriptedLLM([calling("parent_lcm_grep", pattern="code word"), "it is heron"])
    async with MnesisSession.open(model=MODEL, engine=engine) as session:
        await session.record("the code word is heron", "noted")
        grant = Grant.unlimited()
        result = await delegate("find the code word", session=session, llm=llm, grant=grant)
    assert result.text == "it is heron"
    assert "heron" in str(llm.requests[1].messages[-1])
    assert [use.tool for use in grant.uses] == ["lcm_grep"]


async def test_without_a_grant_the_delegating_sessions_history_is_not_open(engine: Engine) -> None:
    llm = ScriptedLLM("done")
    async with MnesisSession.open(model=MODEL, engine=engine) as session:
        await delegate("a task", session=session, llm=llm)
        assert llm.requests[0].tools == () or list(llm.requests[0].tools) == []
    with pytest.raises(ConfigurationError, match="session="):
        await delegate("a task", engine=engine, model=MODEL, grant=Grant())


async def test_only_tools_declared_read_only_are_offered(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    llm = ScriptedLLM("done")
    look = ToolSpec("look", "Look.", handler=lambda: "seen", read_only=True)

    def erase() -> str:
        """Erase."""
        return "gone"

    await delegate("a task", engine=engine, model=MODEL, llm=llm, tools=[look, erase])
    assert [tool["function"]["name"] for tool in llm.requests[0].tools] == ["look"]
    assert "erase" in caplog.text
    await delegate("a task", engine=engine, model=MODEL, llm=llm, tools=[look, erase], read_only=False)
    assert [tool["function"]["name"] for tool in llm.requests[1].tools] == ["look", "erase"]


async def test_tools_that_would_all_be_withheld_are_refused(engine: Engine) -> None:
    def erase() -> str:
        """Erase."""
        return "gone"

    with pytest.raises(ConfigurationError, match=r"withholds every tool: erase.*read_only=False"):
        await delegate("a task", engine=engine, model=MODEL, tools=[erase])


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"prompt": ""}, "must be a non-empty string"),
        ({"max_turns": 0}, "max_turns"),
        ({"max_turns": True}, "max_turns"),
        ({"max_retries": -1}, "max_retries"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"stop": []}, "stop"),
        ({"max_depth": 0}, "max_depth"),
        ({"model": None}, "no model"),
        ({"db_path": "elsewhere.db"}, "elsewhere.db"),
        ({"delegated_scope": 3}, "must be strings"),
        ({"timeout_seconds": "5"}, "timeout_seconds"),
        ({"engine": "work.db"}, "engine must be an Engine"),
        ({"config": OperatorConfig()}, r"not a configuration; pass MnesisConfig\(operators=…\)"),
        ({"model": 3}, "model must be a string"),
        ({"session": 3, "engine": None}, "a MnesisSession or the id of one, not a int"),
    ],
)
async def test_settings_that_cannot_work_are_refused_before_any_call(
    tmp_path: Path, wrong: dict[str, Any], says: str
) -> None:
    async with Engine(tmp_path / "work.db") as engine:
        settings = {"prompt": "a task", "engine": engine, "model": MODEL, **wrong}
        with pytest.raises(ConfigurationError, match=says):
            await delegate(settings.pop("prompt"), **settings)
        assert list((await engine.sessions()).sessions) == []


async def test_provider_dicts_are_refused_because_nobody_could_run_them(engine: Engine) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    with pytest.raises(ToolDefinitionError, match="'f' has no function that runs it"):
        await delegate("a task", engine=engine, model=MODEL, tools=[tool], read_only=False)
    with pytest.raises(ToolDefinitionError, match="two tools"):
        await delegate("a task", engine=engine, model=MODEL, tools=[ToolSpec("a", ""), ToolSpec("a", "")])


async def test_wrong_concurrency_is_refused(engine: Engine) -> None:
    for wrong in (0, -1, True, 2.0):
        with pytest.raises(ConfigurationError, match="concurrency"):
            await delegate_all(["x"], engine=engine, model=MODEL, concurrency=wrong)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize("wrong", ["one text", Task("one task"), None, [3], ["fine", ""]])
async def test_what_is_no_list_of_tasks_is_refused_before_any_call(engine: Engine, wrong: Any) -> None:
    llm = ScriptedLLM("done")
    with pytest.raises(ConfigurationError, match="task"):
        await delegate_all(wrong, engine=engine, model=MODEL, llm=llm)
    assert llm.requests == []


async def test_a_session_of_the_synchronous_door_is_refused_rather_than_ignored(tmp_path: Path) -> None:
    with (
        SyncSession.open(model=MODEL, db_path=tmp_path / "other.db") as session,
        pytest.raises(ConfigurationError, match="not a SyncSession"),
    ):
        await delegate("a task", session=session)  # type: ignore[arg-type]  # wrong on purpose


async def test_the_keyless_model_needs_no_name_and_satisfies_the_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNESIS_MOCK_LLM", "1")
    look = ToolSpec("look", "Look.", handler=lambda: "seen", read_only=True)
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}, "required": ["n"]}
    result = await delegate("use look", db_path=tmp_path / "work.db", tools=[look], output_schema=schema)
    assert (result.success, result.output, result.attempts) == (True, {"n": 3}, 1)
    async with Engine(tmp_path / "work.db") as engine:
        session = await MnesisSession.load(result.session_id, engine=engine)
        assert [m.role for m in await session.messages()] == ["user", "assistant", "tool", "assistant"]
        await session.close()


async def test_no_tasks_give_no_results(engine: Engine) -> None:
    assert await delegate_all([], engine=engine, model=MODEL) == []


async def test_an_unknown_parent_in_another_database_is_named(engine: Engine, tmp_path: Path) -> None:
    async with MnesisSession.open(model=MODEL, db_path=tmp_path / "other.db", llm=ScriptedLLM("x")) as session:
        with pytest.raises(ConfigurationError, match=r"work\.db"):
            await delegate("a task", session=session, engine=engine)
    with pytest.raises(SessionNotFoundError):
        await engine.store.session(session.id)


def test_the_guard_is_content_with_a_part_handed_over_and_a_part_kept() -> None:
    check_scope("read chapter 1", "read chapter 2", "read it", own_task=["read the book"])
