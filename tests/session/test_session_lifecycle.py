"""Opening, loading, sharing, closing; several loops, a fork, a process that never says goodbye."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from mnesis import (
    ConfigurationError,
    Engine,
    MnesisConfig,
    MnesisError,
    MnesisEvent,
    MnesisSession,
    MnesisStoreError,
    SessionClosedError,
    SessionNotFoundError,
    StoreConfig,
)
from mnesis.testing import EventRecorder, ScriptedLLM
from tests.session.support import MODEL, roles, until


async def test_loading_an_unknown_session_creates_nothing(db: Path) -> None:
    with pytest.raises(SessionNotFoundError) as caught:
        await MnesisSession.load("nobody", db_path=db)
    assert (caught.value.session_id, caught.value.db_path) == ("nobody", str(db))
    assert "nobody" in str(caught.value)
    assert str(db) in str(caught.value)
    assert not db.exists()  # noqa: ASYNC240 - a test may look at its own files
    async with MnesisSession.open(model=MODEL, db_path=db):
        for odd in ("nobody", "", "../../etc/passwd", "a\0b", "\ud800", "'; DROP TABLE messages; --", None, 123):
            with pytest.raises(SessionNotFoundError):
                await MnesisSession.load(odd, db_path=db)  # type: ignore[arg-type]  # some are no strings on purpose


@pytest.mark.parametrize("name", ["alice", "a b/c", "'; DROP TABLE messages; --", "名前", "a\0b", "x" * 1_000, "%_*?"])
async def test_any_non_empty_string_names_a_session(name: str, db: Path) -> None:
    async with MnesisSession.open(model=MODEL, db_path=db, session_id=name) as session:
        await session.record("hello", "hi")
        assert session.id == name
    async with MnesisSession.open(model=MODEL, db_path=db, session_id=name) as session:
        assert await roles(session) == "ua"
    async with await MnesisSession.load(name, db_path=db) as session:
        assert await roles(session) == "ua"


WRONG = [
    {"session_id": ""},
    {"session_id": 5},
    {"session_id": "\ud800"},
    {"model": ""},
    {"model": "  "},
    {"model": 5},
    {"system_prompt": 5},
    {"agent": 5},
    {"db_path": ""},
    {"parent_id": "sess_missing"},
    {"parent_id": "\ud800"},
    {"llm": 5},
    {"llm": ""},
]


@pytest.mark.parametrize("wrong", WRONG, ids=range(len(WRONG)))
async def test_a_wrong_argument_is_a_typed_error_that_leaves_nothing_open(wrong: dict[str, Any], db: Path) -> None:
    with pytest.raises(MnesisError):
        await MnesisSession.create(**{"model": MODEL, "db_path": db, **wrong})
    async with Engine(db) as engine:
        assert (await engine.sessions()).sessions == ()


async def test_a_missing_parent_is_named(db: Path) -> None:
    with pytest.raises(SessionNotFoundError, match="sess_missing"):
        await MnesisSession.create(model=MODEL, db_path=db, parent_id="sess_missing")


async def test_parents_and_their_children(db: Path) -> None:
    async with Engine(db) as engine:
        parent = await MnesisSession.create(model=MODEL, engine=engine, agent="planner")
        child = await MnesisSession.create(model=MODEL, engine=engine, parent_id=parent.id, agent="worker")
        assert (child.parent_id, child.agent, parent.parent_id) == (parent.id, "worker", None)
        page = await engine.sessions(parent_id=parent.id)
        assert [record.id for record in page.sessions] == [child.id]
        await child.record("a", "b")
        assert await parent.messages() == []
        loaded = await MnesisSession.load(child.id, engine=engine)
        assert (loaded.parent_id, loaded.agent) == (parent.id, "worker")


async def test_opening_again_keeps_the_system_prompt_unless_another_is_given(db: Path) -> None:
    for given, expected in (("Be kind.", "Be kind."), (None, "Be kind."), ("Be brief.", "Be brief."), ("", "")):
        async with MnesisSession.open(model=MODEL, db_path=db, session_id="x", system_prompt=given) as session:
            assert session.system_prompt == expected
    async with await MnesisSession.load("x", db_path=db) as session:
        assert session.system_prompt == ""
    async with (
        MnesisSession.open(model=MODEL, db_path=db, system_prompt="\ud800") as session,
        await MnesisSession.load(session.id, db_path=db) as again,
    ):
        assert again.system_prompt == "\ud800"


async def test_a_refused_opening_changes_nothing(db: Path) -> None:
    tiny = MnesisConfig(model_overrides={"context_limit": 2_000})
    async with MnesisSession.open(model=MODEL, db_path=db, session_id="x", system_prompt="word " * 3_000) as session:
        await session.record("a", "b")
        tokens = session.context_tokens
    with pytest.raises(ConfigurationError), pytest.warns(UserWarning, match="too small"):
        await MnesisSession.load("x", db_path=db, model="openai/tiny", config=tiny)
    with pytest.raises(ConfigurationError), pytest.warns(UserWarning, match="too small"):
        await MnesisSession.create(session_id="x", db_path=db, model="openai/tiny", config=tiny)
    with pytest.raises(ConfigurationError):
        await MnesisSession.create(session_id="x", db_path=db, model=MODEL, system_prompt="word " * 300_000)
    async with await MnesisSession.load("x", db_path=db) as session:
        assert (session.model, session.context_tokens) == (MODEL, tokens)
        assert session.system_prompt == "word " * 3_000


async def test_closing_twice_is_quiet_and_told_once(db: Path) -> None:
    async with Engine(db) as engine:
        seen = EventRecorder(engine.events)
        session = await MnesisSession.create(model=MODEL, engine=engine)
        await session.close()
        await session.close()
        await asyncio.gather(session.close(), session.close())
        assert len(seen.of(MnesisEvent.SESSION_CLOSED)) == 1


USES: list[tuple[str, tuple[Any, ...]]] = [
    ("send", ("x",)),
    ("record", ("x", "y")),
    ("append", ([],)),
    ("messages", ()),
    ("conversation_messages", ()),
    ("message", ("x",)),
    ("window", ()),
    ("context_for_next_turn", ()),
    ("compact", ()),
    ("hide", (1, 1)),
    ("clear_context", ()),
    ("history", ()),
    ("compactions", ()),
    ("interruptions", ()),
    ("summaries", ()),
    ("expand", ("x",)),
    ("describe", ("x",)),
    ("subscribe", (MnesisEvent.MESSAGE_CREATED, print)),
    ("subscribe_all", (print,)),
    ("__aenter__", ()),
]


@pytest.mark.parametrize(("verb", "arguments"), USES, ids=[verb for verb, _ in USES])
async def test_use_after_close_is_a_typed_error(verb: str, arguments: tuple[Any, ...], db: Path) -> None:
    session = await MnesisSession.create(model=MODEL, db_path=db)
    await session.close()
    with pytest.raises(SessionClosedError, match=session.id):  # noqa: PT012 - the loop is what raises
        outcome = getattr(session, verb)(*arguments)
        await outcome
    for iterate in (session.stream("x"), session.iter_messages()):
        with pytest.raises(SessionClosedError):
            await anext(iterate)
    assert session.id
    assert session.model == MODEL
    assert repr(session)


async def test_a_send_that_waits_when_the_session_is_closed_is_finished_first(db: Path) -> None:
    gate = asyncio.Event()
    model = ScriptedLLM("fine", gate=gate)
    session = await MnesisSession.create(model=MODEL, db_path=db, llm=model)
    sending = asyncio.create_task(session.send("hello"))
    await until(lambda: len(model.requests) == 1)
    closing = asyncio.create_task(session.close())
    await asyncio.sleep(0.01)
    assert not closing.done()
    gate.set()
    assert (await sending).text == "fine"
    await closing
    assert session.engine.closed


async def test_a_queued_send_is_refused_or_done_when_the_session_closes(db: Path) -> None:
    gate = asyncio.Event()
    model = ScriptedLLM("fine", gate=gate)
    session = await MnesisSession.create(model=MODEL, db_path=db, llm=model)
    first, second = asyncio.create_task(session.send("one")), asyncio.create_task(session.send("two"))
    await until(lambda: len(model.requests) == 1)
    closing = asyncio.create_task(session.close())
    await asyncio.sleep(0.01)
    gate.set()
    outcomes = await asyncio.gather(first, second, return_exceptions=True)
    await closing
    assert all(not isinstance(o, BaseException) or isinstance(o, SessionClosedError) for o in outcomes)
    async with await MnesisSession.load(session.id, db_path=db) as loaded:
        assert await roles(loaded) in ("ua", "uaua")


async def test_a_close_that_was_cancelled_can_be_finished(db: Path) -> None:
    gate = asyncio.Event()
    model = ScriptedLLM("fine", gate=gate)
    session = await MnesisSession.create(model=MODEL, db_path=db, llm=model)
    seen = EventRecorder(session.engine.events)
    sending = asyncio.create_task(session.send("hello"))
    await until(lambda: len(model.requests) == 1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(session.close(), 0.05)
    gate.set()
    await sending
    await session.close()
    assert session.engine.closed
    assert len(seen.of(MnesisEvent.SESSION_CLOSED)) == 1


async def test_engines_of_one_path_share_store_and_bus_and_live_apart(db: Path) -> None:
    one, two = Engine(db), Engine(str(db.parent / "." / db.name))
    assert one.store is two.store
    assert one.events is two.events
    first = await MnesisSession.create(model=MODEL, engine=one, session_id="x")
    second = await MnesisSession.load("x", engine=two)
    heard = EventRecorder(second.event_bus)
    await first.record("a", "b")
    assert len(heard.of(MnesisEvent.MESSAGE_CREATED)) == 2
    await first.close()
    await one.close()
    await second.record("c", "d")
    assert await roles(second) == "uaua"
    await second.close()
    await two.close()
    with pytest.raises(MnesisStoreError):
        await MnesisSession.create(model=MODEL, engine=two)


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [("durability", "normal", "full"), ("wal_mode", True, False), ("connection_timeout", 30.0, 5.0)],
)
async def test_engines_of_one_database_must_have_the_same_store_settings(
    name: str, first: object, second: object, db: Path
) -> None:
    def config(value: object, **others: object) -> MnesisConfig:
        return MnesisConfig(store=StoreConfig.model_validate({name: value, **others}))

    async with Engine(db, config=config(first)):
        with pytest.raises(ConfigurationError) as caught:
            Engine(str(db), config=config(second))
        for text in (str(db), f"store.{name}={first!r}", f"store.{name}={second!r}"):
            assert text in str(caught.value)
        async with Engine(db, config=config(first)), Engine(db, config=config(second, read_only=True)):
            pass
    async with Engine(db, config=config(second)):
        pass


async def test_a_session_whose_engine_was_closed_says_so(db: Path) -> None:
    engine = Engine(db)
    session = await MnesisSession.create(model=MODEL, engine=engine, llm=ScriptedLLM("fine"))
    await engine.close()
    for work in (session.send("x"), session.record("a", "b"), session.messages()):
        with pytest.raises(MnesisStoreError):
            await work
    await session.close()


async def test_a_memory_engine_is_its_own_and_shared_by_its_sessions() -> None:
    async with Engine(":memory:") as one, Engine(":memory:") as other:
        session = await MnesisSession.create(model=MODEL, engine=one, session_id="x")
        await session.record("a", "b")
        again = await MnesisSession.load("x", engine=one)
        assert await roles(again) == "ua"
        with pytest.raises(SessionNotFoundError):
            await MnesisSession.load("x", engine=other)


async def test_an_engine_and_another_database_are_not_mixed(db: Path) -> None:
    async with Engine(db) as engine:
        with pytest.raises(ConfigurationError):
            await MnesisSession.create(model=MODEL, engine=engine, db_path=db.with_name("other.db"))
        await (await MnesisSession.create(model=MODEL, engine=engine, db_path=db)).close()


async def test_the_argument_wins_over_the_path_of_the_config(db: Path, tmp_path: Path) -> None:
    config = MnesisConfig(store=StoreConfig(db_path=tmp_path / "configured.db"))
    async with MnesisSession.open(model=MODEL, config=config, db_path=db):
        pass
    assert db.exists()  # noqa: ASYNC240 - a test may look at its own files
    assert not (tmp_path / "configured.db").exists()
    async with MnesisSession.open(model=MODEL, config=config):
        pass
    assert (tmp_path / "configured.db").exists()


async def test_purging_a_session_while_its_model_answers_does_not_bring_it_back(db: Path) -> None:
    gate = asyncio.Event()
    model = ScriptedLLM("fine", gate=gate)
    async with Engine(db, llm=model) as engine:
        session = await MnesisSession.create(model=MODEL, engine=engine)
        sending = asyncio.create_task(session.send("hello"))
        await until(lambda: len(model.requests) == 1)
        await engine.purge(session.id)
        gate.set()
        with pytest.raises(SessionNotFoundError):
            await sending
        assert (await engine.sessions()).sessions == ()
        await session.close()


async def test_the_database_is_private_to_its_user(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        path = tmp_path / "new" / "sessions.db"
        async with MnesisSession.open(model=MODEL, db_path=path) as session:
            await session.record("a", "b")
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        assert set(modes.values()) == {0o600}
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    finally:
        os.umask(previous)
