"""One turn at a time across processes: waiting, dead holders, and holders that lost their lease without noticing."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mnesis import MnesisSession, SessionConfig
from mnesis.config import MnesisConfig
from mnesis.errors import SessionBusyError, TurnLostError
from mnesis.system import worker_ids
from mnesis.testing import ScriptedLLM
from tests.session.support import MODEL
from tests.store.children import Child, Report, start
from tests.support.postgres import temporary_schema

FOREVER = 3_600.0
PROCESSES, TURNS = 4, 6


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database that several processes can use: an SQLite file, and a schema of a PostgreSQL server."""
    if request.param == "sqlite":
        yield str(tmp_path / "sessions.db")
        return
    pytest.importorskip("psycopg")
    with temporary_schema() as url:
        yield url


def exclusive(*, wait: float = 60.0, lease: float = 15.0) -> MnesisConfig:
    return MnesisConfig(
        session=SessionConfig(exclusive_turns=True, exclusive_wait_seconds=wait, exclusive_lease_seconds=lease)
    )


def opened(database: str, llm: object, **settings: float) -> Any:
    return MnesisSession.open(
        model=MODEL, session_id="chat", db_path=database, llm=llm, config=exclusive(**settings), system_prompt=""
    )


async def texts(database: str) -> list[str]:
    async with opened(database, ScriptedLLM("")) as session:
        return [message.text_content() for message in await session.messages()]


class Echo:
    """Answers with the newest message, after letting everyone else run."""

    async def __call__(self, messages: Any) -> str:
        for _ in range(20):
            await asyncio.sleep(0)
        return str(messages[-1]["content"])


def hold_a_turn(database: str, **settings: float) -> tuple[Child, Callable[[], None]]:
    """Start a process that waits for a reply within its turn. Returns it, and a function that lets the reply come."""
    gate, opener = os.pipe()

    async def work(tell: Report) -> None:
        os.close(opener)

        async def reply(messages: Any) -> str:
            tell("asked")
            await asyncio.to_thread(os.read, gate, 1)
            return "late reply"

        async with opened(database, reply, **settings) as session:
            try:
                await session.send("first")
            except TurnLostError:
                tell("lost")

    child = start(work)
    os.close(gate)
    assert child.read_line() == "asked"
    return child, lambda: os.close(opener)


def test_turns_of_several_processes_never_interleave(database: str) -> None:
    asyncio.run(texts(database))  # creates the session

    def work(name: str) -> Callable[[Report], Any]:
        async def run(tell: Report) -> None:
            async with opened(database, Echo()) as session:
                for number in range(TURNS):
                    result = await session.send(f"{name}-{number}")
                    assert result.text == f"{name}-{number}"

        return run

    children = [start(work(f"p{number}")) for number in range(PROCESSES)]
    assert [child.wait() for child in children] == [([], 0)] * PROCESSES
    log = asyncio.run(texts(database))
    assert log[::2] == log[1::2]
    assert sorted(log[::2]) == sorted(f"p{p}-{n}" for p in range(PROCESSES) for n in range(TURNS))


def test_a_turn_waits_for_another_process_and_not_longer_than_told(database: str) -> None:
    child, answer = hold_a_turn(database)

    async def busy() -> None:
        async with opened(database, ScriptedLLM("second reply"), wait=0) as session:
            with pytest.raises(SessionBusyError, match="'chat' is busy") as raised:
                await session.send("second")
            assert raised.value.session_id == "chat"
            with pytest.raises(SessionBusyError):
                await session.record("x", "y")

    async def wait() -> None:
        async with opened(database, ScriptedLLM("second reply")) as session:
            turn = asyncio.create_task(session.send("second"))
            await asyncio.sleep(0)
            answer()
            await turn

    asyncio.run(busy())
    asyncio.run(wait())
    assert child.wait() == ([], 0)
    assert asyncio.run(texts(database)) == ["first", "late reply", "second", "second reply"]


@pytest.mark.parametrize("is_same_machine", [True, False])
def test_a_killed_holder_keeps_nobody_waiting(
    database: str, is_same_machine: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Elsewhere, only the database server knows that the process is gone; with SQLite, only the end of the lease shows it.
    lease = FOREVER if is_same_machine or "postgres" in database else 0.3
    if not is_same_machine:
        monkeypatch.setattr(worker_ids, "is_dead", lambda _: False)
    child, _ = hold_a_turn(database, lease=lease)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == ([], -signal.SIGKILL)

    async def take_over() -> None:
        async with opened(database, ScriptedLLM("second reply"), lease=FOREVER) as session:
            await session.send("second")

    asyncio.run(take_over())
    assert asyncio.run(texts(database)) == ["first", "second", "second reply"]


def test_a_suspended_holder_cannot_write_after_its_lease(database: str) -> None:
    child, answer = hold_a_turn(database, lease=0.3)
    os.kill(child.pid, signal.SIGSTOP)

    async def take_over() -> None:
        async with opened(database, ScriptedLLM("second reply")) as session:
            await session.send("second")

    asyncio.run(take_over())
    answer()
    os.kill(child.pid, signal.SIGCONT)
    assert child.wait() == (["lost"], 0)
    assert asyncio.run(texts(database)) == ["first", "second", "second reply"]

    async def interruptions() -> list[Any]:
        async with opened(database, ScriptedLLM("")) as session:
            return await session.interruptions()

    assert asyncio.run(interruptions()) == []


def test_only_who_asks_for_it_waits(database: str) -> None:
    child, answer = hold_a_turn(database)

    async def write() -> None:
        async with MnesisSession.open(model=None, session_id="chat", db_path=database) as session:
            await session.record("question", "answer")

    asyncio.run(write())
    answer()
    assert child.wait() == ([], 0)
    assert asyncio.run(texts(database)) == ["first", "question", "answer", "late reply"]
