"""Turns that a crash, a cancellation or `close()` cut off while their tools run."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from mnesis import MnesisSession
from mnesis.session import session as session_module
from mnesis.testing import ScriptedLLM
from tests.session.support import MODEL, calls, roles, until


def opened(db: Any, *script: Any, **options: Any) -> Any:
    return MnesisSession.open(model=MODEL, db_path=db, llm=ScriptedLLM(list(script)), **options)


async def outputs(session: MnesisSession) -> dict[str, str]:
    return {part.tool_call_id: part.output for message in await session.messages() for part in message.tool_results}


async def test_a_tool_in_a_thread_is_not_repeated_after_a_cancellation(db: Path) -> None:
    started, release, paid = threading.Event(), threading.Event(), []

    def pay() -> str:
        started.set()
        release.wait(30)
        paid.append(1)
        return "paid"

    async with opened(db, calls(("pay", {})), "Done.") as session:
        task = asyncio.create_task(session.send("go", tools=[pay]))
        await until(started.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        retried = asyncio.create_task(session.retry(tools=[pay]))
        await asyncio.sleep(0)
        release.set()
        assert (await retried).text == "Done."
        assert paid == [1]
        assert await roles(session) == "uata"


async def test_closing_stores_what_a_thread_finishes_in_time(db: Path, monkeypatch: Any) -> None:
    started, release = threading.Event(), threading.Event()

    def pay() -> str:
        started.set()
        release.wait(30)
        return "paid"

    async with opened(db, calls(("pay", {}))) as session:
        task = asyncio.create_task(session.send("go", tools=[pay]))
        await until(started.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        closing = asyncio.create_task(session.close())
        await asyncio.sleep(0)
        release.set()
        await closing
    async with opened(db, "Done.", session_id=session.id) as session:
        assert await outputs(session) == {"call_0": "paid"}
        assert (await session.retry()).text == "Done."


async def test_closing_does_not_wait_for_a_thread_that_hangs(db: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(session_module, "TOOL_GRACE_SECONDS", 0.01)
    started, release = threading.Event(), threading.Event()

    def hang() -> None:
        started.set()
        release.wait(60)

    async with opened(db, calls(("hang", {}))) as session:
        task = asyncio.create_task(session.send("go", tools=[hang]))
        await until(started.is_set)
        task.cancel()
    assert not release.is_set()
    release.set()


CHILD = """
import asyncio, sys
from mnesis import MnesisEvent, MnesisSession
from mnesis.testing import ScriptedLLM
from tests.session.support import MODEL, calls

async def pay() -> str:
    with open(sys.argv[2], "a") as file:
        file.write("paid\\n")
    return "paid"

async def book() -> str:
    await asyncio.Event().wait()
    return "booked"

async def main() -> None:
    model = ScriptedLLM([calls(("pay", {}), ("book", {}))])
    async with MnesisSession.open(model=MODEL, session_id="s", db_path=sys.argv[1], llm=model) as session:
        tell = lambda event, payload: print(payload.role, flush=True)
        session.subscribe(MnesisEvent.MESSAGE_CREATED, tell)
        await session.send("go", tools=[pay, book])

asyncio.run(main())
"""


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_killed_process_pays_once_and_another_continues(db: Path, tmp_path: Path, is_streamed: bool) -> None:
    receipts = tmp_path / "receipts"
    child = subprocess.Popen(  # noqa: ASYNC220 - nothing else runs in this loop
        [sys.executable, "-c", CHILD, str(db), str(receipts)], stdout=subprocess.PIPE, text=True, cwd=os.getcwd()
    )
    assert child.stdout is not None
    assert [child.stdout.readline().strip() for _ in range(3)] == ["user", "assistant", "tool"]
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()

    def pay() -> str:
        raise AssertionError("paid twice")

    model = ScriptedLLM(["Done."])
    async with await MnesisSession.load("s", db_path=db, llm=model) as session:
        assert model.requests == []
        if is_streamed:
            events = [event async for event in session.stream_retry(tools=[pay, BOOK])]
            assert [event.type for event in events] == [
                "tool_call_start",
                "tool_call_end",
                "text_delta",
                "turn_complete",
            ]
        else:
            assert (await session.retry(tools=[pay, BOOK])).text == "Done."
        assert await outputs(session) == {"call_0": "paid", "call_1": "booked"}
        assert await roles(session) == "uatta"
    assert receipts.read_text() == "paid\n"


def _book() -> str:
    return "booked"


_book.__name__ = "book"
BOOK = _book
