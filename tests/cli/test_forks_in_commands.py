"""Commands understand forks: they list, show, export, import, copy, count and purge them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from mnesis import CompactionConfig, Engine, MnesisConfig, MnesisSession
from mnesis.cli.copy_database import copy_database
from mnesis.models.context import Prune
from mnesis.store.base import Append, Store
from mnesis.store.memory import MemoryStore
from mnesis.store.sqlite import SqliteStore
from mnesis.testing.store_samples import make_compaction, make_turn
from tests.cli.conftest import Run

CONFIG = MnesisConfig(compaction=CompactionConfig(auto=False))


async def fill(path: Path) -> None:
    """Store a folded session and three forks: before its fold, after it, and of the second fork."""
    async with Engine(path, config=CONFIG) as engine:
        async with MnesisSession.open(model=None, session_id="origin", engine=engine) as session:
            for number in range(8):
                await session.record(f"question {number} about valves", f"answer {number} " * 40)
            log = await session.messages()
            await engine.fork("origin", at=log[5].id, new_id="early")
            await session.compact()
            await session.record("one more", "yes")
            await engine.fork("origin", new_id="late")
        async with MnesisSession.load("late", engine=engine) as late:
            await late.record("only in the fork", "indeed " * 30)
            await late.compact(keep_tokens=10)
            await engine.store.pin("late", (await engine.store.session("late")).last_seq)
        await engine.fork("late", new_id="latest")
        store = engine.store
        await store.append("early", make_turn(1))
        covers = (await store.active_context("origin")).covers
        await store.compact("origin", make_compaction(covers, covers, (), [Prune(17, 0, 1)]))


@pytest.fixture
def db(tmp_path: Path) -> Path:
    asyncio.run(fill(tmp_path / "s.db"))
    return tmp_path / "s.db"


async def describe(store: Store, session_id: str) -> Any:
    """Return what two copies of a session have in common."""
    context = await store.active_context(session_id)
    return (
        await store.messages(session_id),
        [(summary.id, summary.text, summary.child_ids) for summary in await store.summaries(session_id)],
        (context.covers, context.prunes, context.pins, context.session.message_tokens, context.session.usage),
        [turn.seq for turn in store.turns(session_id)],
        context.session.forked_from,
    )


def test_a_fork_is_created_listed_and_shown(run: Run, db: Path) -> None:
    created = run("fork", "origin", "--at", "4", "--as", "mine", "--db", db)
    assert (created.exit_code, created.stdout) == (0, "mine\n")
    assert "4 messages shared" in created.stderr
    again = json.loads(run("fork", "origin", "--at", "4", "--as", "mine", "--json", "--db", db).stdout)
    assert (again["session_id"], again["forked_from"], again["shared_messages"]) == ("mine", "origin", 4)
    assert run("fork", "origin", "--at", "no", "--db", db).exit_code == 2
    rows = {row["id"]: row for row in json.loads(run("ls", "--json", "--db", db).stdout)}
    assert (rows["mine"]["forked_from"], rows["mine"]["messages"], rows["origin"]["forked_from"]) == ("origin", 4, None)
    assert "⑂" in run("ls", "--db", db).stdout
    shown = run("show", "mine", "--db", db)
    assert "question 1 about valves" in shown.stdout
    assert "shared with origin" in shown.stderr
    for command in ("context", "dag", "timeline", "verify", "doctor"):
        assert run(command, *(() if command in ("verify", "doctor") else ("mine",)), "--db", db).exit_code == 0


def test_totals_count_shared_messages_once(run: Run, db: Path) -> None:
    whole = json.loads(run("stats", "--json", "--db", db).stdout)
    assert whole["messages"] == 18 + 2 + 2
    assert json.loads(run("stats", "late", "--json", "--db", db).stdout)["messages"] == 20


def test_a_purge_names_the_forks_and_erases_them_if_told(run: Run, db: Path) -> None:
    plan = json.loads(run("purge", "origin", "--json", "--db", db).stdout)
    assert plan["fork_ids"] == ["early", "late", "latest"]
    refused = run("purge", "origin", "--apply", "--db", db)
    assert (refused.exit_code, "--with-forks" in refused.stderr) == (1, True)
    assert run("purge", "--match", "x", "--with-forks", "--db", db).exit_code == 2
    assert run("purge", "early", "--apply", "--db", db).exit_code == 0
    assert run("purge", "origin", "--with-forks", "--apply", "--db", db).exit_code == 0
    assert json.loads(run("ls", "--json", "--db", db).stdout) == []


def test_exports_share_messages_again_when_imported(run: Run, db: Path, tmp_path: Path) -> None:
    for session_id in ("origin", "early", "late", "latest"):
        assert run("export", session_id, "-o", tmp_path / session_id, "--db", db).exit_code == 0
    new = tmp_path / "new.db"
    alone = run("import", tmp_path / "late", "--as", "alone", "--db", new)
    assert (alone.exit_code, "stored again" in alone.stderr) == (0, True)
    for session_id in ("origin", "early", "late", "latest"):
        result = run("import", tmp_path / session_id, "--db", new)
        assert (result.exit_code, "stored again" in result.stderr) == (0, False), result.stderr

    async def compare() -> None:
        source, target = SqliteStore(db), SqliteStore(new)
        await source.open()
        await target.open()
        for session_id in ("origin", "early", "late", "latest"):
            before, after = await describe(source, session_id), await describe(target, session_id)
            assert (before[0], before[1], before[2][0], before[4]) == (after[0], after[1], after[2][0], after[4])
        assert [message.parts for message in await target.messages("alone")] == [
            message.parts for message in await source.messages("late")
        ]
        assert await target.forks("origin") == ["early", "late", "latest"]
        assert await target.check() == []
        await source.close()
        await target.close()

    asyncio.run(compare())


@pytest.mark.parametrize("kind", ["sqlite", "memory"])
async def test_a_copied_database_has_the_same_forks(tmp_path: Path, kind: str) -> None:
    await fill(tmp_path / "s.db")
    source = SqliteStore(tmp_path / "s.db")
    target: Store = SqliteStore(tmp_path / "copy.db") if kind == "sqlite" else MemoryStore()
    await source.open()
    await target.open()
    report = await copy_database(source, target)
    assert (report.sessions, report.sessions_present) == (4, 0)
    for session_id in ("origin", "early", "late", "latest"):
        assert await describe(source, session_id) == await describe(target, session_id)
    assert {head.session_id: head.hash for head in (await source.verify()).heads} == report.heads
    assert (await target.verify(heads=report.heads)).is_intact
    assert sorted(await target.forks("origin")) == ["early", "late", "latest"]
    again = await copy_database(source, target)
    assert (again.sessions, again.sessions_present) == (0, 4)
    await source.append("origin", Append(make_turn(9).messages))
    grown = await copy_database(source, target)
    assert (grown.sessions, sorted(await target.forks("origin"))) == (4, ["early", "late", "latest"])
    assert await target.check() == []
    await source.close()
    await target.close()
