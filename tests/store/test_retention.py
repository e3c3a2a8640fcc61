"""Purging by rule: what goes, what stays because something kept refers to it, and what a repetition completes."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from mnesis import Engine, FileConfig, MnesisConfig, MnesisSession, RetentionConfig
from mnesis.cli.app import cli
from mnesis.errors import ConfigurationError, SessionNotFoundError
from mnesis.ids import now_ms
from mnesis.models.message import FilePart
from mnesis.models.retention import DAY_MS, select_sessions
from mnesis.models.session import SessionRecord

NOW = 2_000_000_000_000
LONG = "a line of the log\n" * 500


def configured(where: Path, **retention: Any) -> MnesisConfig:
    return MnesisConfig(
        file=FileConfig(storage_dir=where / "kept", inline_threshold=100), retention=RetentionConfig(**retention)
    )


async def fill(engine: Engine, session_id: str, *files: str, parent_id: str | None = None) -> None:
    async with await MnesisSession.create(
        model=None, session_id=session_id, engine=engine, parent_id=parent_id
    ) as session:
        await session.record(["look", *(FilePart(name=f"{name}.log", text=LONG + name) for name in files)], "ok")


def stored_files(where: Path) -> set[str]:
    return {path.stem for path in (where / "kept").glob("??/*.size")}


async def ids(engine: Engine) -> set[str]:
    return {session.id for session in (await engine.sessions()).sessions}


def records(*ages_days: float) -> list[SessionRecord]:
    return [SessionRecord(f"s{n}", "m", updated_at=int(NOW - age * DAY_MS)) for n, age in enumerate(ages_days)]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"older_than_days": 90}, {"s3", "s4"}),
        ({"keep_last": 4}, {"s4"}),
        ({"keep_last": 0}, {"s0", "s1", "s2", "s3", "s4"}),
        ({"match": "s[12]"}, {"s1", "s2"}),
        ({"older_than_days": 30, "keep_last": 3}, {"s3", "s4"}),
        ({"older_than_days": 30, "keep_last": 1, "match": "s[1-3]"}, {"s2", "s3"}),
        ({"match": "S*"}, set()),
    ],
)
def test_a_rule_selects_sessions_that_meet_all_conditions(rule: dict[str, Any], expected: set[str]) -> None:
    plan = select_sessions(records(0, 10, 60, 100, 200), RetentionConfig(**rule), NOW)
    assert {session.id for session in plan.sessions} == expected


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=10))
def test_no_kept_session_refers_to_one_that_goes(tree: list[tuple[int, bool]]) -> None:
    sessions = [
        SessionRecord(f"s{n}", "m", parent_id=f"s{parent}" if parent != n else None, title="old" if is_old else "new")
        for n, (parent, is_old) in enumerate(tree)
    ]
    plan = select_sessions(sessions, RetentionConfig(match="old"), NOW)
    gone = [session.id for session in plan.sessions]
    assert not {session.parent_id for session in sessions if session.id not in gone} & set(gone)
    assert {*gone, *plan.kept} == {session.id for session in sessions if session.title == "old"}
    assert all(kept not in gone and child not in gone for kept, child in plan.kept.items())


async def test_sessions_and_files_go_that_nothing_kept_refers_to(tmp_path: Path) -> None:
    async with Engine(tmp_path / "s.db", config=configured(tmp_path)) as engine:
        await fill(engine, "old-parent", "a")
        await fill(engine, "old-child", "b", "shared", parent_id="old-parent")
        await fill(engine, "old-with-new-child", "c")
        await fill(engine, "new", "shared", parent_id="old-with-new-child")
        plan = await engine.plan_purge(RetentionConfig(match="old*"))
        assert [session.id for session in plan.sessions] == ["old-child", "old-parent"]
        assert plan.kept == {"old-with-new-child": "new"}
        assert len(await ids(engine)) == 4
        assert len(stored_files(tmp_path)) == 4
        purged = await engine.apply_purge(plan)
        assert purged == plan
        assert await ids(engine) == {"new", "old-with-new-child"}
        assert stored_files(tmp_path) == {
            reference.content_id
            for session_id in ("new", "old-with-new-child")
            for reference in await engine.store.file_references(session_id=session_id)
        }
        assert await engine.store.check() == []
        assert (await engine.apply_purge(plan)).sessions == ()


async def test_what_changed_after_the_plan_stays(tmp_path: Path) -> None:
    async with Engine(tmp_path / "s.db", config=configured(tmp_path)) as engine:
        for session_id in ("used", "parent", "gone"):
            await fill(engine, session_id)
        plan = await engine.plan_purge(RetentionConfig(keep_last=0))
        async with await MnesisSession.load("used", engine=engine) as session:
            await session.record("more", "ok")
        await fill(engine, "child", parent_id="parent")
        await engine.apply_purge(plan)
        assert await ids(engine) == {"used", "parent", "child"}


async def test_files_of_other_databases_stay(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("one", "two"):
        async with Engine(tmp_path / f"{name}.db", config=configured(tmp_path)) as engine:
            await fill(engine, "s", "shared", name)
    async with Engine(tmp_path / "one.db", config=configured(tmp_path)) as engine:
        purged = await engine.apply_purge(await engine.plan_purge(RetentionConfig(keep_last=0)))
        assert len(purged.file_ids) == 1
        assert len(stored_files(tmp_path)) == 2
        await fill(engine, "t", "third")
        (tmp_path / "two.db").rename(tmp_path / "moved.db")
        purged = await engine.apply_purge(await engine.plan_purge(RetentionConfig(keep_last=0)))
    assert purged.file_ids == ()
    assert "two.db may refer to it and cannot be read" in caplog.text
    assert not (tmp_path / "two.db").exists()


DAMAGE_TO_THE_LIST = [
    "DELETE FROM file_refs WHERE session_pk = (SELECT pk FROM sessions WHERE id = 'kept')",
    "UPDATE file_refs SET content_id = 'x' || substr(content_id, 2) WHERE session_pk = (SELECT pk FROM sessions WHERE id = 'kept')",
    "UPDATE file_refs SET session_pk = session_pk + 1000 WHERE session_pk = (SELECT pk FROM sessions WHERE id = 'kept')",
    "UPDATE OR REPLACE file_refs SET seq = 1, session_pk = (SELECT coalesce(max(pk), 99) FROM sessions WHERE id = 'gone')",
    "UPDATE file_refs SET seq = seq + 1000 WHERE session_pk = (SELECT pk FROM sessions WHERE id = 'kept')",
]


@pytest.mark.parametrize("statement", DAMAGE_TO_THE_LIST)
@pytest.mark.parametrize("in_other_database", [False, True])
async def test_a_damaged_list_deletes_no_file_that_a_message_names(
    tmp_path: Path, statement: str, in_other_database: bool
) -> None:
    paths = {"gone": tmp_path / "s.db", "kept": tmp_path / ("other.db" if in_other_database else "s.db")}
    for session_id, path in paths.items():
        async with Engine(path, config=configured(tmp_path)) as engine:
            await fill(engine, session_id, "shared")
    damage_list(paths["kept"], statement)
    async with Engine(paths["gone"], config=configured(tmp_path)) as engine:
        plan = await engine.apply_purge(await engine.plan_purge(RetentionConfig(match="gone")))
        assert [session.id for session in plan.sessions] == ["gone"]
    assert len(stored_files(tmp_path)) == 1


@pytest.mark.parametrize("statement", DAMAGE_TO_THE_LIST)
async def test_the_purge_of_one_session_trusts_no_damaged_list(tmp_path: Path, statement: str) -> None:
    async with Engine(tmp_path / "s.db", config=configured(tmp_path)) as engine:
        await fill(engine, "gone", "shared", "own")
        await fill(engine, "kept", "shared")
    damage_list(tmp_path / "s.db", statement)
    arguments = [
        "purge",
        "gone",
        "--files",
        "--apply",
        "--storage",
        str(tmp_path / "kept"),
        "--db",
        str(tmp_path / "s.db"),
    ]
    shown = await asyncio.to_thread(CliRunner().invoke, cli, arguments)
    assert shown.exit_code == 0, shown.output
    async with Engine(tmp_path / "s.db", config=configured(tmp_path)) as engine:
        (message,) = [each for each in await engine.store.messages("kept") if each.file_refs]
    assert {part.content_id for part in message.file_refs} <= stored_files(tmp_path)


def damage_list(path: Path, statement: str) -> None:
    """Damage the list of references as no program does: foreign keys and triggers off."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        triggers = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f'DROP TRIGGER "{name}"')
        connection.execute(statement)
        for _, text in triggers:
            connection.execute(text)
        connection.commit()


async def test_the_policy_of_the_configuration_applies_when_the_engine_opens(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Engine(tmp_path / "s.db", config=configured(tmp_path)) as engine:
        for n in range(5):
            await fill(engine, f"s{n}")
    caplog.set_level(logging.INFO, "mnesis")
    async with Engine(tmp_path / "s.db", config=configured(tmp_path, keep_last=2)) as engine:
        await engine.wait_for_tasks()
        assert len(await ids(engine)) == 2
    assert "3 sessions were erased by the retention rule" in caplog.text
    async with Engine(tmp_path / "s.db") as engine:
        await engine.wait_for_tasks()
        assert len(await ids(engine)) == 2
        with pytest.raises(ConfigurationError, match="no condition"):
            await engine.plan_purge()


async def test_the_command_shows_first_and_erases_with_apply(tmp_path: Path) -> None:
    db, kept = tmp_path / "s.db", tmp_path / "kept"
    async with Engine(db, config=configured(tmp_path)) as engine:
        for session_id in ("test-1", "test-2", "real"):
            await fill(engine, session_id, session_id)
        recent = await engine.store.session("real")
        assert recent.updated_at > now_ms() - DAY_MS

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(cli, ["purge", *arguments, "--db", str(db), "--storage", str(kept)])

    import asyncio

    shown = await asyncio.to_thread(run, "--match", "test-*", "--keep-last", "1", "--json")
    assert json.loads(shown.stdout)["session_ids"] == ["test-1"]
    assert json.loads(shown.stdout)["applied"] is False
    assert len(stored_files(tmp_path)) == 3
    nothing = await asyncio.to_thread(run, "--older-than", "90d")
    assert nothing.exit_code == 0
    assert "0 sessions" in nothing.stdout
    done = await asyncio.to_thread(run, "--match", "test-*", "--apply")
    assert done.exit_code == 0
    assert "2 sessions" in done.stdout
    assert len(stored_files(tmp_path)) == 1
    for wrong in ((), ("real", "--match", "x")):
        assert (await asyncio.to_thread(run, *wrong)).exit_code == 2
    async with Engine(db) as engine:
        assert await ids(engine) == {"real"}
        with pytest.raises(SessionNotFoundError):
            await engine.store.session("test-1")
