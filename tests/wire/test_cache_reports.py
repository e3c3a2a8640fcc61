"""What a result says about the provider's cache, and why it missed, on servers that model the caches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mnesis import MnesisEvent, MnesisSession, TokenUsage, TurnResult
from mnesis.llm.base import LLMReply, LLMRequest
from tests.support.providers.strict_anthropic import StrictAnthropic
from tests.support.providers.strict_chat_completions import StrictChatCompletions
from tests.support.providers.strict_server import Reply, ToolCall
from tests.support.strict_session import strict_server, talking_to, weather

PROMPT = "You are a careful assistant. " * 400


def watch(session: MnesisSession) -> list[Any]:
    """Return a list that receives the cache misses of a session."""
    misses: list[Any] = []
    session.subscribe(MnesisEvent.CACHE_MISS, lambda event, payload: misses.append(payload))
    return misses


async def ask(session: MnesisSession, turns: int = 1, **arguments: Any) -> TurnResult:
    """Send some long questions. Returns the last result."""
    for turn in range(turns):
        result = await session.send(f"question {turn} " * 200, **arguments)
    return result


async def test_each_request_reports_cached_written_and_uncached_tokens(tmp_path: Path) -> None:
    script = [Reply("Looking.", "", (ToolCall("weather", {"city": "Ulm"}),)), Reply("Sunny.")]
    with StrictAnthropic(*script) as server:
        async with talking_to(server, tmp_path / "db", system_prompt=PROMPT) as session:
            result = await ask(session, tools=[weather])
        first, second = result.cache_reports
        for report, usage in zip(result.cache_reports, server.usages, strict=True):
            assert report.read_tokens == usage["cache_read_input_tokens"]
            assert report.written_tokens == usage["cache_creation_input_tokens"]
            assert report.uncached_tokens == usage["input_tokens"]
        assert (first.read_tokens, first.miss_cause, second.miss_cause) == (0, None, None)
        assert second.expected_tokens == second.read_tokens == first.written_tokens > 0
        assert second.missed_tokens == 0
        assert result.tokens.cache_read == sum(report.read_tokens for report in result.cache_reports)


@pytest.mark.parametrize("provider", ["anthropic", "openai"])
async def test_undisturbed_requests_publish_no_miss(provider: str, tmp_path: Path) -> None:
    with strict_server(provider) as server:
        async with talking_to(server, tmp_path / "db", system_prompt=PROMPT) as session:
            misses = watch(session)
            result = await ask(session, 6)
            assert misses == []
            assert result.cache_reports[0].read_tokens > 2_000


@pytest.mark.parametrize("provider", ["anthropic", "openai"])
@pytest.mark.parametrize("cause", ["compaction", "tools", "system_prompt", "expiry"])
async def test_a_miss_says_why(provider: str, cause: str, tmp_path: Path) -> None:
    with strict_server(provider) as server:
        async with talking_to(server, tmp_path / "db", system_prompt=PROMPT) as session:
            misses = watch(session)
            await ask(session, 6)
            assert misses == []
            arguments: dict[str, Any] = {}
            if cause == "compaction":
                await session.compact()
            elif cause == "tools":
                arguments = {"tools": [weather]}
            elif cause == "system_prompt":
                arguments = {"system_prompt": "Today is Monday. " + PROMPT}
            else:
                server.clock.advance(3_700)
            result = await session.send("And now?", **arguments)
        assert [miss.cause for miss in misses] == [cause]
        report = result.cache_reports[0]
        assert (misses[0].missed_tokens, misses[0].read_tokens) == (report.missed_tokens, report.read_tokens)
        assert report.missed_tokens == report.expected_tokens - report.read_tokens > 1_024


async def test_another_model_is_the_cause_of_its_miss(tmp_path: Path) -> None:
    with StrictAnthropic() as server:
        async with talking_to(server, tmp_path / "db", system_prompt=PROMPT) as session:
            await ask(session, 2)
        async with talking_to(server, tmp_path / "db", model="anthropic/claude-opus-4-5") as session:
            misses = watch(session)
            await ask(session)
            assert [miss.cause for miss in misses] == ["model"]


async def test_a_cause_is_known_after_load(tmp_path: Path) -> None:
    with StrictAnthropic() as server:
        async with talking_to(server, tmp_path / "db", system_prompt=PROMPT) as session:
            await ask(session, 3)
        server.clock.advance(200)
        async with talking_to(server, tmp_path / "db") as session:
            misses = watch(session)
            await ask(session)
            assert misses == []
        server.clock.advance(301)
        async with talking_to(server, tmp_path / "db") as session:
            misses = watch(session)
            await ask(session)
            assert [miss.cause for miss in misses] == ["expiry"]


async def test_a_provider_that_drops_its_cache_early_is_found_out(tmp_path: Path) -> None:
    with StrictChatCompletions("openai") as server:
        async with talking_to(server, tmp_path / "db", system_prompt=PROMPT) as session:
            misses = watch(session)
            await ask(session, 3)
            server.forget_cache()
            await ask(session)
            assert [miss.cause for miss in misses] == ["eviction"]


async def test_an_endpoint_without_cache_figures_is_never_blamed(tmp_path: Path) -> None:
    with StrictChatCompletions("openai") as server:
        async with talking_to(server, tmp_path / "db", system_prompt=PROMPT) as session:
            misses = watch(session)
            for _ in range(4):
                server.forget_cache()
                await ask(session)
            assert misses == []


async def test_the_figures_of_an_own_client_are_compared_too(tmp_path: Path) -> None:
    class OwnClient:
        usages = iter(
            [
                TokenUsage(input=100, cache_write=5_000),
                TokenUsage(input=100, cache_read=5_000, cache_write=300),
                TokenUsage(input=5_600),
            ]
        )

        async def complete(self, request: LLMRequest) -> LLMReply:
            return LLMReply(text="OK.", usage=next(self.usages))

        async def stream(self, request: LLMRequest) -> Any:
            yield await self.complete(request)

    async with MnesisSession.open(model="anthropic/claude-x", db_path=tmp_path / "db", llm=OwnClient()) as session:
        misses = watch(session)
        await ask(session, 3)
    assert [(miss.cause, miss.expected_tokens) for miss in misses] == [("eviction", 5_300)]
