"""Parallel delegation, grants, and settings that are refused."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mnesis import Engine, Grant, MnesisEvent, MnesisSession, OperatorConfig, ToolSpec
from mnesis.errors import (
    ConfigurationError,
    LLMServerError,
    SessionNotFoundError,
    ToolDefinitionError,
)
from mnesis.llm.base import LLMRequest
from mnesis.operators.delegation import Task, check_scope, delegate, delegate_all
from mnesis.sync import SyncSession
from mnesis.testing import EventRecorder, ScriptedLLM
from tests.support.delegating import MODEL, a_sub_agent, calling, children


@pytest.fixture
async def engine(tmp_path: Path):
    async with Engine(tmp_path / "work.db", llm=ScriptedLLM("done")) as engine:
        yield engine


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


async def test_a_synchronous_session_is_refused_rather_than_ignored(tmp_path: Path) -> None:
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
