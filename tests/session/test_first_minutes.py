"""What a first program does: open in either way, settings as dicts, the database of the environment, short errors."""

from __future__ import annotations

import asyncio
import os
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mnesis import Engine, MnesisConfig, MnesisSession, RetryConfig, SessionConfig, StoreConfig
from mnesis.config import parse_config
from mnesis.errors import LLMAuthenticationError, NoModelError, SessionClosedError
from mnesis.session.pool import SessionPool, SessionSettings
from mnesis.sync import SyncSession, run
from mnesis.testing import ScriptedLLM

MODEL = "openai/gpt-4o"
METHODS = [MnesisSession.open, MnesisSession.create]


@pytest.mark.parametrize("method", METHODS, ids=["open", "create"])
async def test_a_session_opens_by_await_and_by_async_with(method: Callable[..., Any], tmp_path: Path) -> None:
    async with method(model=MODEL, db_path=tmp_path / "x.db", session_id="x") as entered:
        await entered.record("a", "b")
    with pytest.raises(SessionClosedError):
        await entered.messages()
    awaited = await method(model=MODEL, db_path=tmp_path / "x.db", session_id="x")
    assert len(await awaited.messages()) == 2
    async with awaited as again:
        assert again is awaited
    with pytest.raises(SessionClosedError):
        await awaited.messages()
    async with MnesisSession.load("x", db_path=tmp_path / "x.db") as loaded:
        assert len(await loaded.messages()) == 2


async def test_an_opening_session_is_a_coroutine_for_asyncio(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "x.db")
    task = asyncio.create_task(MnesisSession.create(model=MODEL, engine=engine, session_id="a"))
    waited = await asyncio.wait_for(MnesisSession.create(model=MODEL, engine=engine, session_id="b"), 60)
    gathered = await asyncio.gather(*(MnesisSession.open(model=MODEL, engine=engine, session_id=i) for i in "cd"))
    assert [session.id for session in (await task, waited, *gathered)] == list("abcd")
    await engine.close()


def test_an_opening_session_runs_from_plain_code(tmp_path: Path) -> None:
    session = run(MnesisSession.create(model=MODEL, db_path=tmp_path / "x.db", session_id="a"))
    run(session.close())
    for method in (SyncSession.open, SyncSession.create):
        with method(model=MODEL, db_path=tmp_path / "x.db") as entered:
            entered.record("a", "b")
        opened = method(model=MODEL, db_path=tmp_path / "x.db")
        assert opened.messages() == []
        opened.close()


async def test_an_error_in_the_block_still_closes_the_session(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with MnesisSession.create(model=MODEL, db_path=tmp_path / "x.db") as session:
            1 / 0  # noqa: B018  # the error
    with pytest.raises(SessionClosedError):
        await session.messages()


def test_groups_of_settings_may_be_dicts() -> None:
    as_dicts = MnesisConfig(
        compaction={"auto": False},
        file={"inline_threshold": 500},
        store={"wal_mode": False},
        operators={"max_retries": 1},
        session={"retry": {"max_retries": 2}},
        recall={"enabled": True},
        model_overrides={"context_limit": 64_000},
    )
    assert as_dicts.session == SessionConfig(retry=RetryConfig(max_retries=2))
    assert (as_dicts.compaction.auto, as_dicts.file.inline_threshold, as_dicts.store.wal_mode) == (False, 500, False)
    assert (as_dicts.operators.max_retries, as_dicts.recall.enabled) == (1, True)
    assert as_dicts.model_overrides is not None
    assert parse_config({"session": {"retry": {"max_retries": 2}}}) == MnesisConfig(session=as_dicts.session)
    with pytest.raises(ValidationError, match=r"session\.retry\.max_retries"):
        MnesisConfig(session={"retry": {"max_retries": "two"}})


async def test_every_entry_takes_a_dict_as_config(tmp_path: Path) -> None:
    config = {"compaction": {"auto": False}, "store": {"db_path": str(tmp_path / "x.db")}}
    async with Engine(config=config) as engine:
        assert (engine.config.compaction.auto, engine.path) == (False, str(tmp_path / "x.db"))
    async with MnesisSession.create(model=MODEL, config=config, session_id="x") as session:
        assert session.config.compaction.auto is False
    async with MnesisSession.load("x", config) as loaded:
        assert loaded.config.compaction.auto is False
    pool = SessionPool(db_path=tmp_path / "x.db", settings=SessionSettings(config=config))
    assert (await pool.get_or_create("x")).config.compaction.auto is False
    await pool.close()


async def test_mnesis_db_names_the_database_of_every_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNESIS_DB", str(tmp_path / "environment.db"))
    async with MnesisSession.create(model=None, session_id="ada") as session:
        await session.record("a", "b")
    async with Engine() as engine:
        assert engine.path == str(tmp_path / "environment.db")
        await engine.store.session("ada")
    with SyncSession.load("ada") as loaded:
        assert len(loaded.messages()) == 2
    pool = SessionPool()
    assert await pool.get("ada") is not None
    await pool.close()
    # What the program says itself goes first.
    explicit = MnesisConfig(store={"db_path": str(tmp_path / "config.db")})
    assert Engine(config=explicit).path == str(tmp_path / "config.db")
    assert Engine(tmp_path / "argument.db", config=explicit).path == str(tmp_path / "argument.db")
    monkeypatch.setenv("MNESIS_DB", "")
    assert Engine().path == f"{os.environ['HOME']}/.mnesis/sessions.db"
    monkeypatch.setenv("MNESIS_DB", "~/other.db")
    assert StoreConfig().resolve_path() == f"{os.environ['HOME']}/other.db"


async def _send_plainly(session: MnesisSession) -> None:
    await session.send("hi")


async def _send_streaming(session: MnesisSession) -> None:
    async for _ in session.stream("hi"):
        pass


@pytest.mark.parametrize("send", [_send_plainly, _send_streaming], ids=["send", "stream"])
async def test_a_missing_key_gives_a_short_error(
    send: Callable[[MnesisSession], Awaitable[None]], tmp_path: Path
) -> None:
    async with MnesisSession.open(model=MODEL, db_path=tmp_path / "x.db") as session:
        with pytest.raises(LLMAuthenticationError) as caught:
            await send(session)
        lines = "".join(traceback.format_exception(caught.value)).splitlines()
        assert len(lines) <= 25
        assert lines[-1].endswith("there is no API key; set OPENAI_API_KEY, or pass api_key in llm_options")
        assert "litellm" not in "".join(lines)


async def test_a_message_without_a_model_can_be_retried_with_one(tmp_path: Path) -> None:
    async with MnesisSession.open(model=None, db_path=tmp_path / "x.db", session_id="x") as session:
        with pytest.raises(NoModelError, match="has no model"):
            await session.send("hi")
        assert (await session.compact()).level_used == 0
    async with MnesisSession.load("x", db_path=tmp_path / "x.db", llm=ScriptedLLM("hello")) as session:
        assert (await session.retry()).text == "hello"


async def test_what_is_passed_replaces_what_is_stored_and_what_is_omitted_stays(tmp_path: Path) -> None:
    db = tmp_path / "x.db"
    first = await MnesisSession.create(model=MODEL, db_path=db, session_id="x", system_prompt="You are A.")
    second = await MnesisSession.create(
        model="anthropic/claude-opus-4-6", db_path=db, session_id="x", system_prompt="You are B."
    )
    # Objects that are open already keep theirs, both of them.
    assert (first.model, first.system_prompt) == (MODEL, "You are A.")
    assert (await first.context_for_next_turn()).system == "You are A."
    assert (await second.context_for_next_turn()).system == "You are B."
    await first.record("a", "b")
    assert (await first.window()).system_prompt == "You are A."
    async with MnesisSession.load("x", db_path=db) as loaded:
        assert (loaded.model, loaded.system_prompt) == ("anthropic/claude-opus-4-6", "You are B.")
    async with MnesisSession.open(model=None, db_path=db, session_id="x") as opened:
        assert (opened.model, opened.system_prompt) == ("anthropic/claude-opus-4-6", "You are B.")
    for session in (first, second):
        await session.close()


async def test_a_pool_follows_the_same_rule_for_the_model(tmp_path: Path) -> None:
    db = tmp_path / "x.db"
    async with MnesisSession.create(model=MODEL, db_path=db, session_id="x", system_prompt="You are A."):
        pass
    for settings, expected in (
        (SessionSettings(), MODEL),
        (SessionSettings(default_model="openai/gpt-4o-mini"), MODEL),
        (SessionSettings(model="anthropic/claude-opus-4-6"), "anthropic/claude-opus-4-6"),
        (SessionSettings(), "anthropic/claude-opus-4-6"),
    ):
        pool = SessionPool(db_path=db, settings=settings)
        session = await pool.get_or_create("x")
        assert (session.model, session.system_prompt) == (expected, "You are A.")
        await pool.close()
