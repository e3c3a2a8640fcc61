"""Sessions in several loops, a fork, and a process that never says goodbye."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import textwrap
from pathlib import Path

import pytest

from mnesis import (
    ConfigurationError,
    Engine,
    MnesisSession,
    MnesisStoreError,
    SessionClosedError,
    SessionNotFoundError,
)
from mnesis.errors import ForkedStoreError, InvalidMessageError
from mnesis.testing import ScriptedLLM
from tests.session.support import MODEL, roles, small, talk, until
from tests.support.summaries import acceptable_summary
from tests.support.warm_python import run_python


def run_child(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a program in a Python process of its own; `sys.argv[1:]` are the arguments."""
    return run_python(
        ["-c", textwrap.dedent(code), *map(str, arguments)], cwd=Path(__file__).parents[2], has_mnesis=True
    )


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
        model.gate = None
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
        model.gate = None
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
    assert run_child(HANGING, db).returncode == 0


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
    model.gate = None
    asyncio.run(asyncio.wait_for(go_on(session), 10))
    print("went on", flush=True)
    os._exit(0)
"""


@pytest.mark.parametrize("what", ["stream", "compaction"])
def test_a_loop_closed_with_work_pending_does_not_lock_the_session(what: str, db: Path) -> None:
    ended = run_child(CLOSED_LOOP, db, what)
    assert ended.stdout == "went on\n", ended.stderr
