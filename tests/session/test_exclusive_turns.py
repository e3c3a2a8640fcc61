"""Exclusive turns within one process: blocks of several calls, lost leases, late tools, and the blocking twin."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from mnesis import Engine, MnesisSession, SessionConfig
from mnesis.config import MnesisConfig
from mnesis.errors import ConfigurationError, SessionBusyError, TurnLostError
from mnesis.ids import now_ms
from mnesis.models.turn_lease import TurnLease
from mnesis.sync import SyncSession
from mnesis.testing import ScriptedLLM
from tests.session.support import MODEL, calls, roles, until

HOUR_MS = 3_600_000
FOREVER_SECONDS = 3_600.0


@pytest.fixture(params=["memory", "sqlite"])
def location(request: pytest.FixtureRequest, db: Path) -> str:
    """Where the session is kept."""
    return ":memory:" if request.param == "memory" else str(db)


def config(*, wait: float = 60.0, lease: float = 15.0, always: bool = True) -> MnesisConfig:
    return MnesisConfig(
        session=SessionConfig(exclusive_turns=always, exclusive_wait_seconds=wait, exclusive_lease_seconds=lease)
    )


async def claim_elsewhere(engine: Engine, *, now: int | None = None) -> TurnLease:
    """Claim the turns of the session like a process of another machine."""
    now = now_ms() if now is None else now
    return await engine.store.claim_turn("chat", "elsewhere", now_ms=now, lease_ms=HOUR_MS)


async def test_a_block_holds_the_turn_for_several_calls(location: str) -> None:
    async with Engine(location) as engine:
        settings = {"engine": engine, "session_id": "chat", "model": MODEL, "llm": ScriptedLLM("reply")}
        async with MnesisSession.open(config=config(always=False), **settings) as session:
            other = await MnesisSession.open(config=config(wait=0), **settings)
            async with session.exclusive(), session.exclusive():
                await session.context_for_next_turn()
                assert (await claim_elsewhere(engine)).holder != "elsewhere"
                await session.record("question", "answer")
                async with session.exclusive():
                    await session.send("more")
                    assert [event.type async for event in session.stream("streamed")][-1] == "turn_complete"
                assert (await claim_elsewhere(engine)).holder != "elsewhere"
            lease = await claim_elsewhere(engine)
            assert lease.holder == "elsewhere"
            with pytest.raises(SessionBusyError, match="within 0 s"):
                await other.send("too early")
            with pytest.raises(SessionBusyError):
                async with session.exclusive(wait_seconds=0):
                    raise AssertionError("the block must not begin")
            await engine.store.release_turn("chat", lease)
            await other.send("now")
            await other.close()


async def test_tasks_outside_the_block_wait_for_its_end(location: str) -> None:
    async with MnesisSession.open(model=None, db_path=location, session_id="chat", config=config()) as session:
        entered, leave = asyncio.Event(), asyncio.Event()

        async def several() -> None:
            async with session.exclusive():
                entered.set()
                await leave.wait()
                await session.record("in the block", "one")
                await session.record("in the block", "two")

        block = asyncio.create_task(several())
        await entered.wait()
        outside = asyncio.create_task(session.record("outside", "three"))
        with pytest.raises(SessionBusyError):
            async with session.exclusive(wait_seconds=0.01):
                raise AssertionError("the block must not begin")
        leave.set()
        await asyncio.gather(block, outside)
        assert [m.text_content() for m in await session.messages()][1::2] == ["one", "two", "three"]


async def test_a_lease_is_renewed_while_the_turn_runs(location: str) -> None:
    renewals = 0

    async with Engine(location) as engine:
        renew = engine.store.renew_turn

        async def count(*args: Any, **options: Any) -> bool:
            nonlocal renewals
            renewals += 1
            return await renew(*args, **options)

        engine.store.renew_turn = count  # type: ignore[method-assign]  # counts

        async def reply(messages: Any) -> str:
            await until(lambda: renewals >= 4)
            claimed = await engine.store.claim_turn("chat", "elsewhere", now_ms=now_ms(), lease_ms=1)
            return "held" if claimed.holder != "elsewhere" else "lost"

        async with MnesisSession.open(
            model=MODEL, engine=engine, session_id="chat", llm=reply, config=config(lease=0.3)
        ) as session:
            assert (await session.send("go")).text == "held"


async def test_a_turn_that_lost_its_lease_is_stopped(location: str) -> None:
    async with Engine(location) as engine:

        async def reply(messages: Any) -> str:
            await claim_elsewhere(engine, now=now_ms() + 2 * HOUR_MS)
            await asyncio.Event().wait()
            return "never"

        async with MnesisSession.open(
            model=MODEL, engine=engine, session_id="chat", llm=reply, config=config(lease=0.3, wait=0)
        ) as session:
            with pytest.raises(TurnLostError, match="'chat'"):
                await session.send("go")
            assert await roles(session) == "u"
            assert await session.interruptions() == []
            with pytest.raises(SessionBusyError):
                await session.retry()


async def test_calls_after_the_loss_of_a_block_are_refused(location: str) -> None:
    async with (
        Engine(location) as engine,
        MnesisSession.open(
            model=None, engine=engine, session_id="chat", config=config(lease=FOREVER_SECONDS)
        ) as session,
        session.exclusive(),
    ):
        await session.record("one", "two")
        await claim_elsewhere(engine, now=now_ms() + 2 * HOUR_MS)
        for call in (
            session.record("three", "four"),
            session.append([(await session.messages())[0].model_copy(update={"id": "new"})]),
            session.revise(hide=[(1, 1)], messages=[], last_seq=2),
        ):
            with pytest.raises(TurnLostError):
                await call
        assert await roles(session) == "ua"


async def test_a_tool_that_outlives_its_turn_does_not_write_into_another(
    location: str, caplog: pytest.LogCaptureFixture
) -> None:
    started, release = threading.Event(), threading.Event()

    def pay() -> str:
        started.set()
        release.wait(30)
        return "paid"

    async with Engine(location) as engine:
        session = await MnesisSession.open(
            model=MODEL, engine=engine, session_id="chat", llm=ScriptedLLM([calls(("pay", {}))]), config=config()
        )
        turn = asyncio.create_task(session.send("go", tools=[pay]))
        await until(started.is_set)
        turn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn
        assert (await claim_elsewhere(engine)).holder == "elsewhere"
        release.set()
        with caplog.at_level(logging.WARNING, logger="mnesis"):
            await session.close()
        assert "finished too late to be stored" in caplog.text
        assert [message.role for message in await engine.store.messages("chat")] == ["user", "assistant"]


async def test_closing_in_a_block_does_not_wait_for_itself(location: str) -> None:
    session = await MnesisSession.open(model=None, db_path=location, session_id="chat", config=config())
    async with session.exclusive():
        await session.record("one", "two")
        await session.close()


async def test_a_wait_that_cannot_be_is_refused(location: str) -> None:
    async with MnesisSession.open(model=None, db_path=location, session_id="chat") as session:
        for bad in (-1, float("nan"), "soon"):
            with pytest.raises(ConfigurationError, match="wait_seconds"):
                async with session.exclusive(wait_seconds=bad):  # type: ignore[arg-type]  # what is refused
                    raise AssertionError("the block must not begin")


def test_the_blocking_twin_has_blocks_too(db: Path) -> None:
    with SyncSession.open(model=None, db_path=db, session_id="chat", config=config(wait=0)) as session:
        refused: list[Exception] = []

        def intrude() -> None:
            try:
                session.record("x", "y")
            except SessionBusyError as error:
                refused.append(error)

        with session.exclusive() as same, session.exclusive():
            assert same is session
            session.record("one", "two")
            thread = threading.Thread(target=intrude)
            thread.start()
            thread.join()
            session.record("three", "four")
        assert len(refused) == 1
        assert [m.text_content() for m in session.messages()] == ["one", "two", "three", "four"]
