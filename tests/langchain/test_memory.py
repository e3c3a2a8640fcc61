from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import RunnableGenerator, RunnableLambda

from langchain_mnesis import MnesisMemory
from langchain_mnesis.sessions import Sessions
from mnesis import Engine, concurrency, sync
from mnesis.errors import ConfigurationError, InvalidMessageError, StoreFullError
from mnesis.models.session import Interruption
from mnesis.store.sqlite import SqliteStore
from tests.support.langchain_fakes import (
    RUNNABLE_CALLS,
    FakeModel,
    ReadLog,
    run_astream,
    scripted_model,
    session_config,
    texts_of,
)

CALL = {"name": "search", "args": {"q": "x"}, "id": "c1", "type": "tool_call"}


def interruptions(engine: Engine, session_id: str = "s") -> list[Interruption]:
    return sync.SyncSession.load(session_id, engine=engine).interruptions()


CALLS = {**RUNNABLE_CALLS, "transform": lambda chain, value: list(chain.transform(iter([value]), session_config("s")))}


@pytest.mark.parametrize("call", CALLS)
def test_every_way_of_calling_keeps_both_sides_and_shows_what_came_before(
    call: str, engine: Engine, log: ReadLog
) -> None:
    model = FakeModel()
    memory = MnesisMemory(model, engine=engine)
    for number in (1, 2, 3):
        CALLS[call](memory, f"question {number}")
    expected = [text for n in (1, 2, 3) for text in (f"question {n}", f"answer {n}")]
    assert texts_of(model.asked[-1]) == expected[:-1]
    assert [text for _, text in log("s")] == expected


@pytest.mark.parametrize("call", CALLS)
def test_it_composes(call: str, engine: Engine, log: ReadLog) -> None:
    chain = RunnableLambda(str.upper) | MnesisMemory(FakeModel(), engine=engine) | StrOutputParser()
    CALLS[call](chain, "hi")
    assert log("s") == [("user", "HI"), ("assistant", "answer 1")]


@pytest.mark.parametrize(
    "value",
    ["hi", HumanMessage("hi"), [HumanMessage("hi")], [("user", "hi")], {"q": "hi"}, {"messages": ["hi"], "more": 1}],
)
def test_every_form_of_input_is_understood(value: Any, engine: Engine, log: ReadLog) -> None:
    seen: list[Any] = []

    def answer(given: Any) -> str:
        seen.append(given)
        return "yes"

    MnesisMemory(RunnableLambda(answer), engine=engine).invoke(value, session_config("s"))
    assert log("s") == [("user", "hi"), ("assistant", "yes")]
    assert type(seen[0]) is (dict if isinstance(value, dict) else list)


def test_history_under_a_key_of_its_own(engine: Engine, log: ReadLog) -> None:
    prompt = ChatPromptTemplate.from_messages([("system", "be brief"), MessagesPlaceholder("past"), ("human", "{q}")])
    model = FakeModel()
    memory = MnesisMemory(prompt | model, engine=engine, input_messages_key="q", history_messages_key="past")
    memory.invoke({"q": "one"}, session_config("s"))
    memory.invoke({"q": "two"}, session_config("s"))
    assert texts_of(model.asked[-1]) == ["be brief", "one", "answer 1", "two"]
    assert [text for _, text in log("s")] == ["one", "answer 1", "two", "answer 2"]


def test_tool_messages_on_the_way_are_kept(engine: Engine) -> None:
    steps = [AIMessage("", tool_calls=[CALL]), ToolMessage("found", tool_call_id="c1"), AIMessage("done")]
    agents: list[Any] = [
        lambda messages: steps,
        lambda messages: {"messages": [*messages, *steps]},
        lambda messages: {"output": steps, "steps": 3},
    ]
    for number, agent in enumerate(agents):
        memory = MnesisMemory(RunnableLambda(agent), engine=engine, session_id=f"s{number}")
        memory.invoke("go")
        session = sync.SyncSession.load(f"s{number}", engine=engine)
        assert [m.role for m in session.messages()] == ["user", "assistant", "tool", "assistant"]


def test_structured_answers_are_kept_as_text(engine: Engine, log: ReadLog) -> None:
    MnesisMemory(RunnableLambda(lambda _: {"city": "Oslo", "degrees": 3}), engine=engine).invoke(
        "hi", session_config("s")
    )
    assert log("s")[1] == ("assistant", '{"city": "Oslo", "degrees": 3}')


def test_messages_given_again_are_not_stored_again(engine: Engine, log: ReadLog) -> None:
    memory = MnesisMemory(FakeModel(), engine=engine)
    first = HumanMessage("one", id="1")
    memory.invoke([first], session_config("s"))
    memory.invoke([first, HumanMessage("two", id="2")], session_config("s"))
    assert [text for _, text in log("s")] == ["one", "answer 1", "two", "answer 2"]


def test_a_batch_on_one_session_loses_nothing(engine: Engine, log: ReadLog) -> None:
    model = FakeModel()
    MnesisMemory(model, engine=engine).batch([f"q{number}" for number in range(8)], session_config("s"))
    texts = [text for _, text in log("s")]
    assert sorted(texts) == sorted([f"q{n}" for n in range(8)] + [f"answer {n}" for n in range(1, 9)])
    assert all(texts_of(asked)[-1].startswith("q") for asked in model.asked)


def test_a_turn_is_not_shown_what_another_call_asked_after_it(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Sessions.window

    async def with_another_turn(self: Sessions, session_id: str, **options: Any) -> Any:
        await self.add(session_id, [HumanMessage("meanwhile")])
        return await read(self, session_id, **options)

    monkeypatch.setattr(Sessions, "window", with_another_turn)
    model = FakeModel()
    MnesisMemory(model, engine=engine).invoke("mine", session_config("s"))
    assert texts_of(model.asked[0]) == ["mine"]


def test_a_call_that_fails_leaves_the_question_and_a_note(engine: Engine, log: ReadLog) -> None:
    memory = MnesisMemory(scripted_model(ValueError("boom"), "better"), engine=engine)
    with pytest.raises(ValueError, match="boom"):
        memory.invoke("one", session_config("s"))
    assert log("s") == [("user", "one")]
    [note] = interruptions(engine)
    assert (note.kind, note.error_type, note.error, note.after_seq) == ("failed", "ValueError", "boom", 1)
    memory.invoke("two", session_config("s"))
    assert [text for _, text in log("s")] == ["one", "two", "better"]


def test_a_stream_that_breaks_leaves_its_partial_answer(engine: Engine, log: ReadLog) -> None:
    def broken(messages: Iterator[Any]) -> Iterator[str]:
        yield from ("half ", "an ")
        raise ConnectionError("gone")

    stream = MnesisMemory(RunnableGenerator(broken), engine=engine).stream("one", session_config("s"))
    with pytest.raises(ConnectionError):
        list(stream)
    [note] = interruptions(engine)
    assert (note.kind, note.partial_text) == ("failed", "half an ")
    assert log("s") == [("user", "one")]


def test_a_stream_closed_early_leaves_its_partial_answer(engine: Engine, log: ReadLog) -> None:
    stream = MnesisMemory(scripted_model("one two three"), engine=engine).stream("question", session_config("s"))
    assert next(stream).content == "one"
    stream.close()  # type: ignore[attr-defined]  # a generator
    [note] = interruptions(engine)
    assert (note.kind, note.partial_text) == ("cancelled", "one")
    assert log("s") == [("user", "question")]


async def test_an_async_stream_closed_early_leaves_its_partial_answer(engine: Engine) -> None:
    stream = MnesisMemory(scripted_model("one two three"), engine=engine).astream("question", session_config("s"))
    assert (await anext(stream)).content == "one"
    await stream.aclose()  # type: ignore[attr-defined]  # a generator
    notes: list[Interruption] = []
    while not notes:  # LangChain closes the inner generators in tasks of their own
        notes = await asyncio.to_thread(interruptions, engine)
    [note] = notes
    assert (note.kind, note.partial_text) == ("cancelled", "one")


async def test_a_cancelled_call_leaves_the_question_and_a_note(engine: Engine) -> None:
    asked = asyncio.Event()

    async def hang(messages: AsyncIterator[Any]) -> AsyncIterator[str]:
        yield "so far"
        asked.set()
        await asyncio.Event().wait()

    memory = MnesisMemory(RunnableGenerator(hang), engine=engine)
    for call in (memory.ainvoke("one", session_config("s")), run_astream(memory, "two")):
        task = asyncio.create_task(call)  # type: ignore[arg-type]  # both are coroutines
        await asked.wait()
        asked.clear()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    notes = await asyncio.to_thread(interruptions, engine)
    assert [(note.kind, note.partial_text) for note in notes] == [("cancelled", ""), ("cancelled", "so far")]


def test_what_the_store_refuses_is_raised(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    model = FakeModel()
    memory = MnesisMemory(model, engine=engine)
    memory.invoke("one", session_config("s"))

    async def full(*args: Any, **kwargs: Any) -> None:
        raise StoreFullError("no space left", db_path="here")

    monkeypatch.setattr(SqliteStore, "append", full)
    with pytest.raises(StoreFullError):
        memory.invoke("two", session_config("s"))
    assert len(model.asked) == 1


def test_the_session_is_named_by_the_config(engine: Engine, log: ReadLog) -> None:
    memory = MnesisMemory(FakeModel(), engine=engine)
    memory.invoke("a", {"configurable": {"thread_id": "t"}})
    memory.with_config(session_config("s")).invoke("b")
    MnesisMemory(FakeModel(), engine=engine, session_key=("user", "chat")).invoke(
        "c", {"configurable": {"user": "u", "chat": "c"}}
    )
    MnesisMemory(FakeModel(), engine=engine, session_id="fixed").invoke("d")
    assert [log(name)[0][1] for name in ("t", "s", "u/c", "fixed")] == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    "config", [None, {"configurable": {}}, {"configurable": {"session_id": ""}}, session_config(7.5)]
)  # type: ignore[arg-type]  # what is tested
def test_a_call_without_a_session_is_refused(config: Any, engine: Engine) -> None:
    with pytest.raises(ConfigurationError):
        MnesisMemory(FakeModel(), engine=engine).invoke("a", config)


@pytest.mark.parametrize("value", [7, b"x", {"a": "x", "b": "y"}])
def test_an_input_without_messages_is_refused_before_anything_is_stored(value: Any, engine: Engine) -> None:
    with pytest.raises(InvalidMessageError):
        MnesisMemory(FakeModel(), engine=engine).invoke(value, session_config("s"))
    assert concurrency.run(engine.sessions()).sessions == ()


def test_its_run_is_traced_with_the_runs_inside_it(engine: Engine) -> None:
    async def kinds() -> list[tuple[str, int]]:
        chain = MnesisMemory(FakeModel(), engine=engine)
        return [(e["event"], len(e["parent_ids"])) async for e in chain.astream_events("hi", session_config("s"))]

    events = asyncio.run(kinds())
    assert events[0] == ("on_chain_start", 0)
    assert ("on_chat_model_start", 1) in events
    assert events[-1] == ("on_chain_end", 0)


def test_an_agent_with_memory_keeps_its_tool_rounds(engine: Engine) -> None:
    agents = pytest.importorskip("langchain.agents")

    def search(q: str) -> str:
        """Search."""
        return f"found {q}"

    model = scripted_model(
        AIMessage("", tool_calls=[CALL]), "done", AIMessage("", tool_calls=[{**CALL, "id": "c2"}]), "again"
    )
    memory = MnesisMemory(agents.create_agent(model, [search]), engine=engine, session_id="s")
    memory.invoke({"messages": [("user", "go")]})
    assert len(list(memory.stream({"messages": [("user", "once more")]}))) == 3
    roles = [m.role for m in sync.SyncSession.load("s", engine=engine).messages()]
    assert roles == ["user", "assistant", "tool", "assistant"] * 2
    assert texts_of(model.asked[-1])[:5] == ["go", "", "found x", "done", "once more"]


@pytest.mark.parametrize("mode", ["updates", "values", ["updates", "values"]])
def test_whatever_an_agent_streams_its_messages_are_kept_once(engine: Engine, mode: Any) -> None:
    agents = pytest.importorskip("langchain.agents")

    def search(q: str) -> str:
        """Search."""
        return f"found {q}"

    model = scripted_model(AIMessage("let me see", tool_calls=[CALL]), "done and done")
    memory = MnesisMemory(agents.create_agent(model, [search]), engine=engine, session_id="s")
    assert list(memory.stream({"messages": [("user", "go")]}, stream_mode=mode))
    kept = sync.SyncSession.load("s", engine=engine).messages()
    texts = [m.text_content() or m.tool_results[0].output for m in kept]
    assert texts == ["go", "let me see", "found x", "done and done"]


def test_pieces_of_several_messages_with_metadata_become_these_messages(engine: Engine, log: ReadLog) -> None:
    pieces = [
        AIMessageChunk("let ", id="a"),
        AIMessageChunk("me see", id="a"),
        ToolMessage("found", tool_call_id="c1", id="t"),
        AIMessageChunk("do", id="b"),
        AIMessageChunk("ne", id="b"),
    ]

    def stream(messages: Iterator[Any]) -> Iterator[Any]:
        yield from ((piece, {"langgraph_node": "model"}) for piece in pieces)
        yield ("messages", (AIMessageChunk(" and done", id="b"), {}))
        yield ("updates", {"tools": {"messages": [ToolMessage("found", tool_call_id="c1", id="t")]}})

    assert len(list(MnesisMemory(RunnableGenerator(stream), engine=engine).stream("go", session_config("s")))) == 7
    assert log("s") == [
        ("user", "go"),
        ("assistant", "let me see"),
        ("tool", "found"),
        ("assistant", "done and done"),
    ]


def test_a_system_message_of_the_user_is_kept(engine: Engine, log: ReadLog) -> None:
    model = FakeModel()
    given: list[BaseMessage] = [SystemMessage("rules"), HumanMessage("hi")]
    MnesisMemory(model, engine=engine).invoke(given, session_config("s"))
    assert model.asked[0] == given
    assert log("s")[0] == ("system", "rules")
