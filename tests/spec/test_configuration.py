"""Every example, field and default of the page "Configuration"."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mnesis import (
    CompactionConfig,
    ConfigurationError,
    FileConfig,
    MnesisConfig,
    MnesisSession,
    ModelOverrides,
    OperatorConfig,
    RetryConfig,
    SessionConfig,
    StoreConfig,
)
from mnesis.testing import ScriptedLLM
from tests.session.support import MODEL, small, talk
from tests.support.summaries import acceptable_summary

DEFAULTS = [
    (CompactionConfig, "auto", True),
    (CompactionConfig, "compaction_output_budget", 20_000),
    (CompactionConfig, "prune", True),
    (CompactionConfig, "prune_protect_tokens", 40_000),
    (CompactionConfig, "prune_minimum_tokens", 20_000),
    (CompactionConfig, "compaction_model", None),
    (CompactionConfig, "level2_enabled", True),
    (CompactionConfig, "compaction_prompt", None),
    (CompactionConfig, "soft_threshold_fraction", 0.6),
    (CompactionConfig, "max_compaction_rounds", 10),
    (CompactionConfig, "condensation_enabled", True),
    (FileConfig, "inline_threshold", 10_000),
    (FileConfig, "exploration_summary_model", None),
    (StoreConfig, "wal_mode", True),
    (StoreConfig, "connection_timeout", 30.0),
    (OperatorConfig, "llm_map_concurrency", 16),
    (OperatorConfig, "agentic_map_concurrency", 4),
    (OperatorConfig, "max_retries", 3),
    (SessionConfig, "doom_loop_threshold", 3),
    (SessionConfig, "retry", RetryConfig()),
    (RetryConfig, "max_retries", 0),
    (RetryConfig, "base_delay", 1.0),
    (RetryConfig, "max_delay", 60.0),
    (RetryConfig, "jitter", True),
    (MnesisConfig, "model_overrides", None),
]


@pytest.mark.parametrize(("config", "field", "default"), DEFAULTS)
def test_a_field_has_the_documented_default(config: type, field: str, default: object) -> None:
    assert getattr(config(), field) == default
    assert type(getattr(config(), field)) is type(default)


def test_the_default_paths_are_in_the_home_directory_of_the_moment() -> None:
    home = Path(os.environ["HOME"])
    assert StoreConfig().db_path == home / ".mnesis" / "sessions.db"
    assert FileConfig().storage_dir == home / ".mnesis" / "files"
    assert MnesisConfig().store.db_path == home / ".mnesis" / "sessions.db"


def test_a_tilde_is_expanded() -> None:
    assert StoreConfig(db_path="~/elsewhere.db").db_path == Path(os.environ["HOME"], "elsewhere.db")
    assert FileConfig(storage_dir="~/files").storage_dir == Path(os.environ["HOME"], "files")


def test_the_groups_are_put_together_as_shown() -> None:
    config = MnesisConfig(
        compaction=CompactionConfig(auto=False),
        file=FileConfig(inline_threshold=500),
        store=StoreConfig(wal_mode=False),
        operators=OperatorConfig(max_retries=1),
    )
    assert (
        config.compaction.auto,
        config.file.inline_threshold,
        config.store.wal_mode,
        config.operators.max_retries,
    ) == (
        False,
        500,
        False,
        1,
    )
    assert config.session == SessionConfig()


async def test_a_session_is_created_with_a_config() -> None:
    config = MnesisConfig(session=SessionConfig(doom_loop_threshold=5))
    session = await MnesisSession.create(model="openai/gpt-4o", config=config)
    assert session.config == config
    await session.close()


async def test_the_tuning_for_large_models_fits_a_large_model() -> None:
    config = MnesisConfig(
        compaction=CompactionConfig(
            compaction_output_budget=100_000,
            prune_protect_tokens=200_000,
            prune_minimum_tokens=50_000,
        )
    )
    async with MnesisSession.open(model="gemini/gemini-1.5-pro", config=config) as session:
        budget = session.budget
        assert budget.context_limit >= 1_000_000
        assert budget.usable_tokens == budget.context_limit - budget.max_output_tokens - 100_000


async def test_a_custom_compaction_prompt_reaches_the_summariser(tmp_path: Path) -> None:
    wish = "Summarise this conversation focusing on technical decisions only."
    model = ScriptedLLM(acceptable_summary)
    config = small(compaction_prompt=wish)
    async with MnesisSession.open(model=MODEL, db_path=tmp_path / "a.db", config=config, llm=model) as session:
        await talk(session, 8)
        result = await session.compact()
    assert result.level_used == 1
    assert any(wish in str(message["content"]) for message in model.requests[0].messages)


async def test_the_compaction_model_writes_summaries_if_there_is_one(tmp_path: Path) -> None:
    model = ScriptedLLM(acceptable_summary)
    config = small(compaction_model="openai/gpt-4o-mini")
    async with MnesisSession.open(model=MODEL, db_path=tmp_path / "a.db", config=config, llm=model) as session:
        await talk(session, 8)
        await session.compact()
        await session.send("hello")
    assert [(request.purpose, request.model) for request in model.requests] == [
        ("summary", "openai/gpt-4o-mini"),
        ("turn", MODEL),
    ]


async def test_a_function_may_write_the_summaries(tmp_path: Path) -> None:
    seen: list[object] = []

    def summarise(messages: list[dict[str, Any]]) -> str:
        seen.extend(messages)
        return acceptable_summary(messages, "Written by a function.")

    config = small(compaction_model=summarise)
    async with MnesisSession.open(
        model=MODEL, db_path=tmp_path / "a.db", config=config, llm=ScriptedLLM([])
    ) as session:
        await talk(session, 8)
        result = await session.compact()
        summary = (await session.summaries())[0]
    assert result.level_used == 1
    assert summary.text.startswith("Written by a function.")
    assert "drawer 0" in str(seen)


async def test_without_auto_no_compaction_runs_by_itself(tmp_path: Path) -> None:
    model = ScriptedLLM(acceptable_summary)
    config = small(auto=False)
    async with MnesisSession.open(model=MODEL, db_path=tmp_path / "a.db", config=config, llm=model) as session:
        await talk(session, 60)
        result = await session.send("still there?")
        assert not result.compaction_triggered
        assert await session.compactions() == []
        window = await session.window()
        assert window.tokens <= session.budget.usable_tokens
        assert (await session.compact()).level_used == 1


async def test_without_level_2_the_fallback_follows_level_1(tmp_path: Path) -> None:
    model = ScriptedLLM("")
    config = small(level2_enabled=False)
    async with MnesisSession.open(model=MODEL, db_path=tmp_path / "a.db", config=config, llm=model) as session:
        await talk(session, 8)
        result = await session.compact()
    assert [attempt.level for attempt in result.attempts] == [1, 3]
    assert result.level_used == 3


async def test_with_level_2_it_is_tried_before_the_fallback(tmp_path: Path) -> None:
    async with MnesisSession.open(
        model=MODEL, db_path=tmp_path / "a.db", config=small(), llm=ScriptedLLM("")
    ) as session:
        await talk(session, 8)
        result = await session.compact()
    assert [attempt.level for attempt in result.attempts] == [1, 2, 3]


async def test_condensation_can_be_switched_off(tmp_path: Path) -> None:
    kinds = {}
    for enabled in (True, False):
        config = small(condensation_enabled=enabled, soft_threshold_fraction=0.3, low_water_fraction=0.05)
        async with MnesisSession.open(
            model=MODEL, db_path=tmp_path / f"{enabled}.db", config=config, llm=ScriptedLLM(acceptable_summary)
        ) as session:
            for start in range(0, 60, 6):
                await talk(session, 6, first=start)
                await session.compact()
            kinds[enabled] = {summary.kind for summary in await session.summaries()}
    assert kinds == {True: {"leaf", "condensed"}, False: {"leaf"}}


async def test_the_journal_mode_follows_wal_mode(tmp_path: Path) -> None:
    import sqlite3

    for wal, mode in ((True, "wal"), (False, "delete")):
        path = tmp_path / f"{mode}.db"
        config = MnesisConfig(store=StoreConfig(db_path=path, wal_mode=wal))
        async with MnesisSession.open(model=MODEL, config=config) as session:
            await session.record("a", "b")
        with sqlite3.connect(path) as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone()[0] == mode
        connection.close()


async def test_a_memory_database_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in ({"db_path": ":memory:"}, {"config": MnesisConfig(store=StoreConfig(db_path=":memory:"))}):
        async with MnesisSession.open(model=MODEL, **arguments) as session:  # type: ignore[arg-type]  # one of two
            await session.record("a", "b")
            assert len(await session.messages()) == 2
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240 - a test may look at its own files


REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: CompactionConfig(autoo=False), "autoo"),
    (lambda: MnesisConfig(compation=CompactionConfig()), "compation"),
    (lambda: MnesisConfig(model_overrides={"contxt_limit": 1}), "contxt_limit"),
    (lambda: MnesisConfig(model_overrides={"context_limit": "128k"}), "context_limit"),
    (lambda: MnesisConfig(model_overrides=7), "model_overrides"),
    (lambda: MnesisConfig(compaction=StoreConfig()), "compaction"),
    (lambda: CompactionConfig(auto="yes"), "auto"),
    (lambda: CompactionConfig(compaction_output_budget=999), "compaction_output_budget"),
    (lambda: CompactionConfig(compaction_output_budget=200_001), "compaction_output_budget"),
    (lambda: CompactionConfig(compaction_output_budget=20_000.5), "compaction_output_budget"),
    (lambda: CompactionConfig(prune_protect_tokens=-1), "prune_protect_tokens"),
    (lambda: CompactionConfig(prune_minimum_tokens=40_000), "prune_minimum_tokens"),
    (lambda: CompactionConfig(compaction_model=5), "compaction_model"),
    (lambda: CompactionConfig(compaction_model=""), "compaction_model"),
    (lambda: CompactionConfig(compaction_prompt=""), "compaction_prompt"),
    (lambda: CompactionConfig(soft_threshold_fraction=0.05), "soft_threshold_fraction"),
    (lambda: CompactionConfig(soft_threshold_fraction=1.0), "soft_threshold_fraction"),
    (lambda: CompactionConfig(soft_threshold_fraction=True), "soft_threshold_fraction"),
    (lambda: CompactionConfig(soft_threshold_fraction=0.1), "low_water_fraction"),
    (lambda: CompactionConfig(max_compaction_rounds=0), "max_compaction_rounds"),
    (lambda: CompactionConfig(max_compaction_rounds=51), "max_compaction_rounds"),
    (lambda: CompactionConfig(timeout_seconds=0), "timeout_seconds"),
    (lambda: CompactionConfig(timeout_seconds=float("inf")), "timeout_seconds"),
    (lambda: FileConfig(inline_threshold=99), "inline_threshold"),
    (lambda: FileConfig(storage_dir=""), "storage_dir"),
    (lambda: StoreConfig(connection_timeout=-1), "connection_timeout"),
    (lambda: StoreConfig(connection_timeout=float("inf")), "connection_timeout"),
    (lambda: StoreConfig(connection_timeout=float("nan")), "connection_timeout"),
    (lambda: StoreConfig(db_path=""), "db_path"),
    (lambda: StoreConfig(db_path=5), "db_path"),
    (lambda: StoreConfig(durability="maybe"), "durability"),
    (lambda: OperatorConfig(llm_map_concurrency=0), "llm_map_concurrency"),
    (lambda: OperatorConfig(llm_map_concurrency=129), "llm_map_concurrency"),
    (lambda: OperatorConfig(agentic_map_concurrency=33), "agentic_map_concurrency"),
    (lambda: OperatorConfig(max_retries=11), "max_retries"),
    (lambda: SessionConfig(doom_loop_threshold=1), "doom_loop_threshold"),
    (lambda: SessionConfig(doom_loop_threshold=11), "doom_loop_threshold"),
    (lambda: SessionConfig(max_tool_rounds=0), "max_tool_rounds"),
    (lambda: RetryConfig(max_retries=21), "max_retries"),
    (lambda: RetryConfig(max_retries=-1), "max_retries"),
    (lambda: RetryConfig(base_delay=-0.1), "base_delay"),
    (lambda: RetryConfig(base_delay=61.0), "base_delay"),
    (lambda: RetryConfig(max_delay=float("inf")), "max_delay"),
    (lambda: ModelOverrides(context_limit=100), "context_limit"),
    (lambda: ModelOverrides(encoding="p50k_base"), "encoding"),
]


@pytest.mark.parametrize(("make", "field"), REFUSED)
def test_a_setting_that_cannot_work_is_refused_by_name(make: Callable[[], object], field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        make()


def test_a_setting_cannot_be_changed_behind_the_checks() -> None:
    config = MnesisConfig()
    with pytest.raises(ValidationError, match="frozen"):
        config.compaction.soft_threshold_fraction = 7.0  # type: ignore[misc]  # the point of the test


def test_an_unknown_field_is_answered_with_the_one_that_was_meant() -> None:
    with pytest.raises(ValidationError, match="did you mean 'soft_threshold_fraction'"):
        CompactionConfig(soft_treshold_fraction=0.5)  # type: ignore[call-arg]  # the point of the test


async def test_thresholds_that_can_never_be_satisfied_are_refused_on_open(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with pytest.raises(ConfigurationError, match=r"system prompt takes .* tokens") as caught:
        await MnesisSession.create(model=MODEL, system_prompt="word " * 9_000, config=small(), db_path=path)
    assert "low_water_fraction" in str(caught.value)
    async with MnesisSession.open(model=MODEL, db_path=path) as session:
        assert (await session.engine.sessions()).sessions[0].id == session.id
        assert len((await session.engine.sessions()).sessions) == 1


async def test_overrides_set_the_limits_of_the_session_model() -> None:
    config = MnesisConfig(model_overrides={"context_limit": 64_000, "max_output_tokens": 2_000})
    async with MnesisSession.open(model=MODEL, config=config) as session:
        assert session.budget.context_limit == 64_000
        assert session.budget.usable_tokens == 64_000 - 2_000 - 20_000
