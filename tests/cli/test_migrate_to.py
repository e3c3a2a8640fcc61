"""`mnesis migrate --to` copies a database of either kind to the other, verifies it and can be repeated."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mnesis import CompactionConfig, Engine, MnesisConfig, MnesisSession
from mnesis.cli.app import cli
from mnesis.cli.copy_database import copy_database
from mnesis.errors import MnesisStoreError
from mnesis.models.run import ItemOutcome, RunSpec
from mnesis.models.session import Interruption, SessionRecord
from mnesis.models.usage import TokenUsage
from mnesis.store.base import Append
from mnesis.store.memory import MemoryStore
from mnesis.store.sqlite import SqliteStore
from mnesis.testing.store_samples import make_turn, store_conversation
from tests.support.postgres import temporary_schema

CONFIG = MnesisConfig(compaction=CompactionConfig(auto=False))


async def fill(path: Path) -> None:
    """Store sessions with summaries, hidden spans, pins, a child and a map run."""
    async with Engine(path, config=CONFIG) as engine:
        async with MnesisSession.open(model=None, session_id="parent", engine=engine) as session:
            for number in range(8):
                await session.record(f"question {number} about valves", f"answer {number} " * 40)
            await session.compact()
            await session.hide(15, 16)
            await session.record("one more", "yes")
        store = engine.store
        await store.pin("parent", 17)
        await store.create_session(SessionRecord(id="child", model="m", parent_id="parent", metadata={"k": [1]}))
        await store.append("child", make_turn(1))
        await store.record_interruption("child", Interruption(2, "failed", "E", "e", "", 1))
        await store.append("parent", Append([]))
        await store.begin_run(RunSpec("run", "llm_map", "print", "m", 5))
        await store.add_items("run", 0, ["1", "2", "3", "4"])
        await store.seal_run("run", 4)
        await store.claim_items("run", "w", limit=3, now_ms=0, lease_ms=1, max_claims=9)
        outcomes = [ItemOutcome(0, "done", '"a"', 2, TokenUsage(input=5), 0.5), ItemOutcome(2, "failed", '"b"')]
        await store.finish_items("run", "w", outcomes)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(each) for each in arguments])


def copied(*arguments: object) -> dict[str, Any]:
    result = run("migrate", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)  # type: ignore[no-any-return]  # the documented form


def test_a_database_moves_to_a_server_and_back(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    asyncio.run(fill(tmp_path / "a.db"))
    with temporary_schema() as url:
        there = copied("--db", tmp_path / "a.db", "--to", url)
        assert (there["sessions"], there["messages"], there["runs"]) == (2, 20, 1)
        again = copied("--db", tmp_path / "a.db", "--to", url)
        assert (again["sessions"], again["sessions_present"]) == (0, 2)
        back = copied("--db", url, "--to", tmp_path / "b.db")
        assert back["heads"] == there["heads"]
        assert run("doctor", "--db", url).exit_code == 0
    assert run("doctor", "--db", tmp_path / "b.db").exit_code == 0
    heads = {
        name: json.loads(run("verify", "--db", tmp_path / name, "--json").stdout)["heads"] for name in ("a.db", "b.db")
    }
    assert heads["a.db"] == heads["b.db"]


async def test_runs_keep_their_results_counts_and_sums(tmp_path: Path) -> None:
    await fill(tmp_path / "a.db")
    source, target = SqliteStore(tmp_path / "a.db"), MemoryStore()
    for store in (source, target):
        await store.open()
    await copy_database(source, target)
    before, after = await source.run("run"), await target.run("run")
    assert (after.done, after.failed, after.attempts, after.cost) == (1, 1, 3, 0.5)
    assert after.usage == before.usage
    assert [item.outcome for item in await target.run_items("run")] == ['"a"', None, '"b"', None]
    assert [item.state for item in await target.run_items("run")] == ["done", "pending", "failed", "pending"]
    await source.close()


async def test_what_an_interrupted_copy_left_is_copied_again(tmp_path: Path) -> None:
    await fill(tmp_path / "a.db")
    source, target = SqliteStore(tmp_path / "a.db"), MemoryStore()
    for store in (source, target):
        await store.open()
    parent = await source.session("parent")
    await target.create_session(SessionRecord(id="parent", model="none", created_at=parent.created_at))
    await target.append("parent", Append((await source.messages("parent"))[:3]))
    report = await copy_database(source, target)
    assert report.sessions == 2
    assert await target.messages("parent") == await source.messages("parent")
    assert (await target.active_context("parent")).pins == frozenset({17})
    await source.close()


async def test_another_session_of_the_same_id_is_left_as_it_is(tmp_path: Path) -> None:
    await fill(tmp_path / "a.db")
    source, target = SqliteStore(tmp_path / "a.db"), MemoryStore()
    for store in (source, target):
        await store.open()
    other = await store_conversation(target, 2, "parent")
    with pytest.raises(MnesisStoreError, match="another session 'parent'"):
        await copy_database(source, target)
    assert await target.messages("parent") == other
    await source.close()


def test_a_database_is_not_copied_to_itself(tmp_path: Path) -> None:
    asyncio.run(fill(tmp_path / "a.db"))
    result = run("migrate", "--db", tmp_path / "a.db", "--to", tmp_path / "." / "a.db")
    assert result.exit_code == 2
    assert "itself" in result.output
