"""One string moves sessions, adapters and commands to PostgreSQL."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from click.testing import CliRunner

from mnesis import Engine, MnesisConfig, MnesisSession
from mnesis.config import StoreConfig
from mnesis.engine.known_engines import database_key, find_engine
from mnesis.errors import SessionNotFoundError
from mnesis.llm.mock import MockLLM

pytest.importorskip("psycopg")


async def converse(url: str, turns: int = 3) -> str:
    """Hold a conversation and return the id of its session."""
    async with Engine(url, llm=MockLLM()) as engine:
        session = await MnesisSession.create(model="mock/m", engine=engine)
        for number in range(turns):
            await session.send(f"question {number} about the harbour")
        await session.close()
        return session.id


async def test_a_session_continues_on_another_engine(url: str) -> None:
    session_id = await converse(url)
    async with await MnesisSession.load(session_id, db_path=url, llm=MockLLM()) as session:
        assert len(await session.messages()) == 6
        assert len(await session.search("harbour")) > 0
        await session.send("one more")
    config = MnesisConfig(store=StoreConfig(db_path=url))
    async with await MnesisSession.load(session_id, config=config, llm=MockLLM()) as session:
        assert len(await session.messages()) == 8
    with pytest.raises(SessionNotFoundError):
        await MnesisSession.load("no such session", db_path=url, llm=MockLLM())


async def test_engines_of_one_url_share_a_store_and_a_bus(url: str) -> None:
    async with Engine(url) as one, Engine(url) as other:
        assert one.store is other.store
        assert one.events is other.events
    assert database_key(one) == str(one.path)
    found, is_new = find_engine(database_key(one), must_exist=True)
    assert is_new
    assert found.path == one.path


def run(arguments: list[str], **options: Any) -> Any:
    from mnesis.cli.app import cli

    return CliRunner().invoke(cli, arguments, **options)


def test_commands_work_on_a_url(url: str) -> None:
    session_id = asyncio.run(converse(url))
    for arguments in (
        ["ls"],
        ["show", session_id],
        ["context", session_id],
        ["search", "harbour"],
        ["grep", "harbour"],
        ["stats"],
        ["export", session_id],
        ["doctor"],
        ["reindex"],
        ["migrate"],
    ):
        result = run([*arguments, "--db", url])
        assert result.exit_code == 0, (arguments, result.output)
    listed = json.loads(run(["ls", "--json"], env={"MNESIS_DB": url}).stdout)
    assert [each["id"] for each in listed] == [session_id]
    result = run(["purge", session_id, "--yes", "--db", url])
    assert result.exit_code == 0, result.output
    assert json.loads(run(["ls", "--json", "--db", url]).stdout) == []


@pytest.mark.parametrize("command", ["ls", "doctor", "stats"])
def test_no_command_prints_a_password(command: str) -> None:
    result = run([command, "--db", "postgresql://ada:hunter2-secret@127.0.0.1:1/d", "--timeout", "0.1"])
    assert result.exit_code != 0
    assert "hunter2-secret" not in result.output
    assert "127.0.0.1" in result.output


def test_a_server_has_no_file_to_back_up(url: str, tmp_path: Any) -> None:
    asyncio.run(converse(url, 1))
    result = run(["backup", str(tmp_path / "copy.db"), "--db", url])
    assert result.exit_code != 0
    assert "pg_dump" in result.output
    assert not (tmp_path / "copy.db").exists()
