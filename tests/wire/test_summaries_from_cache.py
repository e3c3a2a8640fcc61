"""Summaries that the session's own model writes from the conversation in its provider's cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mnesis import MnesisSession
from mnesis.compaction.policy import is_certainly_cached, prefix_is_cheaper
from mnesis.models.dialects import find_dialect
from mnesis.tokens.model_info import price_ratio
from tests.support.providers.strict_anthropic import StrictAnthropic
from tests.support.providers.strict_server import Reply, ToolCall
from tests.support.strict_session import THINKING, strict_server, talking_to, weather

TURNS = 6
PROMPT = "Keep the inventory of the harbour. " * 40
FACTS = ", ".join(f"crate-{turn} weighs {turn}{turn}7 kg" for turn in range(TURNS))
SUMMARY = Reply(f"The user reported: {FACTS}. Nothing was decided.")
HAIKU, OPUS = "anthropic/claude-haiku-4-5", "anthropic/claude-opus-4-5"


async def report_crates(session: MnesisSession, times: int = 25, **options: Any) -> None:
    for turn in range(TURNS):
        await session.send(f"Please note: crate-{turn} weighs {turn}{turn}7 kg. " * times, **options)


def reading(server: Any, db: Path, **fields: Any) -> Any:
    compaction = {"reuse_cached_prefix": True, **fields.pop("compaction", {})}
    return talking_to(server, db, system_prompt=PROMPT, compaction=compaction, **fields)


def marks_in(request: Any) -> int:
    return str(request.body).count("cache_control")


@pytest.mark.parametrize("compaction_model", [None, OPUS], ids=["own model", "dearer model"])
async def test_the_summary_request_reads_the_conversation_and_writes_nothing(
    compaction_model: str | None, tmp_path: Path
) -> None:
    with StrictAnthropic(*[Reply()] * TURNS, SUMMARY) as server:
        async with reading(server, tmp_path / "db", compaction_model=compaction_model) as session:
            await report_crates(session, tools=[weather])
            last_turn, before = server.usages[-1], len(server.requests)
            result = await session.compact()
            assert len(server.requests) == before + 1
            request, usage = server.requests[-1], server.usages[-1]
            assert request.model == server.requests[0].model
            assert usage["cache_read_input_tokens"] == (
                last_turn["cache_read_input_tokens"] + last_turn["cache_creation_input_tokens"]
            )
            assert usage["cache_creation_input_tokens"] == 0
            assert marks_in(request) == 1
            assert request.body["tools"] == server.requests[0].body["tools"]
            assert result.level_used == 1
            assert result.usage.cache_read == usage["cache_read_input_tokens"]
            await session.send("What does crate-2 weigh?", tools=[weather])
            assert FACTS in str(server.requests[-1].body)
        assert server.rejections == []


async def test_a_model_that_is_cheaper_still_gets_a_transcript(tmp_path: Path) -> None:
    """A long summary costs more than what the cache saves: its tokens are written at the price of the session's model."""
    with StrictAnthropic(*[Reply()] * TURNS, SUMMARY) as server:
        async with reading(server, tmp_path / "db", compaction_model=HAIKU) as session:
            await report_crates(session)
            assert (await session.compact()).level_used == 1
        assert server.requests[-1].model == "claude-haiku-4-5"
        assert len(transcript_calls(server, TURNS)) == 1


async def test_thinking_goes_on_as_in_the_conversation(tmp_path: Path) -> None:
    loop = (Reply("", "I look.", (ToolCall("weather", {"city": "Oslo"}),)), Reply("Noted.", "Good."))
    with StrictAnthropic(*loop * TURNS, SUMMARY) as server:
        async with reading(server, tmp_path / "db", options={"thinking": THINKING}) as session:
            await report_crates(session, tools=[weather])
            result = await session.compact()
            assert result.level_used == 1
            assert server.usages[-1]["cache_read_input_tokens"] > 2_000
            assert server.usages[-1]["cache_creation_input_tokens"] == 0
        assert server.rejections == []


@pytest.mark.parametrize("provider", ["openai", "deepseek", "gemini"])
async def test_caches_without_marks_are_read_too(provider: str, tmp_path: Path) -> None:
    with strict_server(provider, *[Reply()] * TURNS, SUMMARY) as server:
        async with reading(server, tmp_path / "db") as session:
            # Gemini caches nothing below 4,096 tokens.
            await report_crates(session, times=100)
            result = await session.compact()
            assert result.level_used == 1
            assert result.usage.cache_read > 4_000
        assert server.rejections == []


def transcript_calls(server: Any, before: int) -> list[Any]:
    return [
        request
        for request in server.requests[before:]
        if "===" in str(request.body) and PROMPT not in str(request.body)
    ]


@pytest.mark.parametrize(
    ("seconds", "options"),
    [(0, {"compaction": {"reuse_cached_prefix": False}}), (295, {}), (0, {"prompt_cache": "off"})],
    ids=["switched off", "about to expire", "no marks"],
)
async def test_a_transcript_is_sent_if_the_cache_cannot_be_read(
    seconds: float, options: dict[str, Any], tmp_path: Path
) -> None:
    with StrictAnthropic(*[Reply()] * TURNS, SUMMARY) as server:
        async with reading(server, tmp_path / "db", **options) as session:
            await report_crates(session)
            server.clock.advance(seconds)
            before = len(server.requests)
            assert (await session.compact()).level_used == 1
            assert len(transcript_calls(server, before)) == len(server.requests) - before == 1
            assert marks_in(server.requests[-1]) == 0


async def test_a_transcript_follows_if_the_model_continues_the_conversation(tmp_path: Path) -> None:
    with StrictAnthropic(*[Reply()] * TURNS, Reply("Sure, what next?"), SUMMARY) as server:
        async with reading(server, tmp_path / "db") as session:
            await report_crates(session)
            result = await session.compact()
            assert [(a.level, a.rejection is None) for a in result.attempts] == [(1, False), (1, True)]
            assert len(transcript_calls(server, TURNS)) == 1


async def test_after_load_tools_are_unknown_and_a_transcript_is_sent(tmp_path: Path) -> None:
    with StrictAnthropic(*[Reply()] * TURNS, SUMMARY) as server:
        async with reading(server, tmp_path / "db") as session:
            await report_crates(session, tools=[weather])
        async with reading(server, tmp_path / "db") as session:
            await session.compact()
        assert len(transcript_calls(server, TURNS)) == 1


def test_the_choice_follows_from_prices_alone() -> None:
    claude = find_dialect("anthropic/claude-sonnet-4-5").cache
    assert claude is not None

    def is_cheaper(cached: int, uncached: int, transcript: int, ratio: float) -> bool:
        return prefix_is_cheaper(
            claude,
            cached_tokens=cached,
            uncached_tokens=uncached,
            transcript_tokens=transcript,
            summary_tokens=1_000,
            price_ratio=ratio,
        )

    assert is_cheaper(80_000, 1_000, 60_000, 1.0)
    assert not is_cheaper(80_000, 1_000, 8_000, 1.0), "a short transcript costs less than the whole conversation"
    assert is_cheaper(80_000, 1_000, 60_000, 1 / 3)
    assert not is_cheaper(80_000, 1_000, 60_000, 1 / 20)
    assert not is_cheaper(80_000, 1_000, 60_000, 0.0)
    assert price_ratio(HAIKU, "anthropic/claude-sonnet-4-5") == pytest.approx(1 / 3)
    assert price_ratio("nobody/knows-this", "anthropic/claude-sonnet-4-5") is None


def test_caches_without_marks_are_trusted_for_five_minutes_only() -> None:
    claude, openai = find_dialect("anthropic/claude-x").cache, find_dialect("openai/gpt-5").cache
    assert claude is not None
    assert openai is not None
    assert is_certainly_cached(claude, 3_500, 3_600)
    assert not is_certainly_cached(claude, 3_595, 3_600)
    assert is_certainly_cached(openai, 280, 3_600)
    assert not is_certainly_cached(openai, 600, 3_600)
