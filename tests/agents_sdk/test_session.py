"""`MnesisAgentSession`: the Session protocol, exact items, and windows that the provider accepts."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("agents")

from agents import Agent, RunConfig, Runner, function_tool, set_tracing_disabled
from agents.memory import Session, SessionSettings
from hypothesis import given, settings
from hypothesis import strategies as st

from agents_mnesis import MnesisAgentSession
from agents_mnesis.items import to_items, to_records
from mnesis import Engine, MnesisSession
from mnesis.errors import ConfigurationError, InvalidMessageError
from tests.support.agents_fakes import ScriptedModel, call, check_items, reasoning, text
from tests.support.agents_items import EVERY_TYPE

set_tracing_disabled(True)
MakeSession = Callable[..., MnesisAgentSession]


@pytest.fixture
async def make_session(tmp_path: Path) -> AsyncIterator[MakeSession]:
    made: list[MnesisAgentSession] = []

    def make(session_id: Any = "s", **options: Any) -> MnesisAgentSession:
        if "engine" not in options:
            options.setdefault("db_path", tmp_path / "agents.db")
        made.append(MnesisAgentSession(session_id, **options))
        return made[-1]

    yield make
    for session in made:
        await session.close()


async def test_every_item_type_comes_back_equal_and_in_order(make_session: MakeSession) -> None:
    session: Any = make_session(token_limit=100_000)
    await session.add_items(EVERY_TYPE)
    assert await session.get_items() == EVERY_TYPE
    assert await session.get_all_items() == EVERY_TYPE
    await session.close()
    assert await make_session(token_limit=100_000).get_items() == EVERY_TYPE


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
ITEMS = st.lists(
    st.sampled_from(EVERY_TYPE)
    | st.fixed_dictionaries({"type": st.text(max_size=12), "content": JSON, "output": JSON, "call_id": JSON}, optional={"role": JSON})
    | st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system"]), "content": JSON}),
    max_size=6,
)  # fmt: skip


@settings(deadline=None)
@given(ITEMS)
def test_records_contain_any_items_exactly(items: list[Any]) -> None:
    records = to_records(items)
    assert [item for record in records for item in to_items(record)] == items


async def test_the_class_has_the_protocol_of_sessions(make_session: MakeSession) -> None:
    session: Any = make_session()
    assert isinstance(session, Session)
    assert await session.get_items() == []
    assert await session.pop_item() is None
    await session.clear_session()
    await session.add_items([])
    assert await session.get_items() == []


async def test_a_limit_returns_the_newest_items_in_order(make_session: MakeSession) -> None:
    session: Any = make_session(session_settings=SessionSettings(limit=2))
    items = [{"role": "user", "content": str(number)} for number in range(5)]
    await session.add_items(items)
    assert await session.get_items() == items[-2:]
    assert await session.get_items(limit=3) == items[-3:]
    assert await session.get_items(limit=0) == []
    assert await session.get_items(limit=9) == await session.get_items(limit=-1) == items


async def test_pop_removes_single_items_from_the_end_and_the_log_keeps_them(make_session: MakeSession) -> None:
    session: Any = make_session(token_limit=100_000)
    await session.add_items(EVERY_TYPE)
    for count in range(len(EVERY_TYPE), 0, -1):
        assert await session.pop_item() == EVERY_TYPE[count - 1]
        left = await session.get_items()
        # A call whose output was removed may get a note in its place, unless it is the newest.
        assert [item for item in left if item in EVERY_TYPE] == EVERY_TYPE[: count - 1]
    assert await session.pop_item() is None
    log = await session.get_all_items()
    assert all(item in log for item in EVERY_TYPE)


async def test_pop_reaches_behind_a_summary(make_session: MakeSession) -> None:
    session: Any = make_session(token_limit=600)
    items = [
        {"role": role, "content": f"{role} {number} " + "word " * 60}
        for number in range(8)
        for role in ("user", "assistant")
    ]
    for item in items:
        await session.add_items([item])
    await session.get_items()
    assert await (await session.session()).summaries()
    for item in reversed(items):
        assert await session.pop_item() == item
    assert await session.get_items() == []


async def test_pop_brings_back_no_item_that_was_popped_before(make_session: MakeSession) -> None:
    session: Any = make_session(token_limit=600)
    items: list[Any] = []
    for number in range(24):
        items += [{"role": role, "content": f"{role} {number} " + "word " * 40} for role in ("user", "assistant")]
        await session.add_items([*items[-2:], {"role": "user", "content": "a slip"}])
        assert (await session.pop_item())["content"] == "a slip"
        await session.get_items()
    summaries = await (await session.session()).summaries()
    assert any(summary.kind == "condensed" for summary in summaries)
    assert [await session.pop_item() for _ in items] == items[::-1]


async def test_clear_empties_the_history_and_purge_the_log(make_session: MakeSession) -> None:
    session: Any = make_session()
    await session.add_items(EVERY_TYPE[:1])
    await session.clear_session()
    assert await session.get_items() == []
    assert await session.get_all_items() == EVERY_TYPE[:1]
    await session.purge()
    assert await session.get_all_items() == []


def look(q: str) -> str:
    """Look something up."""
    return f"found {q} " + "data " * 40


def answer_with_tools(items: list[dict[str, Any]]) -> list[Any]:
    number = sum(1 for item in items if item.get("role") == "user")
    if items[-1].get("role") == "user":
        run = uuid.uuid4().hex[:8]
        return [reasoning("think", f"rs_{run}"), call("look", f"a{run}", q="x"), call("look", f"b{run}", q="y")]
    return [text(f"answer {number} " + "word " * 30, f"msg_{uuid.uuid4().hex[:8]}")]


async def test_an_agent_gets_valid_requests_that_fit_and_nothing_is_lost(make_session: MakeSession) -> None:
    model = ScriptedModel(answer_with_tools)
    agent = Agent("helper", instructions="Be brief.", model=model, tools=[function_tool(look)])
    session: Any = make_session(token_limit=1_200)
    expected: list[Any] = []
    for number in range(12):
        result = await Runner.run(agent, f"question {number}", session=session)
        expected += result.to_input_list()[-6:]
    assert len(model.asked) == 24
    log = await session.get_all_items()
    assert [item.get("content") for item in log if item.get("role") == "user"] == [
        f"question {number}" for number in range(12)
    ]
    assert sum(item.get("type") == "function_call" for item in log) == 24
    assert await (await session.session()).summaries()
    window = await session.get_items()
    check_items(window)
    unchanged = [item for item in window if item in log]
    assert len(unchanged) >= 5
    assert unchanged == [item for item in log if item in unchanged]


async def test_a_call_that_waits_for_approval_is_shown_alone_and_completed_later(make_session: MakeSession) -> None:
    session: Any = make_session()
    waiting = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"}
    await session.add_items([{"role": "user", "content": "q"}, waiting])
    assert (await session.get_items())[-1] == waiting
    output = {"type": "function_call_output", "call_id": "c1", "output": "yes"}
    await session.add_items([output])
    assert (await session.get_items())[1:] == [waiting, output]


async def test_messages_of_other_apis_are_items_too(tmp_path: Path) -> None:
    async with Engine(tmp_path / "a.db", llm=lambda messages: "native answer") as engine:
        native = await MnesisSession.create(model="openai/gpt-4o", session_id="s", engine=engine)
        await native.send("native question")
        session: Any = MnesisAgentSession("s", engine=engine)
        await session.add_items([{"role": "user", "content": "from an agent"}])
        assert await session.get_items() == [
            {"role": "user", "content": "native question"},
            {"role": "assistant", "content": "native answer"},
            {"role": "user", "content": "from an agent"},
        ]
        assert [message.text_content() for message in await native.messages()][-1] == "from an agent"


async def test_recall_tools_find_what_was_summarised(make_session: MakeSession) -> None:
    session: Any = make_session()
    await session.add_items([{"role": "user", "content": "the port is 5433"}])
    tools = {tool.name: tool for tool in await session.recall_tools()}
    found = await tools["lcm_grep"].on_invoke_tool(None, json.dumps({"pattern": "port"}))  # type: ignore[arg-type]
    assert "5433" in str(found)
    assert str(await tools["lcm_grep"].on_invoke_tool(None, "{}")).startswith("Error")  # type: ignore[arg-type]


async def test_concurrent_writers_lose_nothing(make_session: MakeSession) -> None:
    one, other = make_session(), make_session()
    await asyncio.gather(*[
        session.add_items([{"role": "user", "content": f"{name} {number}"}])
        for number in range(20)
        for name, session in (("one", one), ("other", other))
    ])  # fmt: skip
    assert len(await one.get_all_items()) == 40


@pytest.mark.parametrize("item", ["text", None, {"role": "user", "content": {1, 2}}])
async def test_what_is_not_an_item_is_refused_and_nothing_stored(item: Any, make_session: MakeSession) -> None:
    session: Any = make_session()
    with pytest.raises(InvalidMessageError):
        await session.add_items([{"role": "user", "content": "good"}, item])
    assert await session.get_all_items() == []


def test_a_session_id_is_checked_without_opening_anything(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        MnesisAgentSession("", db_path=tmp_path / "a.db")
    assert MnesisAgentSession(7, db_path=tmp_path / "a.db").session_id == "7"
    assert not (tmp_path / "a.db").exists()


async def test_an_input_callback_and_run_settings_apply(make_session: MakeSession) -> None:
    model = ScriptedModel(lambda items: [text("ok")])
    session: Any = make_session()
    await session.add_items([{"role": "user", "content": "old"}])
    config = RunConfig(
        session_input_callback=lambda history, new: [*history, *new], session_settings=SessionSettings(limit=1)
    )
    await Runner.run(Agent("a", model=model), "new", session=session, run_config=config)
    assert [item["content"] for item in model.asked[0]] == ["old", "new"]
