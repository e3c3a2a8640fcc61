"""Windows that are kept so that the next ones continue them do not add up with the number of open sessions."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from mnesis import Engine, MnesisSession
from mnesis.context.assemble import Assembly
from mnesis.engine import kept_windows


def kept_assemblies(engine: Engine) -> list[Assembly]:
    return [each.assembly for each in engine.kept_windows if each.assembly is not None]


async def test_windows_are_kept_for_the_sessions_that_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_windows, "MAX_KEPT_WINDOWS", 3)
    async with Engine(tmp_path / "s.db") as engine, AsyncExitStack() as stack:
        sessions = [
            await stack.enter_async_context(MnesisSession.open(model=None, engine=engine, session_id=f"s{number}"))
            for number in range(5)
        ]
        for session in (*sessions, *sessions):
            await session.record(f"from {session.id}", "noted")
            shown = await session.context_for_next_turn()
            assert shown[0]["content"] == f"from {session.id}"
        assert [each.context.session.id for each in kept_assemblies(engine)] == ["s2", "s3", "s4"]
        await sessions[3].close()
        assert [each.context.session.id for each in kept_assemblies(engine)] == ["s2", "s4"]
