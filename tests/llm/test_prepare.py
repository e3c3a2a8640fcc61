"""Slow preparation of a client, such as importing litellm, counts against no time limit and blocks no loop."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mnesis import Engine, LLMMap, MnesisSession
from mnesis.llm import litellm as litellm_module
from mnesis.llm.base import LLMReply, LLMRequest, prepare_client
from mnesis.llm.litellm import LiteLLM
from mnesis.llm.resolve import resolve
from mnesis.operators.agentic_map import AgenticMap


class SlowStart:
    """A client that never answers unless `prepare()` was called before, outside the time limit."""

    is_ready = False

    async def prepare(self) -> None:
        await asyncio.sleep(0)
        self.is_ready = True

    async def complete(self, request: LLMRequest) -> LLMReply:
        if not self.is_ready:
            await asyncio.Event().wait()
        return LLMReply(text='"yes"' if request.purpose == "map" else "yes")

    async def stream(self, request: LLMRequest) -> Any:
        yield await self.complete(request)


async def test_the_clock_of_a_map_item_starts_after_the_preparation(tmp_path: Path) -> None:
    async with Engine(tmp_path / "a.db") as engine:
        mapped = LLMMap(engine=engine, model="openai/gpt-4o", llm=SlowStart())
        batch = await mapped.run_all(
            [1, 2, 3, 4], "Is {{ item }} a number?", {"type": "string"}, timeout_seconds=5.0, max_retries=0
        )
        assert [result.success for result in batch.results] == [True] * 4


async def test_the_clock_of_an_agent_starts_after_the_preparation(tmp_path: Path) -> None:
    async with Engine(tmp_path / "a.db") as engine:
        agents = AgenticMap(engine=engine, model="openai/gpt-4o", llm=SlowStart())
        batch = await agents.run_all(["a"], "Do {{ item }}", timeout_seconds=5.0, max_turns=1)
        assert [result.success for result in batch.results] == [True]


async def test_a_client_is_prepared_through_its_wrapper_and_a_session(tmp_path: Path) -> None:
    client = SlowStart()
    await prepare_client(resolve(client))
    assert client.is_ready
    client = SlowStart()
    async with MnesisSession.open(model="openai/gpt-4o", db_path=tmp_path / "a.db", llm=client) as session:
        await session.prepare()
        assert client.is_ready


async def test_preparing_litellm_imports_it_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    imported: list[bool] = []

    def import_slowly() -> object:
        # Called in a thread: there is no running loop here.
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        imported.append(True)
        return object()

    monkeypatch.setattr(litellm_module, "_module", None)
    monkeypatch.setattr(litellm_module, "_import_quietly", import_slowly)
    await LiteLLM().prepare()
    await LiteLLM().prepare()
    assert imported == [True]


async def test_a_client_without_preparation_is_left_alone() -> None:
    class Plain:
        async def complete(self, request: LLMRequest) -> LLMReply:
            return LLMReply()

        async def stream(self, request: LLMRequest) -> Any:
            yield LLMReply()

    await prepare_client(resolve(Plain()))
