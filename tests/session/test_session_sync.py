"""The same session without `await`: from any thread, inside a running loop, never waiting for itself."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mnesis import Engine, MnesisError, MnesisEvent, MnesisSession, SessionClosedError, SessionNotFoundError
from mnesis.sync import SyncSession
from mnesis.testing import ScriptedLLM
from tests.session.support import MODEL, calls, chatter, small
from tests.support.summaries import acceptable_summary


def public(cls: type) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("_")}


def test_it_has_every_method_and_property_of_the_asynchronous_session() -> None:
    assert public(SyncSession) == public(MnesisSession)
    for name in public(MnesisSession):
        ours, theirs = inspect.getattr_static(SyncSession, name), inspect.getattr_static(MnesisSession, name)
        assert isinstance(ours, property) == isinstance(theirs, property), name


@pytest.mark.parametrize("name", sorted(public(MnesisSession)))
def test_a_method_takes_the_same_arguments(name: str) -> None:
    if isinstance(inspect.getattr_static(MnesisSession, name), property):
        return
    ours, theirs = (inspect.signature(getattr(cls, name)).parameters for cls in (SyncSession, MnesisSession))
    assert [(p.name, p.kind, p.default) for p in ours.values()] == [
        (p.name, p.kind, p.default) for p in theirs.values()
    ]
    assert [p.annotation for p in ours.values()] == [p.annotation for p in theirs.values()]


def test_a_whole_conversation_from_a_plain_thread(db: Path) -> None:
    with SyncSession.open(model=MODEL, db_path=db, config=small(), llm=ScriptedLLM("fine"), session_id="x") as session:
        assert session.send("hello").text == "fine"
        stored = session.record("a", "b")
        assert session.message(stored.user_message_id).text_content() == "a"
        events = list(session.stream("stream"))
        assert [event.type for event in events] == ["text_delta", "turn_complete"]
        for number in range(8):
            session.record(*chatter(number))
        heard: list[str] = []
        stop = session.subscribe(MnesisEvent.COMPACTION_COMPLETED, lambda e, p: heard.append(str(e)))
        assert session.compact().level_used == 3
        stop()
        assert heard == ["compaction.completed"]
        (summary,) = session.summaries()
        assert len(session.expand(summary.id).messages) == summary.message_count
        assert session.describe("x").kind == "session"
        assert len(session.messages()) == len(list(session.iter_messages(page=3))) == 22
        assert session.context_for_next_turn()[-1]["content"] == chatter(7)[1]
        assert len(session.history()) == 11
        assert session.interruptions() == []
        assert len(session.compactions()) == 1
        session.clear_context()
        assert session.context_for_next_turn() == []
        assert session.id in repr(session)
        assert session.window().messages == ()
    with pytest.raises(SessionClosedError):
        session.send("again")
    session.close()
    with SyncSession.load("x", db_path=db) as session:
        assert len(session.messages()) == 22
    with pytest.raises(SessionNotFoundError):
        SyncSession.load("nobody", db_path=db)


async def test_it_works_inside_a_running_loop_beside_the_asynchronous_session(db: Path) -> None:
    with SyncSession.open(model=MODEL, db_path=db, llm=ScriptedLLM("fine"), session_id="x") as session:
        assert session.send("from a notebook").text == "fine"
        async with await MnesisSession.load("x", db_path=db, llm=ScriptedLLM("async")) as other:
            heard: list[str] = []
            other.subscribe(MnesisEvent.MESSAGE_CREATED, lambda e, p: heard.append(p.role))
            session.record("a", "b")
            assert (await other.send("more")).text == "async"
            assert session.token_usage == other.token_usage
        assert len(session.messages()) == 6
        assert heard == ["user", "assistant", "user", "assistant"]


def test_many_threads_may_share_one_session(db: Path) -> None:
    failures: list[BaseException] = []
    with SyncSession.open(model=MODEL, db_path=db, llm=ScriptedLLM("fine")) as session:

        def work(thread: int) -> None:
            try:
                for number in range(10):
                    if number % 2:
                        session.record(f"{thread}.{number}", f"re {thread}.{number}")
                    else:
                        session.send(f"{thread}.{number}")
            except BaseException as error:  # shown below
                failures.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert failures == []
        stored = session.messages()
        assert "".join(message.role[0] for message in stored) == "ua" * 60
        for question, answer in zip(stored[::2], stored[1::2], strict=True):
            assert answer.text_content() in ("fine", f"re {question.text_content()}")
        for thread in range(6):
            mine = [m.text_content() for m in stored[::2] if m.text_content().startswith(f"{thread}.")]
            assert mine == [f"{thread}.{number}" for number in range(10)]


def test_many_threads_with_their_own_loops_share_one_database(db: Path) -> None:
    failures: list[BaseException] = []

    async def talk(name: str) -> None:
        async with MnesisSession.open(model=MODEL, db_path=db, session_id=name, llm=ScriptedLLM("fine")) as session:
            for number in range(10):
                await session.record(f"{number}", "ok")

    def work(n: int) -> None:
        try:
            asyncio.run(talk("shared" if n % 2 else f"own {n}"))
        except BaseException as error:  # shown below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    with SyncSession.load("shared", db_path=db) as session:
        assert "".join(message.role[0] for message in session.messages()) == "ua" * 30


def _calls(session: SyncSession) -> list[Callable[[], Any]]:
    return [
        lambda: session.send("x"),
        lambda: session.record("a", "b"),
        lambda: session.messages(),
        lambda: list(session.stream("x")),
        lambda: list(session.iter_messages()),
        lambda: session.close(),
    ]


def test_a_call_from_its_own_thread_raises_instead_of_waiting_for_itself(db: Path) -> None:
    outcomes: list[object] = []
    with SyncSession.open(model=MODEL, db_path=db, llm=ScriptedLLM("fine")) as session:

        def handler(event: MnesisEvent, payload: Any) -> None:
            for call in _calls(session):
                try:
                    outcomes.append(call())
                except MnesisError as error:
                    outcomes.append(error)

        stop = session.subscribe(MnesisEvent.SESSION_UPDATED, handler)
        session.record("a", "b")
        stop()
        assert len(outcomes) == 6
        assert all(isinstance(outcome, MnesisError) for outcome in outcomes)
        assert len(session.messages()) == 2


def test_a_tool_that_calls_its_own_synchronous_session_is_told_so(db: Path) -> None:
    model = ScriptedLLM([calls(("reenter", {})), "I see."])
    with SyncSession.open(model=MODEL, db_path=db, llm=model) as session:

        def reenter() -> str:
            return session.send("again").text

        assert session.send("go", tools=[reenter]).text == "I see."
        (result,) = [part for message in session.messages() for part in message.tool_results]
        assert result.is_error
        assert session.id in result.output


def test_a_synchronous_tool_may_read_its_session(db: Path) -> None:
    model = ScriptedLLM([calls(("count", {})), "I see."])
    with SyncSession.open(model=MODEL, db_path=db, llm=model) as session:
        session.send("go", tools=[ToolNamed("count", lambda: len(session.messages()))])
        (result,) = [part for message in session.messages() for part in message.tool_results]
        assert (result.output, result.is_error) == ("2", False)


class ToolNamed:
    """A tool without parameters."""

    description, parameters = "A tool.", {"type": "object", "properties": {}}

    def __init__(self, name: str, handler: Callable[[], Any]) -> None:
        self.name, self.handler = name, handler


def test_a_stream_left_early_is_still_stored(db: Path) -> None:
    with SyncSession.open(model=MODEL, db_path=db, llm=ScriptedLLM("one two three")) as session:
        for event in session.stream("go"):
            assert event.type == "text_delta"
            break
        with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the loop is what raises
            for _ in session.stream("again"):
                raise ZeroDivisionError
    with SyncSession.load(session.id, db_path=db) as session:
        assert [m.text_content() for m in session.messages()] == ["go", "one two three", "again", "one two three"]


def test_an_error_arrives_in_the_thread_that_called(db: Path) -> None:
    with SyncSession.open(model=MODEL, db_path=db, llm=ScriptedLLM(LookupErrorLike("down"))) as session:
        with pytest.raises(MnesisError, match="down"):
            session.send("hello")
        with pytest.raises(MnesisError, match="down"):
            list(session.stream("hello"))
        with pytest.raises(ValueError, match="nothing to send"):
            session.send("")
        assert "".join(message.role[0] for message in session.messages()) == "uu"


class LookupErrorLike(MnesisError):
    """What a model might raise."""


def test_an_engine_is_shared_with_the_synchronous_session(db: Path) -> None:
    engine = Engine(db, llm=ScriptedLLM("fine"))
    with SyncSession.open(model=MODEL, engine=engine) as session:
        assert session.engine is engine
        assert session.send("hello").text == "fine"
    assert not engine.closed
    asyncio.run(engine.close())


def test_a_background_compaction_goes_on_between_the_calls(db: Path) -> None:
    done = threading.Event()
    with SyncSession.open(model=MODEL, db_path=db, config=small(), llm=ScriptedLLM(acceptable_summary)) as session:
        session.subscribe(MnesisEvent.COMPACTION_COMPLETED, lambda e, p: done.set())
        number = 0
        while not session.record(*chatter(number)).compaction_triggered:
            number += 1
        assert done.wait(20)
        assert session.compactions()[0].trigger == "soft"
