"""What the middleware makes of failed, nested and unusual agent calls."""

from __future__ import annotations

import asyncio
import itertools
import uuid
import warnings
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain.agents")
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGenerationChunk
from langgraph.checkpoint.memory import InMemorySaver

from langchain_mnesis import MnesisMiddleware
from mnesis import Engine, MnesisConfig, ModelOverrides, concurrency, sync
from mnesis.config import CompactionConfig
from mnesis.errors import ConfigurationError, StoreFullError
from mnesis.store.sqlite import SqliteStore
from tests.support.langchain_agents import SMALL, THREAD, agent, ask, call, long_answers, search
from tests.support.langchain_fakes import FakeModel, ReadLog, scripted_model, texts_of


def test_what_the_provider_reports_counts_for_the_trigger(engine: Engine) -> None:
    usage = {"input_tokens": 800, "output_tokens": 100, "total_tokens": 900}
    model = FakeModel(messages=(AIMessage("word " * 60, usage_metadata=usage) for _ in range(99)))
    large = MnesisConfig(model_overrides=ModelOverrides(context_limit=200_000))
    asked = agent(model, engine, trigger=("tokens", 3_000), keep=("messages", 2), config=large)
    for number in range(8):
        ask(asked, f"question {number} " + "word " * 60)
    assert model.asked[-1][0].additional_kwargs == {"lc_source": "summarization"}


def test_tool_definitions_and_the_system_prompt_take_their_room(engine: Engine) -> None:
    def plain() -> str:
        """Do."""
        return ""

    def wordy() -> str:
        return ""

    wordy.__doc__ = "word " * 700
    recorded = SMALL.model_copy(update={"compaction": CompactionConfig(compaction_output_budget=1_000, auto=False)})
    asked: dict[str, int] = {}
    for name, tool, prompt in (("plain", plain, "brief"), ("tool", wordy, "brief"), ("prompt", plain, "word " * 700)):
        model = FakeModel(messages=long_answers())
        mine = MnesisMiddleware(engine=engine, config=recorded, session_id=name, recall_tools=False)
        made = create_agent(model, [tool], system_prompt=prompt, middleware=[mine], checkpointer=InMemorySaver())
        for number in range(14):
            ask(made, f"question {number} " + "word " * 100)
        asked[name] = sum(len(text) for message in model.asked[-1][1:] for text in [str(message.text)])
    assert asked["tool"] < asked["plain"] * 0.8
    assert asked["prompt"] < asked["plain"] * 0.8


def test_messages_added_by_other_middleware_are_sent_and_not_logged(engine: Engine, log: ReadLog) -> None:
    class Notes(AgentMiddleware[Any, Any, Any]):
        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            notes = [HumanMessage("first note"), *request.messages, HumanMessage("last note")]
            return handler(request.override(messages=notes))

    model = FakeModel()
    asked = agent(model, engine, Notes())
    ask(asked, "one")
    ask(asked, "two")
    assert texts_of(model.asked[-1]) == ["first note", "one", "answer 1", "two", "last note"]
    assert len(log("t")) == 4


def test_additions_and_removals_of_other_middleware_keep_their_places(engine: Engine, log: ReadLog) -> None:
    class Reminder(AgentMiddleware[Any, Any, Any]):
        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            kept = [m for m in request.messages if "secret" not in str(m.text)]
            return handler(request.override(messages=[*kept[:1], HumanMessage("reminder"), *kept[1:]]))

    model = FakeModel()
    asked = agent(model, engine, Reminder())
    for text in ("one", "secret", "three"):
        ask(asked, text)
    assert texts_of(model.asked[-1]) == ["one", "reminder", "answer 1", "answer 2", "three"]
    assert [text for _, text in log("t")] == ["one", "answer 1", "secret", "answer 2", "three", "answer 3"]


def test_a_failed_model_call_leaves_a_note(engine: Engine) -> None:
    asked = agent(scripted_model("fine", ValueError("cut off"), "again"), engine)
    ask(asked, "one")
    with pytest.raises(ValueError, match="cut off"):
        ask(asked, "two")
    (note,) = sync.SyncSession.load("t", engine=engine).interruptions()
    assert (note.after_seq, note.kind, note.error) == (3, "failed", "cut off")


def stream(asked: Any, value: Any) -> None:
    for _ in asked.stream(value, THREAD, stream_mode="messages"):
        pass


def stream_async(asked: Any, value: Any) -> None:
    async def consume() -> None:
        async for _ in asked.astream(value, THREAD, stream_mode="messages"):
            pass

    asyncio.run(consume())


@pytest.mark.parametrize("streams", [stream, stream_async])
def test_a_stream_that_breaks_leaves_a_note_with_its_beginning(streams: Any, engine: Engine) -> None:
    class BreakingModel(FakeModel):
        def _stream(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
            for piece in ("one ", "two ", "three"):
                chunk = ChatGenerationChunk(message=AIMessageChunk(piece))
                if run_manager:
                    run_manager.on_llm_new_token(piece, chunk=chunk)
                yield chunk
                if piece == "two ":
                    raise ConnectionError("the stream broke")

    asked = agent(BreakingModel(), engine)
    with pytest.raises(ConnectionError):
        streams(asked, {"messages": [("user", "count")]})
    (note,) = sync.SyncSession.load("t", engine=engine).interruptions()
    assert (note.after_seq, note.partial_text, note.error) == (1, "one two ", "the stream broke")


@pytest.mark.parametrize("thread_id", [7, uuid.UUID(int=7)])
def test_a_thread_id_may_be_an_integer_or_a_uuid(thread_id: Any, engine: Engine, log: ReadLog) -> None:
    ask(agent(FakeModel(), engine), "one", {"configurable": {"thread_id": thread_id}})
    assert log(str(thread_id)) == [("user", "one"), ("assistant", "answer 1")]


def test_a_long_system_prompt_does_not_trigger_compactions(engine: Engine) -> None:
    model = FakeModel(messages=long_answers())
    middleware = MnesisMiddleware(engine=engine, trigger=("tokens", 1_500), keep=("messages", 4), recall_tools=False)
    asked = create_agent(
        model, [], system_prompt="be kind " * 3_000, middleware=[middleware], checkpointer=InMemorySaver()
    )
    for number in range(30):
        ask(asked, f"question {number} " + "word " * 20)
    requests = [texts_of(messages) for messages in model.asked]
    breaks = sum(later[: len(earlier)] != earlier for earlier, later in itertools.pairwise(requests))
    assert 1 <= breaks <= 5


def test_a_sub_agent_has_a_session_of_its_own_below_the_outer_one(engine: Engine) -> None:
    inner = create_agent(FakeModel(), [], middleware=[MnesisMiddleware(engine=engine)])

    def delegate(q: str) -> str:
        """Ask somebody else."""
        return str(inner.invoke({"messages": [("user", q)]})["messages"][-1].content)

    ask(
        agent(
            scripted_model(call("delegate", "c1", q="a"), call("delegate", "c2", q="b"), "done"),
            engine,
            tools=[delegate],
        ),
        "x",
    )
    found = {record.id: record for record in concurrency.run(engine.sessions()).sessions}
    below = [record for name, record in found.items() if name.startswith("t|tools:")]
    assert [record.last_seq for record in below] == [2, 2]
    assert {record.parent_id for record in below} == {"t"}
    assert found["t"].last_seq == 6


def test_without_a_thread_each_run_has_a_session_of_its_own(engine: Engine) -> None:
    model = scripted_model(call("search", "c1", q="a"), "done", "other")
    asked = create_agent(model, [search], middleware=[MnesisMiddleware(engine=engine)])
    ask(asked, "one", None)
    ask(asked, "two", None)
    assert texts_of(model.asked[-1]) == ["two"]
    assert sorted(record.last_seq for record in concurrency.run(engine.sessions()).sessions) == [2, 4]


def test_a_session_may_be_named(engine: Engine, log: ReadLog) -> None:
    ask(agent(FakeModel(), engine, session_id="fixed"), "one")
    ask(agent(FakeModel(), engine, session_id=lambda request: f"n{len(request.messages)}"), "two")
    assert log("fixed")[0] == ("user", "one")
    assert log("n1")[0] == ("user", "two")
    with pytest.raises(ConfigurationError):
        ask(agent(FakeModel(), engine, session_id=lambda request: ""), "three")


def test_the_model_can_read_again_what_a_summary_stands_for(engine: Engine) -> None:
    model = FakeModel(messages=long_answers())
    asked = agent(model, engine, trigger=("messages", 10), keep=("messages", 4))
    ask(asked, "the code is 4711 " + "word " * 30)
    for number in range(8):
        ask(asked, f"question {number} " + "word " * 30)
    summary = sync.SyncSession.load("t", engine=engine).summaries()[0]
    calls = [
        call("lcm_expand", "e1", id=summary.id),
        call("lcm_grep", "e2", pattern="code is [0-9]+"),
        call("lcm_describe", "e3", id=summary.id),
        call("lcm_expand", "e4", id="no such"),
        call("lcm_expand", "e5", summary=summary.id),
    ]
    model.messages = iter([*calls, AIMessage("ok")])
    read, found, described, wrong, invalid = [m for m in ask(asked, "what was the code?") if isinstance(m, ToolMessage)]
    assert "the code is 4711" in str(read.content)
    assert "4711" in str(found.content)
    assert summary.id in str(described.content)
    assert (wrong.status, "no such" in str(wrong.content)) == ("error", True)
    assert (invalid.status, "id is required" in str(invalid.content)) == ("error", True)


async def test_the_recall_tool_works_in_async_agents_and_can_be_left_out(engine: Engine) -> None:
    asked = agent(scripted_model(call("lcm_expand", "e1", id="t"), "ok"), engine, session_id="t")
    found = await asked.ainvoke({"messages": [("user", "hi")]}, THREAD)
    assert isinstance(found["messages"][2], ToolMessage)
    assert MnesisMiddleware(engine=engine, recall_tools=False).tools == []


def test_an_overflow_is_answered_by_one_more_call_with_less(engine: Engine) -> None:
    class ContextOverflowError(Exception):
        """What LangChain's integrations raise."""

    model = FakeModel(messages=long_answers())
    asked = agent(model, engine)
    for number in range(12):
        ask(asked, f"question {number} " + "word " * 30)
    model.messages = iter([ContextOverflowError("too long"), AIMessage("made it")])
    assert ask(asked, "one more")[-1].content == "made it"
    assert len(model.asked[-1]) < len(model.asked[-2])
    model.messages = iter([ContextOverflowError("too long"), ContextOverflowError("still too long")])
    with pytest.raises(ContextOverflowError, match="still"):
        ask(asked, "and more")


def test_other_failures_of_the_model_go_through_and_the_question_stays(engine: Engine, log: ReadLog) -> None:
    with pytest.raises(ValueError, match="boom"):
        ask(agent(scripted_model(ValueError("boom")), engine), "one")
    assert log("t") == [("user", "one")]


def test_summaries_use_the_given_model_and_stay_out_of_the_stream(engine: Engine) -> None:
    model, writer = FakeModel(messages=long_answers()), scripted_model(*["They talked at length about words."] * 50)
    asked = agent(model, engine, writer=writer, trigger=("messages", 8), keep=("messages", 4))
    streamed: list[str] = []
    for number in range(12):
        question = {"messages": [("user", f"question {number} " + "word " * 60)]}
        for piece, _ in asked.stream(question, THREAD, stream_mode="messages"):
            streamed.append(str(piece.text))
    assert writer.asked
    assert "They talked at length" in texts_of(model.asked[-1])[0]
    assert "They talked" not in "".join(streamed)


def test_what_the_store_refuses_is_raised(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*args: Any, **kwargs: Any) -> None:
        raise StoreFullError("no space left", db_path="here")

    asked = agent(FakeModel(), engine)
    ask(asked, "one")
    monkeypatch.setattr(SqliteStore, "append", full)
    with pytest.raises(StoreFullError):
        ask(asked, "two")


@pytest.mark.parametrize(
    "options",
    [
        {"trigger": ("words", 5)},
        {"trigger": ("tokens", 0)},
        {"trigger": ("fraction", 1.5)},
        {"trigger": {}},
        {"trigger": 5},
        {"keep": ("messages", -1)},
        {"keep": {"messages": 3}},
        {"state": "burn"},
        {"session_id": ""},
    ],
)
def test_settings_that_cannot_work_are_refused(options: Any, engine: Engine) -> None:
    with pytest.raises(ConfigurationError):
        MnesisMiddleware(engine=engine, **options)


def test_nothing_is_opened_before_the_first_call(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        create_agent(FakeModel(), [], middleware=[MnesisMiddleware(db_path=tmp_path / "no" / "x.db")])
    assert list(tmp_path.iterdir()) == []
