"""`stats`, `backup`, `purge`, `compact`, `reindex`, `migrate`, `doctor --deep`: what changes a database says so first."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mnesis import Engine, MnesisSession, TokenUsage
from mnesis.cli import backup
from mnesis.files.storage import FileStorage
from mnesis.models.message import FileRefPart, Message
from mnesis.models.run import ItemOutcome, RunSpec
from mnesis.models.session import Interruption
from mnesis.store.sqlite.migrate import migrations
from tests.cli.conftest import Run, record, small_window
from tests.support.openai_server import OpenAIServer, Reply


def change(path: Path, do: Callable[[Engine], Any]) -> Any:
    async def work() -> Any:
        async with Engine(path) as engine:
            return await do(engine)

    return asyncio.run(work())


def document(run: Run, *arguments: object) -> Any:
    shown = run(*arguments)
    assert shown.exit_code == 0, shown.output
    return json.loads(shown.stdout)


def refer(path: Path, session_id: str, content_id: str) -> None:
    part = FileRefPart(content_id=content_id, path="/tmp/a.txt", file_type="text", token_count=9)

    async def append(engine: Engine) -> None:
        async with await MnesisSession.create(model="demo/none", session_id=session_id, engine=engine) as session:
            await session.append([Message(id=f"ref-{content_id[:6]}", role="user", parts=(part,))])

    change(path, append)


def test_stats_add_everything_up(run: Run, database: Path) -> None:
    async def more(engine: Engine) -> None:
        for kind, error in (("failed", "LLMTimeoutError"), ("failed", "LLMTimeoutError"), ("cancelled", "")):
            await engine.store.record_interruption("alpine", Interruption(1, kind, error, "", "", 1))
        async with await MnesisSession.load("alpine", engine=engine) as session:
            await session.record("q", "a", tokens=TokenUsage(input=100, cache_read=300, output=5), cost=0.25)

    before = document(run, "stats", "--json", "--db", database)
    change(database, more)
    facts = document(run, "stats", "--json", "--db", database)
    assert (facts["sessions"], facts["messages"], facts["turns"]) == (2, 32, 16)
    assert facts["compactions"] == 2
    assert facts["levels"]["3"]["source_tokens"] > facts["levels"]["3"]["tokens"] > 0
    assert facts["levels"]["3"]["ratio"] > 1
    assert facts["failures"] == {"LLMTimeoutError": 2}
    assert facts["cancelled"] == 1
    assert facts["cost"] == 0.25
    asked = before["usage"]["input"] + 400
    assert facts["cache_share"] == round(300 / asked, 4)
    assert facts["database_bytes"] == database.stat().st_size
    assert facts["map_runs"]["runs"] == 0
    shown = run("stats", "--db", database).stdout
    assert "LLMTimeoutError" in shown
    one = document(run, "stats", "alpine", "--json", "--db", database)
    assert (one["sessions"], one["messages"], one["compactions"]) == (1, 4, 0)


def test_stats_count_map_runs_and_stored_files(run: Run, database: Path) -> None:
    async def mapped(engine: Engine) -> None:
        store = engine.store
        await store.begin_run(RunSpec("r", "llm_map", "f"))
        await store.add_items("r", 0, ['"a"', '"b"'])
        await store.seal_run("r", 2)
        await store.claim_items("r", "w", limit=2, now_ms=1, lease_ms=1_000, max_claims=3)
        await store.finish_items("r", "w", [ItemOutcome(0, "done", "{}", cost=0.5), ItemOutcome(1, "failed", "{}")])

    change(database, mapped)
    refer(database, "alpine", "ab" * 32)
    facts = document(run, "stats", "--json", "--db", database)
    assert facts["stored_files"] == 1
    runs = facts["map_runs"]
    assert (runs["runs"], runs["finished"], runs["done"], runs["failed"], runs["cost"]) == (1, 1, 1, 1, 0.5)


def test_a_backup_is_a_whole_private_copy(run: Run, database: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy of it.db"
    facts = document(run, "backup", target, "--json", "--db", database)
    assert facts["bytes"] == target.stat().st_size
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert run("export", "alpha", "--db", target).stdout == run("export", "alpha", "--db", database).stdout
    assert run("doctor", "--db", target).exit_code == 0


def test_a_backup_replaces_nothing_and_makes_no_directories(run: Run, database: Path, tmp_path: Path) -> None:
    there = tmp_path / "there.txt"
    there.write_text("mine")
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "nowhere.db")
    for target in (there, link, database, tmp_path / "no" / "copy.db"):
        assert run("backup", target, "--db", database).exit_code == 2
    assert there.read_text() == "mine"
    assert not (tmp_path / "no").exists()


def test_a_backup_whose_name_sqlite_cannot_take_is_wrong_usage(run: Run, database: Path, tmp_path: Path) -> None:
    result = run("backup", f"{tmp_path}/\udcff.db", "--db", database)
    assert (result.exit_code, isinstance(result.exception, SystemExit)) == (2, True), result.output
    assert "UTF-8" in result.stderr


def test_a_backup_without_room_is_refused_before_it_begins(
    run: Run, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage(NamedTuple):
        total: int = 10
        used: int = 9
        free: int = 1

    monkeypatch.setattr(backup.shutil, "disk_usage", lambda path: Usage())
    result = run("backup", tmp_path / "copy.db", "--db", database)
    assert result.exit_code == 3
    assert "free" in result.stderr
    assert not (tmp_path / "copy.db").exists()


def test_a_purge_says_what_would_go_and_changes_nothing(run: Run, database: Path) -> None:
    before = database.read_bytes()
    shown = run("purge", "alpha", "--db", database)
    assert shown.exit_code == 0
    assert "28 messages, 14 turns" in shown.stdout
    assert "would be erased" in shown.stdout
    assert "mnesis purge alpha-session --apply" in shown.stderr
    assert not document(run, "purge", "alpha", "--json", "--db", database)["applied"]
    assert database.read_bytes() == before


def test_an_empty_id_is_none_also_where_there_is_one_session_alone(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "one.db"
    asyncio.run(record(path, "only", 1))
    assert run("purge", "", "--apply", "--db", path).exit_code == 2
    assert run("show", "only", "--db", path).exit_code == 0


@pytest.mark.parametrize("yes", ["--apply", "--yes"])
def test_a_purge_erases_one_session_and_names_what_stays(run: Run, database: Path, yes: str) -> None:
    child = {"model": "demo/none", "session_id": "child", "parent_id": "alpha-session"}

    async def make(engine: Engine) -> None:
        await (await MnesisSession.create(engine=engine, **child)).close()

    change(database, make)
    facts = document(run, "purge", "alpha", yes, "--json", "--db", database)
    assert (facts["applied"], facts["child_session_ids"]) == (True, ["child"])
    assert {row["id"] for row in document(run, "ls", "--json", "--db", database)} == {"alpine", "child"}


def test_a_purge_erases_only_requested_files_that_nothing_else_uses(run: Run, database: Path, tmp_path: Path) -> None:
    storage = FileStorage(tmp_path / "files")
    own, shared = (storage.add(content).content_id for content in (b"own", b"shared"))
    for session_id, content_id in (("s", own), ("s", shared), ("alpine", shared)):
        refer(database, session_id, content_id)
    where = ("--storage", tmp_path / "files", "--db", database)
    shown = run("purge", "s", *where)
    assert f"kept: file {own}" in shown.stdout
    assert shared not in shown.stdout
    assert document(run, "purge", "s", "--files", "--json", *where)["unreferenced_file_ids"] == [own]
    assert storage.check([own, shared]) == []
    assert run("purge", "s", "--apply", "--files", *where).exit_code == 0
    assert [finding.ids for finding in storage.check([own, shared])] == [(own,)]


def test_doctor_reads_stored_files_when_told_to(run: Run, database: Path, tmp_path: Path) -> None:
    storage = FileStorage(tmp_path / "files")
    stored = storage.add(b"some content")
    refer(database, "alpine", stored.content_id)
    deep = ("doctor", "--deep", "--storage", tmp_path / "files", "--db", database)
    assert run(*deep).exit_code == 0
    assert "1 stored file referenced, all intact" in run(*deep).stdout
    stored.path.chmod(0o600)
    stored.path.write_bytes(b"some c0ntent")
    assert run("doctor", "--db", database).exit_code == 0
    damaged = run(*deep)
    assert damaged.exit_code == 1
    assert "✗ files" in damaged.stdout
    assert "fix: " in damaged.stdout
    shutil.rmtree(tmp_path / "files")
    assert run(*deep).exit_code == 1


def test_a_compaction_folds_what_its_dry_run_announced(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    asyncio.run(record(path, "talk", 10))
    before = path.read_bytes()
    arguments = ("compact", "talk", "--context-limit", 4_000, "--db", path)
    plan = document(run, *arguments, "--dry-run", "--json")
    assert path.read_bytes() == before
    assert [(fold["first_seq"], fold["last_seq"]) for fold in plan["folds"]] == [(1, 16)]
    assert "would fold 16 messages (#1–16)" in run(*arguments, "--dry-run").stdout
    done = run(*arguments, "--json")
    result = json.loads(done.stdout)
    assert (result["compacted_message_count"], result["level_used"]) == (16, 3)
    assert result["tokens_after"] < result["tokens_before"]
    again = run(*arguments)
    assert "nothing to fold" in again.stdout
    assert again.exit_code == 0


def test_a_compaction_without_a_key_says_that_it_used_no_model(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    asyncio.run(record(path, "talk", 10))
    done = run("compact", "talk", "--model", "openai/gpt-4o-mini", "--context-limit", 4_000, "--db", path)
    assert done.exit_code == 0
    assert "level 3 (extracts, without a model)" in done.stdout


def test_a_compaction_asks_the_model_it_is_told_to(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.db"
    asyncio.run(record(path, "talk", 10))
    with OpenAIServer(Reply(("## Goal\n- pumps and valves",))) as server:
        for name, value in {"OPENAI_API_BASE": server.url, "OPENAI_API_KEY": "sk-test"}.items():
            monkeypatch.setenv(name, value)
        done = run("compact", "talk", "--model", "openai/summariser", "--context-limit", 4_000, "--db", path)
    assert [request["model"] for request in server.requests] == ["summariser"]
    assert "level 1 (structured, written by a model)" in done.stdout
    assert change(path, lambda engine: engine.store.session("talk")).model == "demo/none"


def test_a_new_index_finds_what_the_old_one_did(run: Run, database: Path) -> None:
    search = ("search", "valve", "--json", "--db", database)
    before = document(run, *search)["hits"]
    assert before
    assert run("reindex", "--db", database).exit_code == 0
    assert document(run, *search)["hits"] == before


@pytest.fixture
def old_database(tmp_path: Path) -> Path:
    """One that has only the first schema."""
    path, first = tmp_path / "old.db", migrations()[0]
    with sqlite3.connect(path) as connection:
        connection.executescript(first.sql)
        connection.execute(f"PRAGMA user_version = {first.version}")
    connection.close()
    return path


def test_a_look_does_not_update_an_older_database_and_says_how_to(run: Run, old_database: Path) -> None:
    before = old_database.read_bytes()
    for arguments in (("ls",), ("stats",), ("doctor",), ("search", "x")):
        refused = run(*arguments, "--db", old_database)
        assert refused.exit_code == 3
        assert "mnesis migrate" in refused.stderr + refused.stdout
    assert old_database.read_bytes() == before
    assert run("migrate", "--db", old_database).exit_code == 0
    assert run("ls", "--db", old_database).exit_code == 0
    assert (old_database.parent / "old.db.v1.backup").exists()


UNPRIVILEGED = """
import os, shutil, sys, tempfile
from mnesis.cli import main
def code(arguments, database):
    try:
        main([*arguments, "--db", database])
    except SystemExit as end:
        return end.code or 0
commands = [["ls"], ["show", "alpha"], ["context", "alpha"], ["grep", "Question"], ["stats"], ["doctor"], ["search", "pump"]]
commands += [["dag", "alpha"], ["timeline", "alpha"], ["purge", "alpine"], ["backup", tempfile.mkdtemp() + "/copy.db"]]
refused = [["purge", "alpine", "--apply"], ["reindex"]]
database = sys.argv[1]
for arguments in commands[:-1]:
    code(arguments, database)  # everything is loaded before the rights are given up
directory = tempfile.mkdtemp()
shut = shutil.copy(database, directory + "/shut.db")
os.chmod(shut, 0o444)
os.chmod(directory, 0o555)
os.chmod(os.path.dirname(commands[-1][1]), 0o777)
if os.geteuid() == 0:
    os.setuid(65534)
codes = [code(arguments, shut) for arguments in commands], [code(arguments, shut) for arguments in refused]
print("CODES", codes, sorted(os.listdir(directory)))
"""


@pytest.mark.skipif(os.name != "posix", reason="rights as POSIX has them")
def test_a_database_that_cannot_be_written_is_read_as_it_stands(database: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED, str(database)], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1:] == [f"CODES ({[0] * 11}, [3, 3]) ['shut.db']"], done.stderr


def test_a_compaction_by_command_keeps_the_settings_of_the_window(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    asyncio.run(record(path, "talk", 6))
    before = change(path, lambda engine: engine.store.session("talk"))
    assert run("compact", "talk", "--context-limit", 4_000, "--db", path).exit_code == 0
    after = change(path, lambda engine: engine.store.session("talk"))
    settings = ("model", "system_prompt", "system_tokens", "title", "metadata", "last_seq", "turn_count", "usage")
    assert [getattr(after, name) for name in settings] == [getattr(before, name) for name in settings]
    assert small_window().compaction.auto is False
