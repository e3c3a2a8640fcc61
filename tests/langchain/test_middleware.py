"""None"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("langchain.agents")
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage, ToolMessage
from langchain_core.tools import tool as as_tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph.message import REMOVE_ALL_MESSAGES

from langchain_mnesis import MnesisMiddleware
from mnesis import Engine, sync
from tests.support.langchain_agents import SMALL, THREAD, agent, ask, call, long_answers, search
from tests.support.langchain_fakes import FakeModel, ReadLog, scripted_model, texts_of


def window_of(engine: Engine, session_id: str) -> list[str]:
    return [m.text_content() for m in sync.SyncSession.load(session_id, engine=engine).window().messages]


def test_every_message_of_an_agent_is_logged_once_tool_rounds_included(engine: Engine, log: ReadLog) -> None:
    model = scripted_model(call("search", "c1", q="a"), "done", "and again")
    asked = agent(model, engine, tools=[search])
    ask(asked, "one")
    ask(asked, "two")
    expected = [("user", "one"), ("assistant", ""), ("tool", "found a"), ("assistant", "done")]
    assert log("t") == [*expected, ("user", "two"), ("assistant", "and again")]
    assert texts_of(model.asked[-1]) == ["one", "", "found a", "done", "two"]


async def test_async_calls_and_streams_do_the_same(engine: Engine) -> None:
    model = scripted_model(call("search", "c1", q="a"), "done", "streamed")
    asked = agent(model, engine, tools=[search])
    await asked.ainvoke({"messages": [("user", "one")]}, THREAD)
    async for _ in asked.astream({"messages": [("user", "two")]}, THREAD, stream_mode="messages"):
        pass
    log = await asyncio.to_thread(window_of, engine, "t")
    assert log == ["one", "", "", "done", "two", "streamed"]


def test_sync_calls_work_inside_a_running_loop(engine: Engine, log: ReadLog) -> None:
    async def inside() -> None:
        ask(agent(FakeModel(), engine), "one")

    asyncio.run(inside())
    assert log("t") == [("user", "one"), ("assistant", "answer 1")]


def test_the_state_has_no_more_checkpoints_than_without_middleware(engine: Engine) -> None:
    def checkpoints(asked: Any) -> int:
        ask(asked, "one")
        return len(list(asked.get_state_history(THREAD)))

    plain = create_agent(FakeModel(), [], checkpointer=InMemorySaver())
    assert checkpoints(agent(FakeModel(), engine)) == checkpoints(plain)


@pytest.mark.parametrize(
    "trigger",
    [("messages", 12), ("tokens", 700), {"messages": 12, "tokens": 500}, [("tokens", 10**6), ("messages", 12)]],
)
def test_the_context_is_compacted_when_the_trigger_says_so(trigger: Any, engine: Engine, log: ReadLog) -> None:
    model = FakeModel(messages=long_answers())
    asked = agent(model, engine, trigger=trigger, keep=("messages", 4))
    for number in range(20):
        ask(asked, f"question {number} " + "word " * 20)
    assert max(len(messages) for messages in model.asked) <= 13
    assert model.asked[-1][0].additional_kwargs == {"lc_source": "summarization"}
    assert len(log("t")) == 40


def test_without_a_trigger_the_models_window_decides(engine: Engine) -> None:
    model = FakeModel(messages=long_answers())
    asked = agent(model, engine, config=SMALL)
    for number in range(40):
        ask(asked, f"question {number}")
    assert max(len(messages) for messages in model.asked) < 60


@pytest.mark.parametrize("kind", ["keep", "trim"])
def test_one_question_with_many_tool_rounds_always_fits(kind: Any, engine: Engine, log: ReadLog) -> None:
    def look(q: str) -> str:
        """Look."""
        return "seen " * 60

    model = scripted_model(*(call("look", f"c{n}", q=str(n)) for n in range(40)), "done")
    asked = agent(model, engine, tools=[look], trigger=("messages", 20), keep=("messages", 8), state=kind)
    state = asked.invoke({"messages": [("user", "the one question")]}, {**THREAD, "recursion_limit": 200})["messages"]
    assert len(log("t")) == 82
    assert len(state) == 82 if kind == "keep" else len(state) < 40
    for messages in [*model.asked, state]:
        assert len(messages) < 24 or messages is state
        assert any("the one question" in text for text in texts_of(messages))
        calls = [c["id"] for m in messages if isinstance(m, AIMessage) for c in m.tool_calls]
        results = [m.tool_call_id for m in messages if isinstance(m, ToolMessage)]
        assert calls == results


def test_trimming_keeps_the_state_small_and_the_log_whole(engine: Engine, log: ReadLog) -> None:
    model = FakeModel(messages=long_answers())
    asked = agent(model, engine, trigger=("messages", 12), keep=("messages", 6), state="trim")
    sizes = [len(ask(asked, f"question {number} " + "word " * 20)) for number in range(30)]
    assert max(sizes) <= 14
    assert len(log("t")) == 60
    assert "question 0" in window_of(engine, "t")[0]


def test_an_agent_in_a_new_process_goes_on_where_the_log_is(engine: Engine, log: ReadLog) -> None:
    saver = InMemorySaver()
    for number in range(3):
        model = FakeModel()
        asked = create_agent(model, [], middleware=[MnesisMiddleware(engine=engine)], checkpointer=saver)
        ask(asked, f"question {number}")
    assert len(log("t")) == 6
    assert len(model.asked[-1]) == 5


def test_a_session_begun_natively_is_what_the_agent_sees(engine: Engine) -> None:
    session = sync.SyncSession.create(model="openai/gpt-4o", session_id="t", system_prompt="native", engine=engine)
    session.record("earlier question", "earlier answer")
    model = FakeModel()
    ask(agent(model, engine), "one")
    assert texts_of(model.asked[-1]) == ["earlier question", "earlier answer", "one"]
    again = sync.SyncSession.load("t", engine=engine)
    assert (again.model, again.system_prompt) == ("openai/gpt-4o", "native")


def test_what_is_removed_from_the_state_leaves_the_view_not_the_log(engine: Engine, log: ReadLog) -> None:
    model = FakeModel()
    asked = agent(model, engine)
    ask(asked, "one")
    answer = ask(asked, "two")[1]
    asked.update_state(THREAD, {"messages": [RemoveMessage(id=answer.id)]})
    ask(asked, "three")
    assert texts_of(model.asked[-1]) == ["one", "two", "answer 2", "three"]
    asked.update_state(THREAD, {"messages": [RemoveMessage(id=REMOVE_ALL_MESSAGES), HumanMessage("anew")]})
    ask(asked, "four")
    assert texts_of(model.asked[-1]) == ["anew", "four"]
    assert len(log("t")) == 9


def test_a_message_edited_in_the_state_is_shown_as_edited(engine: Engine, log: ReadLog) -> None:
    model = FakeModel()
    asked = agent(model, engine)
    first = ask(asked, "one")[0]
    asked.update_state(THREAD, {"messages": [HumanMessage("better", id=first.id)]})
    ask(asked, "two")
    assert texts_of(model.asked[-1]) == ["better", "answer 1", "two"]
    assert ("user", "one") in log("t")


def test_an_edit_made_while_no_process_ran_is_shown_in_its_place(engine: Engine) -> None:
    model, checkpoints = FakeModel(), InMemorySaver()
    for place in range(3):
        asked = create_agent(model, middleware=[MnesisMiddleware(engine=engine)], checkpointer=checkpoints)
        if place == 2:
            first = asked.get_state(THREAD).values["messages"][0]
            asked.update_state(THREAD, {"messages": [HumanMessage("better", id=first.id)]})
        ask(asked, f"question {place}")
    assert texts_of(model.asked[-1]) == ["better", "answer 1", "question 1", "answer 2", "question 2"]


class Array:
    """Compares like an array: not as a whole."""

    def __eq__(self, other: object) -> Any:
        raise ValueError("ambiguous")

    def __repr__(self) -> str:
        return "Array"


@pytest.mark.parametrize("one_process", [True, False])
@pytest.mark.parametrize("artifact", [(1, (2,)), {"score": float("nan")}, Array()], ids=["tuple", "nan", "array"])
def test_an_artifact_that_a_checkpoint_changes_is_no_edit(
    artifact: Any, one_process: bool, engine: Engine, log: ReadLog
) -> None:
    @as_tool(response_format="content_and_artifact")
    def measure(q: str) -> tuple[str, Any]:
        """Measure."""
        return "measured", artifact

    model = scripted_model(call("measure", "c1", q="x"), "one", "two", "three")
    checkpoints = InMemorySaver(serde=JsonPlusSerializer(pickle_fallback=True))
    middleware = MnesisMiddleware(engine=engine)
    for text in ("a", "b", "c"):
        middleware = middleware if one_process else MnesisMiddleware(engine=engine)
        ask(create_agent(model, [measure], middleware=[middleware], checkpointer=checkpoints), text)
    assert [text for _, text in log("t")] == ["a", "", "measured", "one", "b", "two", "c", "three"]
    assert texts_of(model.asked[-1]) == ["a", "", "measured", "one", "b", "two", "c"]


def test_a_call_edited_before_its_tool_runs_keeps_its_result(engine: Engine) -> None:
    class Editor(AgentMiddleware[Any, Any, Any]):
        def after_model(self, state: Any, runtime: Any) -> Any:
            last = state["messages"][-1]
            edited = [{**each, "args": {"q": "edited"}} for each in last.tool_calls]
            return {"messages": [last.model_copy(update={"tool_calls": edited})]} if edited else None

    model = scripted_model(call("search", "c1", q="a"), "done")
    ask(agent(model, engine, Editor(), tools=[search]), "one")
    _, edited, result = model.asked[-1]
    assert (edited.tool_calls[0]["args"], result.content) == ({"q": "edited"}, "found edited")


def test_a_thread_rewound_to_an_earlier_point_is_shown_from_there(engine: Engine) -> None:
    model = FakeModel()
    asked = agent(model, engine)
    ask(asked, "one")
    before = asked.get_state(THREAD).config
    ask(asked, "two")
    later = asked.get_state(THREAD).config
    ask(asked, "another two", before)
    assert texts_of(model.asked[-1]) == ["one", "answer 1", "another two"]
    ask(asked, "three", later)
    assert texts_of(model.asked[-1]) == ["one", "answer 1", "two", "answer 2", "three"]


def test_several_threads_may_share_a_session_by_name(engine: Engine) -> None:
    model = FakeModel()
    asked = agent(model, engine, session_id="shared")
    for number in (1, 2):
        for thread in ("a", "b"):
            ask(asked, f"{thread}{number}", {"configurable": {"thread_id": thread}})
    assert texts_of(model.asked[-1])[::2] == ["a1", "b1", "a2", "b2"]
