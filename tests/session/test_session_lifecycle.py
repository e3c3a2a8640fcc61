"""Opening, loading, sharing, closing; several loops, a fork, a process that never says goodbye."""

from __future__ import annotations

import asyncio
import gc
import os
import stat
import subprocess
import sys
import textwrap
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
from mnesis.errors import ForkedStoreError, InvalidMessageError
from mnesis.testing import EventRecorder, ScriptedLLM
from tests.session.support import MODEL, roles, small, talk, until
from tests.support.summaries import acceptable_summary


def run_child(code: str, *arguments: object, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
    """A Python process of its own; `sys.argv[1:]` are the arguments."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=Path(__file__).parents[2],
    )


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


def test_a_session_is_used_from_several_loops_one_after_another(db: Path) -> None:
    session = asyncio.run(MnesisSession.create(model=MODEL, db_path=db, llm=ScriptedLLM("fine"), config=small()))
    for number in range(30):
        asyncio.run(session.send(f"question {number} " + "word " * 100))
    shown = asyncio.run(session.context_for_next_turn())
    assert shown[-1]["content"] == "fine"
    assert asyncio.run(roles(session)) == "ua" * 30
    assert asyncio.run(session.compact()).level_used >= 0
    assert not session.compaction_in_progress
    asyncio.run(asyncio.wait_for(session.close(), 10))


def test_a_loop_that_ends_in_the_middle_of_a_turn_does_not_block_the_next(db: Path) -> None:
    async def begin() -> MnesisSession:
        model = ScriptedLLM(["never heard", "fine"], gate=asyncio.Event())
        session = await MnesisSession.create(model=MODEL, db_path=db, llm=model)
        reading = asyncio.ensure_future(anext(session.stream("abandoned")))
        await until(lambda: len(model.requests) == 1)
        reading.cancel()
        model._gate = None
        return session

    async def go_on(session: MnesisSession) -> str:
        result = await asyncio.wait_for(session.send("hello"), 10)
        await session.close()
        return result.text

    session = asyncio.run(begin())
    assert asyncio.run(go_on(session)) == "fine"


def test_a_loop_that_ends_during_a_compaction_does_not_block_the_next(db: Path) -> None:
    async def begin() -> MnesisSession:
        model = ScriptedLLM(acceptable_summary, gate=asyncio.Event())
        session = await MnesisSession.create(model=MODEL, db_path=db, llm=model, config=small())
        while not session.compaction_in_progress:
            await talk(session, 1)
        await until(lambda: len(model.requests) == 1)
        model._gate = None
        return session

    async def go_on(session: MnesisSession) -> int:
        assert not session.compaction_in_progress
        result = await asyncio.wait_for(session.compact(), 10)
        await asyncio.wait_for(session.close(), 10)
        return result.level_used

    session = asyncio.run(begin())
    assert asyncio.run(go_on(session)) == 1


NEVER_CLOSED = """
    import asyncio, sys
    from mnesis import MnesisSession, Engine
    from mnesis.testing import ScriptedLLM

    async def main(path, how):
        session = await MnesisSession.create(model="openai/gpt-4o", db_path=path, session_id="x", llm=ScriptedLLM("fine"))
        for n in range(20):
            await session.record(f"q{n}", "a")
        if how == "stream":
            async for _ in session.stream("go"):
                break
        if how == "unknown":
            try:
                await MnesisSession.load("nobody", db_path=path)
            except LookupError:
                pass
        if how == "raise":
            raise SystemExit(3)
        if how == "interrupt":
            raise KeyboardInterrupt

    asyncio.run(main(*sys.argv[1:]))
    print("end")
"""


@pytest.mark.parametrize("how", ["plain", "stream", "unknown", "raise", "interrupt"])
def test_a_process_that_never_closes_ends_and_everything_is_stored(how: str, db: Path) -> None:
    ended = run_child(NEVER_CLOSED, db, how)
    assert (ended.returncode == 0) == (how in ("plain", "stream", "unknown")), ended.stderr

    async def stored() -> str:
        async with await MnesisSession.load("x", db_path=db) as session:
            assert await session.engine.store.check() == []
            return await roles(session)

    assert asyncio.run(stored()).startswith("ua" * 20)


HANGING = """
    import asyncio, sys, time
    from mnesis import MnesisSession, MnesisConfig, CompactionConfig
    def hang(messages):
        time.sleep(3600)
    async def main(path):
        session = await MnesisSession.create(model="openai/gpt-4o", db_path=path, session_id="x", llm=hang)
        try:
            await asyncio.wait_for(session.send("hello"), 0.2)
        except TimeoutError:
            pass
        await session.close()
    asyncio.run(main(sys.argv[1]))
"""


def test_a_model_function_that_hangs_does_not_keep_the_process_alive(db: Path) -> None:
    assert run_child(HANGING, db, timeout=15).returncode == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_is_told_and_may_open_again_and_the_parent_goes_on(db: Path) -> None:
    code = """
    import asyncio, os, sys
    from mnesis import MnesisSession
    from mnesis.errors import ForkedStoreError

    async def child(session, path):
        try:
            await session.record("from the child", "no")
            return 1
        except ForkedStoreError:
            pass
        async with await MnesisSession.load("x", db_path=path) as own:
            await own.record("child", "yes")
        return 0

    path = sys.argv[1]
    session = asyncio.run(MnesisSession.create(model="openai/gpt-4o", db_path=path, session_id="x"))
    asyncio.run(session.record("parent", "before"))
    pid = os.fork()
    if pid == 0:
        code = 9
        try:
            code = asyncio.run(child(session, path))
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, status
    asyncio.run(session.record("parent", "after"))
    texts = [m.text_content() for m in asyncio.run(session.messages())]
    asyncio.run(session.close())
    assert texts == ["parent", "before", "child", "yes", "parent", "after"], texts
    """
    ended = run_child(code, db)
    assert ended.returncode == 0, ended.stderr


async def test_a_forgotten_session_leaves_no_thread_after_its_engine_closes(db: Path) -> None:
    import threading

    before = set(threading.enumerate())

    def left_behind() -> set[threading.Thread]:
        # Worker threads of the event loop's own pool outlive a session on purpose.
        return {t for t in set(threading.enumerate()) - before if not t.name.startswith(("AnyIO", "asyncio"))}

    async with MnesisSession.open(model=MODEL, db_path=db) as session:
        await session.record("a", "b")
        assert left_behind(), "the database has a thread of its own"
    del session
    gc.collect()
    await until(lambda: not left_behind(), 5)


async def test_reading_helpers_answer_for_every_kind_of_id(db: Path) -> None:
    from mnesis import FileRefPart
    from mnesis.errors import NotFoundError

    async with MnesisSession.open(model=MODEL, db_path=db, config=small(), llm=ScriptedLLM("Codes.")) as session:
        part = FileRefPart(content_id="file_ab12cd34", path="log.txt", token_count=9, exploration_summary="a log")
        stored = await session.record(["see", part], "seen")
        await talk(session, 8)
        await session.compact()
        (summary,) = await session.summaries()
        kinds = [
            (await session.describe(i)).kind for i in (session.id, stored.user_message_id, summary.id, "file_ab12cd34")
        ]
        assert kinds == ["session", "message", "summary", "file"]
        assert (await session.describe(stored.user_message_id)).details["summary_id"] == summary.id
        with pytest.raises(NotFoundError, match="nothing"):
            await session.describe("nothing")
        with pytest.raises(ConfigurationError):
            await session.expand(summary.id, limit=0)
        with pytest.raises(ConfigurationError):
            await session.expand(summary.id, cursor="x'; --")
        with pytest.raises(ConfigurationError):
            await session.context_for_next_turn(provider="gemini")  # type: ignore[arg-type]  # the point of the test


def test_the_errors_of_this_page_belong_to_the_tree() -> None:
    for kind in (SessionClosedError, SessionNotFoundError, ForkedStoreError):
        assert issubclass(kind, MnesisStoreError)
    assert issubclass(InvalidMessageError, ValueError)


async def test_the_model_of_an_object_is_the_one_it_calls(db: Path) -> None:
    model = ScriptedLLM("fine")
    async with Engine(db, llm=model) as engine:
        first = await MnesisSession.create(model=MODEL, engine=engine, session_id="x")
        second = await MnesisSession.create(model="openai/gpt-4o-mini", engine=engine, session_id="x")
        for session in (first, second):
            await session.send("hello")
            assert model.requests[-1].model == session.model


async def test_a_stream_that_has_only_just_begun_is_waited_for_by_close(db: Path) -> None:
    session = await MnesisSession.create(model=MODEL, db_path=db, llm=ScriptedLLM("fine"))
    reader = asyncio.ensure_future(anext(session.stream("go")))
    await asyncio.sleep(0)
    await session.close()
    await reader
    async with await MnesisSession.load(session.id, db_path=db) as session:
        assert await roles(session) == "ua"


CLOSED_LOOP = """
    import asyncio, os, sys
    from mnesis import MnesisSession
    from mnesis.testing import ScriptedLLM
    from tests.session.support import small, talk, until
    from tests.support.summaries import acceptable_summary

    path, what = sys.argv[1:]
    model = ScriptedLLM(acceptable_summary, gate=asyncio.Event())

    async def begin():
        session = await MnesisSession.create(model="openai/gpt-4o", db_path=path, llm=model, config=small())
        if what == "stream":
            asyncio.ensure_future(anext(session.stream("abandoned")))
        else:
            while not session.compaction_in_progress:
                await talk(session, 1)
        await until(lambda: bool(model.requests))
        return session

    async def go_on(session):
        assert (await session.send("next")).text
        await session.compact()
        await session.close()

    loop = asyncio.new_event_loop()
    session = loop.run_until_complete(begin())
    loop.close()
    model._gate = None
    asyncio.run(asyncio.wait_for(go_on(session), 10))
    print("went on", flush=True)
    os._exit(0)
"""


@pytest.mark.parametrize("what", ["stream", "compaction"])
def test_a_loop_closed_with_work_pending_does_not_lock_the_session(what: str, db: Path) -> None:
    ended = run_child(CLOSED_LOOP, db, what)
    assert ended.stdout == "went on\n", ended.stderr
