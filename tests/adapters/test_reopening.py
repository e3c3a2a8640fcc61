"""One rule for sessions that are opened again: a model that is passed replaces the stored one, None keeps it, in every API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from mnesis import Engine, MnesisSession

pytest.importorskip("agents")
pytest.importorskip("langchain_core")
pytest.importorskip("pydantic_ai")

Use = Callable[[Path, str | None], Awaitable[None]]


async def use_native(path: Path, model: str | None) -> None:
    async with MnesisSession.create(model=model, session_id="s", db_path=path) as session:
        await session.record("a", "b")


async def use_langchain(path: Path, model: str | None) -> None:
    from langchain_core.messages import HumanMessage

    from langchain_mnesis import MnesisChatMessageHistory

    async with Engine(path) as engine:
        await MnesisChatMessageHistory("s", engine=engine, model=model).aadd_messages([HumanMessage("x")])


async def use_agents(path: Path, model: str | None) -> None:
    from agents_mnesis import MnesisAgentSession

    session = MnesisAgentSession("s", db_path=path, model=model)
    await session.add_items([{"role": "user", "content": "x"}])
    await session.close()


async def use_pydantic_ai(path: Path, model: str | None) -> None:
    from pydantic_ai.messages import ModelRequest, UserPromptPart

    from pydantic_ai_mnesis import MnesisHistory

    history = MnesisHistory(db_path=path, model=model)
    await history.add("s", [ModelRequest(parts=[UserPromptPart("x")])])
    await history.close()


@pytest.mark.parametrize("use", [use_native, use_langchain, use_agents, use_pydantic_ai])
async def test_a_passed_model_replaces_the_stored_one_and_none_keeps_it(use: Use, tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    await use(path, "openai/gpt-4o-mini")  # it may also begin the session
    async with MnesisSession.create(
        model="openai/gpt-4o", system_prompt="You are A.", session_id="s", db_path=path
    ) as session:
        await session.record("a", "b")
    for model, expected in ((None, "openai/gpt-4o"), ("openai/gpt-4.1", "openai/gpt-4.1"), (None, "openai/gpt-4.1")):
        await use(path, model)
        async with Engine(path) as engine:
            record = await engine.store.session("s")
        assert (record.model, record.system_prompt) == (expected, "You are A.")
