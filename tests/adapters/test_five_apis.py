"""One live session through five APIs at once: each reads what the others wrote, and its own messages exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("agents")
pytest.importorskip("langchain_core")
pytest.importorskip("llama_index.core")
pytest.importorskip("pydantic_ai")

from mnesis import MnesisEvent, MnesisSession
from mnesis.testing.adapter_suite import AdapterDriver, count_words, make_text, texts_of
from tests.support.drivers.agents_driver import AgentsDriver
from tests.support.drivers.langchain_driver import LangChainDriver
from tests.support.drivers.llamaindex_driver import LlamaIndexDriver
from tests.support.drivers.pydantic_ai_driver import PydanticAIDriver

LIMIT_TOKENS = 3_000
ROUNDS = 5
DRIVERS: list[type[AdapterDriver]] = [LangChainDriver, LlamaIndexDriver, AgentsDriver, PydanticAIDriver]


async def test_a_session_goes_through_five_apis_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "shared.db"
    drivers = [kind(path, "s", LIMIT_TOKENS) for kind in DRIVERS]
    written: dict[AdapterDriver, list[Any]] = {driver: [] for driver in drivers}
    heard: list[int] = []
    async with MnesisSession.open(
        model=None, session_id="s", db_path=path, budget=LIMIT_TOKENS, llm=lambda messages: f"answer {len(messages)}"
    ) as session:
        session.subscribe(MnesisEvent.MESSAGE_CREATED, lambda event, payload: heard.append(payload.seq))
        number = 0
        for _ in range(ROUNDS):
            await session.send(make_text(number))
            for driver in drivers:
                await assert_all_show(drivers, make_text(number))
                number += 1
                turn = driver.make_turn(number, make_text(number))
                await driver.add(turn)
                written[driver] += driver.expected(turn)
            await assert_all_show(drivers, make_text(number))
            number += 1
        log = await session.messages()
        assert len(log) == ROUNDS * (2 + 4 * len(drivers))
        assert heard == [message.seq for message in log] == list(range(1, len(log) + 1))
        assert await session.summaries()
        for driver, items in written.items():
            stored = await driver.read_log()
            assert [item for item in stored if item in items] == items
            assert all(make_text(each) in texts_of(driver, stored) for each in range(number))
        for each in range(number):
            assert f"subject{each}" in (await session.search(f"subject{each}", limit=1))[0].excerpt
    for driver in drivers:
        await driver.close()


async def assert_all_show(drivers: list[AdapterDriver], text: str) -> None:
    """Assert that every API shows the newest question in a valid request that fits."""
    for driver in drivers:
        shown = await driver.read()
        assert text in texts_of(driver, shown), type(driver).__name__
        assert count_words(driver, shown) <= LIMIT_TOKENS
        driver.check_request(shown)
