"""A whole session on a real model: `MNESIS_LIVE_API_BASE=http://…/v1 pytest -m live`; see test_live_model for the settings.

The model may be as bad as it likes: what is promised is that everything is kept and every request fits.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mnesis import MnesisConfig, MnesisSession, SessionConfig
from mnesis.config import CompactionConfig
from mnesis.models.message import Message
from mnesis.models.results import TextDelta, TurnComplete
from tests.support.histories import check_chat

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::mnesis.context.budget.SmallModelWarning"),
]
MODEL = os.environ.get("MNESIS_LIVE_MODEL", "openai/smollm2")


@pytest.fixture(autouse=True)
def _real_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MNESIS_MOCK_LLM", raising=False)
    if "MNESIS_LIVE_API_BASE" not in os.environ:
        pytest.skip("MNESIS_LIVE_API_BASE names no server")


def config(context_limit: int = 2_400, **compaction: object) -> MnesisConfig:
    options = {
        "api_base": os.environ["MNESIS_LIVE_API_BASE"],
        "api_key": os.environ.get("MNESIS_LIVE_API_KEY", "sk-local"),
        "temperature": 0,
    }
    return MnesisConfig(
        model_overrides={"context_limit": context_limit, "max_output_tokens": 60},  # type: ignore[arg-type]  # a dict is accepted
        compaction=CompactionConfig(compaction_output_budget=1_000, **compaction),  # type: ignore[arg-type]  # named fields
        session=SessionConfig(llm_options=options, request_timeout_seconds=300.0),
    )


async def test_a_conversation_is_answered_streamed_kept_and_resumed(tmp_path: Path) -> None:
    path = tmp_path / "live.db"
    async with MnesisSession.open(model=MODEL, db_path=path, session_id="live", config=config()) as session:
        first = await session.send("Name three colours.")
        assert first.text.strip()
        assert first.tokens.request_tokens > 0
        assert session.context_tokens >= first.tokens.request_tokens
        *deltas, done = [event async for event in session.stream("Now name two animals.")]
        assert isinstance(done, TurnComplete)
        assert len(deltas) > 2
        assert "".join(d.text for d in deltas if isinstance(d, TextDelta)) == done.result.text
    again = await MnesisSession.load("live", config(), path)
    assert [m.role for m in await again.messages()] == ["user", "assistant"] * 2
    assert (await again.messages())[-1].text_content() == done.result.text
    assert again.token_usage.request_tokens == first.tokens.request_tokens + done.result.tokens.request_tokens
    await again.close()


async def test_a_forced_compaction_keeps_each_message_within_reach(tmp_path: Path) -> None:
    path = tmp_path / "live.db"
    async with MnesisSession.open(model=MODEL, db_path=path, config=config(auto=False)) as session:
        for i in range(10):
            await session.record(
                f"Where does module {i} run? " + "Please be exact, the release depends on it. " * 3,
                f"Module {i} runs in region r{i} on port {9000 + i}. " + "Ana owns it and deploys on Fridays. " * 3,
            )
        result = await session.compact()
        assert result.level_used in (1, 2, 3)
        assert result.tokens_after < result.tokens_before
        behind: list[Message] = list((await session.expand(result.summary_message_id, limit=100)).messages)
        assert behind == (await session.messages())[: result.compacted_message_count]
        check_chat(await session.context_for_next_turn())
        assert (await session.send("Thank you. Which module did we speak of last?")).text.strip()


async def test_a_long_conversation_never_outgrows_the_models_window(tmp_path: Path) -> None:
    path = tmp_path / "live.db"
    async with MnesisSession.open(model=MODEL, db_path=path, config=config(1_600)) as session:
        for i in range(8):
            result = await session.send(
                f"Fact {i}: module {i} listens on port {9000 + i}. " + "Remember this well. " * 20
            )
            assert result.tokens.request_tokens <= 1_600 - 60
        await session.engine.wait_for_tasks()
        assert await session.compactions()
        assert len(await session.messages()) == 16
