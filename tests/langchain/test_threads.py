"""The sessions of threads, of runs without a thread, and of the agents below them."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

pytest.importorskip("langchain.agents")

from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver

from langchain_mnesis import MnesisChatMessageHistory, MnesisMemory, MnesisMiddleware, history_factory
from mnesis import Engine, concurrency
from mnesis.errors import ConfigurationError
from tests.support.langchain_fakes import FakeModel, ReadLog, scripted_model


def call(tool: str, call_id: str, /, **arguments: Any) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": tool, "args": arguments, "id": call_id, "type": "tool_call"}])


def test_a_sub_agent_of_a_run_without_a_thread_has_that_run_as_parent(engine: Engine) -> None:
    inner = create_agent(FakeModel(), [], middleware=[MnesisMiddleware(engine=engine)])

    def delegate(q: str) -> str:
        """Ask somebody else."""
        return str(inner.invoke({"messages": [("user", q)]})["messages"][-1].content)

    script = scripted_model(call("delegate", "c1", q="a"), "done", "next run")
    outer = create_agent(script, [delegate], middleware=[MnesisMiddleware(engine=engine)])
    outer.invoke({"messages": [("user", "x")]})
    outer.invoke({"messages": [("user", "y")]})
    found = concurrency.run(engine.sessions()).sessions
    child = next(record for record in found if record.parent_id is not None)
    parent = next(record for record in found if record.id == child.parent_id)
    assert (child.last_seq, parent.last_seq) == (2, 4)
    assert [record.parent_id for record in found].count(None) == 2


async def test_an_async_sub_agent_of_a_named_session_is_below_it(engine: Engine) -> None:
    inner = create_agent(FakeModel(), [], middleware=[MnesisMiddleware(engine=engine)])

    async def delegate(q: str) -> str:
        """Ask somebody else."""
        return str((await inner.ainvoke({"messages": [("user", q)]}))["messages"][-1].content)

    script = scripted_model(call("delegate", "c1", q="a"), "done")
    outer = create_agent(script, [delegate], middleware=[MnesisMiddleware(engine=engine, session_id="named")])
    await outer.ainvoke({"messages": [("user", "x")]})
    found = {record.id: record.parent_id for record in (await engine.sessions()).sessions}
    assert sorted(found.values(), key=str) == [None, "named"]


@pytest.mark.parametrize("thread_id", [7, uuid.UUID(int=7), 0])
def test_integers_and_uuids_name_threads_histories_and_memories(thread_id: Any, engine: Engine, log: ReadLog) -> None:
    config = {"configurable": {"thread_id": thread_id}}
    agent = create_agent(FakeModel(), [], middleware=[MnesisMiddleware(engine=engine)], checkpointer=InMemorySaver())
    agent.invoke({"messages": [("user", "agent")]}, config)
    MnesisMemory(FakeModel(), engine=engine).invoke("memory", config)
    history = MnesisChatMessageHistory(thread_id, engine=engine)
    history.add_user_message("history")
    factory = history_factory(engine=engine, keys=("thread_id",))
    factory(thread_id).add_user_message("factory")
    assert [text for role, text in log(str(thread_id)) if role == "user"] == ["agent", "memory", "history", "factory"]


@pytest.mark.parametrize("session_id", [True, 1.5, None, "", b"x"])
def test_other_session_ids_are_refused_with_the_types_that_work(session_id: Any, engine: Engine) -> None:
    with pytest.raises(ConfigurationError, match="a non-empty string, an integer or a UUID"):
        MnesisChatMessageHistory(session_id, engine=engine)
