"""Opening a stored session and reading its window answers the event loop from few threads: each answer costs a wake-up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mnesis import MnesisSession


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What threads asked the event loop of this test to call, so far."""
    noted: list[object] = []
    call_soon = asyncio.BaseEventLoop.call_soon_threadsafe

    def note(loop: asyncio.BaseEventLoop, callback: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        noted.append(callback)
        return call_soon(loop, callback, *arguments, **named)

    monkeypatch.setattr(asyncio.BaseEventLoop, "call_soon_threadsafe", note)
    return noted


async def test_the_first_window_of_a_stored_session_takes_four_answers(tmp_path: Path, answers: list[object]) -> None:
    path = tmp_path / "chat.db"
    async with MnesisSession.open(model="openai/gpt-4o", session_id="s", db_path=path) as session:
        await session.record("Which port?", "5433")
    answers.clear()
    session = await MnesisSession.open(model="openai/gpt-4o", session_id="s", db_path=path)
    assert len(await session.context_for_next_turn()) == 2
    # The file that the path leads to, the connection, the session's record, its window.
    assert len(answers) == 4
    answers.clear()
    await session.record("And the host?", "localhost")
    assert len(answers) == 1
    await session.close()
