"""Compaction by the clock: a sweep when the provider's cache has expired, on servers that model the caches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mnesis import MnesisEvent, MnesisSession, TokenUsage
from mnesis.compaction.policy import EXPECTED_REQUESTS, pays_off_when_expired, requests_until_paid_off
from mnesis.config import CompactionConfig
from mnesis.context.budget import make_budget
from mnesis.formats.parse import new_message
from mnesis.models.dialects import DIALECTS, find_dialect
from mnesis.models.message import TextPart
from mnesis.tokens.model_info import ModelInfo
from tests.session.support import until
from tests.support.providers.strict_anthropic import StrictAnthropic
from tests.support.strict_session import strict_server, talking_to

pytestmark = pytest.mark.filterwarnings("ignore::mnesis.context.budget.SmallModelWarning")
LIFETIMES = {"anthropic": 300, "openai": 3_600}
LIMIT = 20_000
"""Of which 12,500 are usable, and the soft threshold is 7,500."""


def watch(session: MnesisSession) -> list[str]:
    """Return a list that receives the triggers of a session's compactions."""
    triggers: list[str] = []
    session.subscribe(MnesisEvent.COMPACTION_TRIGGERED, lambda event, payload: triggers.append(payload.trigger))
    return triggers


def opened(server: Any, db: Path, **compaction: Any) -> Any:
    return talking_to(server, db, context_limit=LIMIT, auto=True, compaction=compaction, system_prompt="Be brief.")


async def ask(session: MnesisSession, turns: int) -> None:
    for turn in range(turns):
        await session.send(f"question {turn} " * 300)


@pytest.mark.parametrize("provider", ["anthropic", "openai"])
async def test_an_expired_cache_is_compacted_before_the_next_request(provider: str, tmp_path: Path) -> None:
    with strict_server(provider) as server:
        async with opened(server, tmp_path / "db") as session:
            triggers = watch(session)
            await ask(session, 6)
            server.clock.advance(LIFETIMES[provider] - 1)
            await session.send("Still there?")
            assert triggers == []
            before = session.context_tokens
            server.clock.advance(LIFETIMES[provider] + 1)
            result = await session.send("And now?")
            assert triggers == ["expiry"]
            assert result.compaction_result is not None
            assert result.compaction_result.trigger == "expiry"
            assert result.tokens.request_tokens < before
            await session.send("Next.")
            assert triggers == ["expiry"]
        assert server.rejections == []


async def test_the_time_of_the_last_request_survives_load(tmp_path: Path) -> None:
    with StrictAnthropic() as server:
        async with opened(server, tmp_path / "db") as session:
            await ask(session, 6)
        server.clock.advance(301)
        async with opened(server, tmp_path / "db") as session:
            triggers = watch(session)
            await session.send("Good morning.")
            assert triggers == ["expiry"]


@pytest.mark.parametrize(
    ("turns", "options"),
    [(6, {"cache_expiry": "ignore"}), (2, {}), (6, {"expiry_threshold_fraction": 1.0})],
    ids=["switched off", "a short context", "another threshold"],
)
async def test_no_sweep_runs_that_does_not_pay_off(turns: int, options: dict[str, Any], tmp_path: Path) -> None:
    with StrictAnthropic() as server:
        async with opened(server, tmp_path / "db", **options) as session:
            triggers = watch(session)
            await ask(session, turns)
            server.clock.advance(301)
            await session.send("Good morning.")
            assert triggers == []


async def test_the_own_client_of_a_user_gets_the_compacted_context(tmp_path: Path) -> None:
    with StrictAnthropic() as server:
        async with opened(server, tmp_path / "db") as session:
            triggers = watch(session)
            for turn in range(6):
                await session.record(f"question {turn} " * 300, "OK.", tokens=TokenUsage(input=800 * turn + 800))
            await session.context_for_next_turn(provider="anthropic")
            # How long its client's marks ask for is not known: an hour is certain.
            server.clock.advance(3_599)
            await session.context_for_next_turn(provider="anthropic")
            assert triggers == []
            server.clock.advance(2)
            await session.context_for_next_turn(provider="anthropic")
            assert triggers == ["expiry"]


async def test_an_idle_session_can_compact_before_the_cache_expires(tmp_path: Path) -> None:
    with StrictAnthropic() as server:
        # The timer waits for what is left of 300 seconds without the margin: almost nothing.
        async with opened(server, tmp_path / "db", cache_expiry="before", expiry_margin_seconds=299.99) as session:
            triggers = watch(session)
            await session.send("Hello.")
            assert triggers == []
            await ask(session, 6)
            await until(lambda: bool(triggers))
            assert triggers[0] == "expiry"


async def test_closing_a_session_does_not_wait_for_the_expiry(tmp_path: Path) -> None:
    with StrictAnthropic() as server:
        async with opened(server, tmp_path / "db", cache_expiry="before") as session:
            triggers = watch(session)
            await ask(session, 6)
        assert triggers == []


def test_a_sweep_is_paid_off_sooner_the_more_writing_costs() -> None:
    cache = find_dialect("anthropic/claude-sonnet-4-5").cache
    assert cache is not None
    assert requests_until_paid_off(cache, "1h") == 1
    assert requests_until_paid_off(cache, "5m") == pytest.approx(1 + (1.625 - 1.25) / 0.1)
    for dialect in DIALECTS:
        if dialect.cache is not None and dialect.name != "ollama":
            lifetime = next(iter(dialect.cache.lifetimes_seconds))
            assert requests_until_paid_off(dialect.cache, lifetime) <= EXPECTED_REQUESTS


def test_a_model_that_costs_nothing_is_never_compacted_by_the_clock() -> None:
    budget = make_budget(ModelInfo.from_model_string("ollama/qwen3:8b"), CompactionConfig(), 0)
    assert not pays_off_when_expired(budget.soft_tokens, budget, 0.5, find_dialect("ollama/qwen3:8b").cache, "5m")
    claude = find_dialect("anthropic/claude-sonnet-4-5").cache
    assert pays_off_when_expired(budget.soft_tokens, budget, 0.5, claude, "5m")
    assert not pays_off_when_expired(budget.soft_tokens // 2 - 1, budget, 0.5, claude, "5m")


async def test_the_window_of_an_adapter_is_compacted_by_the_clock(tmp_path: Path) -> None:
    with StrictAnthropic() as server:
        async with opened(server, tmp_path / "db") as session:
            triggers = watch(session)
            for turn in range(6):
                await session.append([new_message("user", (TextPart(text=f"question {turn} " * 300),))])
                await session.append([new_message("assistant", (TextPart(text="OK."),))], ends_turn=True)
            server.clock.advance(3_599)
            assert not session.is_compaction_due()
            await session.window()
            assert triggers == []
            server.clock.advance(2)
            assert session.is_compaction_due()
            await session.window()
            assert triggers == ["expiry"]
            assert not session.is_compaction_due()


async def test_the_model_that_answered_decides_when_its_cache_expires(tmp_path: Path) -> None:
    """An adapter's client may be of another provider than the session's model, or of none that is known."""
    due = {}
    for model in ("claude-sonnet-4-5", "deepseek-chat", "my-model"):
        with StrictAnthropic() as server:
            async with opened(server, tmp_path / f"{model}.db") as session:
                for turn in range(6):
                    await session.append([new_message("user", (TextPart(text=f"question {turn} " * 300),))])
                    await session.append([new_message("assistant", (TextPart(text="OK."),))], model=model)
                server.clock.advance(3_601)
                due[model] = [session.is_compaction_due()]
                server.clock.advance(86_400)
                due[model].append(session.is_compaction_due())
    assert due == {"claude-sonnet-4-5": [True, True], "deepseek-chat": [False, True], "my-model": [False, False]}
