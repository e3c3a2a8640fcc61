"""`SessionPool`: sessions that are opened once, shared, and found again."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from mnesis import ConfigurationError, Engine, MnesisSession, SessionClosedError, concurrency
from mnesis.errors import NoModelError
from mnesis.session.pool import SessionPool, SessionSettings


async def test_a_session_is_opened_once_however_many_ask(db: Path) -> None:
    opened: list[MnesisSession] = []
    pool = SessionPool(db_path=db, on_open=opened.append)
    sessions = await asyncio.gather(*(pool.get_or_create("ada") for _ in range(20)))
    assert {id(session) for session in sessions} == {id(opened[0])}
    assert len(opened) == 1
    assert await pool.get("ada") is opened[0]
    await pool.close()


def test_looking_for_a_session_creates_no_database(db: Path) -> None:
    pool = SessionPool(db_path=db)
    assert concurrency.run(pool.get("nobody")) is None
    assert not db.exists()
    concurrency.run(pool.close())


async def test_other_settings_open_a_session_again(db: Path) -> None:
    pool = SessionPool(db_path=db, settings=SessionSettings(budget=1_000))
    first = await pool.get_or_create("ada")
    pool.configure(SessionSettings(budget=1_000))
    assert await pool.get("ada") is first
    pool.configure(SessionSettings(budget=2_000))
    second = await pool.get("ada")
    assert second is not None
    assert (first.budget.usable_tokens, second.budget.usable_tokens) == (1_000, 2_000)
    with pytest.raises(SessionClosedError):
        await first.window()
    await pool.close()


async def test_an_operation_survives_a_session_that_was_closed_or_erased(db: Path) -> None:
    pool = SessionPool(db_path=db)
    session = await pool.get_or_create("ada")
    await session.record("one", "two")
    await session.close()
    assert len(await pool.run("ada", MnesisSession.messages) or []) == 2
    await pool.engine.purge("ada")
    assert await pool.run("ada", MnesisSession.messages) is None
    assert await pool.run_or_create("ada", MnesisSession.messages) == []
    await pool.close()


async def test_the_least_recently_used_session_is_dropped(db: Path) -> None:
    pool = SessionPool(db_path=db, max_sessions=2)
    first, second = await pool.get_or_create("a"), await pool.get_or_create("b")
    assert await pool.get("a") is first
    await pool.get_or_create("c")
    assert await pool.get("a") is first
    assert await pool.get("b") is not second
    await pool.close()


async def test_a_closed_pool_refuses_and_closes_only_its_own_engine(db: Path) -> None:
    async with Engine(db) as engine:
        pool = SessionPool(engine=engine)
        await pool.get_or_create("ada")
        await pool.close()
        await pool.close()
        assert not engine.closed
        with pytest.raises(SessionClosedError):
            await pool.get("ada")
    with pytest.raises(ConfigurationError, match=r"engine= or db_path=, not both"):
        SessionPool(engine=engine, db_path=db)


async def test_a_pool_never_calls_the_model_that_a_session_was_created_with(db: Path) -> None:
    async with Engine(db) as engine:
        await MnesisSession.create(model="openai/gpt-4o", session_id="ada", engine=engine)
        pool = SessionPool(engine=engine)
        session = await pool.get_or_create("ada")
        with pytest.raises(NoModelError):
            await session.send("hello")
        await pool.close()


def test_a_forked_child_uses_a_connection_of_its_own(db: Path) -> None:
    engine = Engine(db)
    pool = SessionPool(engine=engine)

    async def add(text: str) -> int:
        session = await pool.get_or_create("ada")
        await session.record(text, "noted")
        return len(await session.messages())

    assert concurrency.run(add("parent")) == 2
    child = os.fork()
    if child == 0:
        try:
            count = concurrency.run(add("child"))
            os._exit(0 if count == 4 and pool.engine is not engine else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert concurrency.run(add("parent again")) == 6
    concurrency.run(pool.close())
    concurrency.run(engine.close())
