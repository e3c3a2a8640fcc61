"""Large files in the database itself: the same on every machine, protected, purged, checked and moved with the sessions."""

from __future__ import annotations

import asyncio
import hashlib
import json
import tracemalloc
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mnesis import ConfigurationError, Engine, FileConfig, MnesisConfig, MnesisSession, RetentionConfig
from mnesis.cli.app import cli
from mnesis.config import StoreConfig
from mnesis.database_url import DatabaseURL
from mnesis.errors import DamagedFileError, FileError, FileNotStoredError
from mnesis.files import FileStorage
from mnesis.models.message import FilePart
from mnesis.store.file_storage import open_file_storage
from tests.support.postgres import connect, url_of

psycopg = pytest.importorskip("psycopg")

LOG = "".join(f"line {number}\n" for number in range(2_000))
LOG_ID = hashlib.sha256(LOG.encode()).hexdigest()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def configured() -> MnesisConfig:
    """Settings as a user leaves them, but for a small threshold. Their paths begin with the HOME of now."""
    return MnesisConfig(file=FileConfig(inline_threshold=100))


def storage_at(url: str, where: Path) -> FileStorage:
    """The stored files as another machine sees them, which shares nothing but the database."""
    return open_file_storage(FileConfig(storage_url="database", storage_dir=where), StoreConfig(), url)


async def record_log(database: str | Path, session_id: str = "s") -> None:
    async with (
        Engine(database, config=configured()) as engine,
        await MnesisSession.create(model=None, session_id=session_id, engine=engine) as session,
    ):
        await session.record(["see", FilePart(name="a.log", text=LOG)], "ok")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(each) for each in arguments])


def printed(*arguments: object) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def names_in(admin: Any, url: str) -> set[str]:
    return {row[0] for row in admin.execute(f"SELECT name FROM {DatabaseURL(url).schema}.file_objects")}


async def test_one_changed_string_keeps_files_where_every_machine_reads_them(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await record_log(url)
    monkeypatch.setenv("HOME", str(tmp_path / "another-machine"))
    async with Engine(url, config=configured()) as engine, await MnesisSession.load("s", engine=engine) as session:
        assert (await session.read_file(LOG_ID, line=701)).text.startswith("line 700\n")
        assert [each.line for each in (await session.search_file(LOG_ID, "line 1999$")).matches] == [2_000]
        assert await session.file_content(LOG_ID) == LOG.encode()


async def test_a_directory_that_is_set_is_used_instead(url: str, admin: Any, tmp_path: Path) -> None:
    config = MnesisConfig(file=FileConfig(inline_threshold=100, storage_dir=tmp_path / "shared"))
    async with (
        Engine(url, config=config) as engine,
        MnesisSession.open(model=None, engine=engine, session_id="s") as session,
    ):
        await session.record(["see", FilePart(name="a.log", text=LOG)], "ok")
    assert FileStorage(tmp_path / "shared").read(LOG_ID) == LOG.encode()
    assert names_in(admin, url) == set()


async def test_a_purge_erases_files_that_no_session_uses(url: str, admin: Any) -> None:
    await record_log(url, "one")
    await record_log(url, "two")
    rule = RetentionConfig(keep_last=1, purge_files=True)
    async with Engine(url, config=configured()) as engine:
        await engine.apply_purge(await engine.plan_purge(rule))
        assert names_in(admin, url) == {f"files/{LOG_ID}"}
        done = await engine.apply_purge(await engine.plan_purge(RetentionConfig(keep_last=0, purge_files=True)))
        assert done.file_ids == (LOG_ID,)
        assert await engine.store.check() == []
    assert names_in(admin, url) == set()
    assert admin.execute(f"SELECT count(*) FROM {DatabaseURL(url).schema}.file_chunks").fetchone()[0] == 0


def test_commands_find_the_files_in_the_database(url: str, admin: Any, tmp_path: Path) -> None:
    asyncio.run(record_log(url))
    for options in (("--db", url), ("--db", url, "--storage", "database")):
        done = run("doctor", "--deep", *options)
        assert done.exit_code == 0, done.output
        assert f"all intact in {DatabaseURL(url)}" in done.output.replace("\n", "")
        assert "SQLite" not in done.output
    export = tmp_path / "s.jsonl"
    assert run("export", "s", "--with-files", "-o", export, "--db", url).exit_code == 0
    assert run("purge", "s", "--apply", "--files", "--db", url).exit_code == 0
    assert names_in(admin, url) == set()
    assert run("import", export, "--db", url).exit_code == 0
    assert names_in(admin, url) == {f"files/{LOG_ID}"}
    schema = DatabaseURL(url).schema
    admin.execute(f"ALTER TABLE {schema}.file_chunks DISABLE TRIGGER USER")
    admin.execute(f"UPDATE {schema}.file_chunks SET content = 'damaged'")
    admin.execute(f"ALTER TABLE {schema}.file_chunks ENABLE TRIGGER USER")
    done = run("doctor", "--deep", "--db", url)
    assert done.exit_code != 0
    assert LOG_ID in done.output.replace("\n", "")
    with pytest.raises(DamagedFileError, match=LOG_ID):
        storage_at(url, tmp_path / "b").read(LOG_ID)


def test_files_move_with_the_sessions_in_both_directions(url: str, admin: Any, home: Path, tmp_path: Path) -> None:
    asyncio.run(record_log(tmp_path / "a.db"))
    there = ("migrate", "--db", tmp_path / "a.db", "--to", url)
    first = printed(*there)
    assert (first["files"], first["files_present"], first["files_unreadable"]) == (1, 0, [])
    again = printed(*there)
    assert (again["files"], again["files_present"]) == (0, 1)
    storage_at(url, tmp_path / "copies").remove(LOG_ID)  # as if the first copy had been interrupted before it
    assert printed(*there)["files"] == 1
    back = printed("migrate", "--db", url, "--to", tmp_path / "b.db", "--to-storage", tmp_path / "back")
    assert back["files"] == 1
    kept = FileStorage(tmp_path / "back")
    assert kept.read(LOG_ID) == LOG.encode()
    assert kept.databases() == [str(tmp_path / "b.db")]
    FileStorage(home / ".mnesis" / "files").remove(LOG_ID)
    storage_at(url, tmp_path / "copies").remove(LOG_ID)
    lost = run(*there)
    assert lost.exit_code == 0
    assert LOG_ID in lost.output.replace("\n", "")
    assert run("migrate", "--db", url, "--to-storage", tmp_path).exit_code == 2


@pytest.fixture
def role(admin: Any) -> Iterator[str]:
    name = f"app_{uuid.uuid4().hex[:12]}"
    admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'role-secret'")
    yield name
    admin.execute(f"DROP OWNED BY {name}")
    admin.execute(f"DROP ROLE {name}")


@pytest.mark.usefixtures("store")
def test_a_granted_role_stores_reads_and_purges_files_and_changes_none(
    url: str, admin: Any, role: str, tmp_path: Path
) -> None:
    schema = DatabaseURL(url).schema
    own_url = url_of(url, role, schema=schema, password="role-secret")
    with pytest.raises(FileError, match="grant_access") as raised:
        storage_at(own_url, tmp_path / "a").add(b"content")
    assert "role-secret" not in str(raised.value)
    admin.execute(f"SELECT {schema}.grant_access(%s)", (role,))
    storage = storage_at(own_url, tmp_path / "a")
    stored = storage.add(b"content")
    assert storage_at(own_url, tmp_path / "b").read(stored.content_id) == b"content"
    changes = (f"UPDATE {schema}.file_chunks SET content = ''", f"DELETE FROM {schema}.file_chunks")
    with connect(own_url) as connection:
        for statement in (*changes, f"DELETE FROM {schema}.file_objects", f"TRUNCATE {schema}.file_chunks"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
            with pytest.raises(psycopg.Error) as refused:
                admin.execute(statement)
            assert refused.value.sqlstate == "MN001"
    assert storage.remove(stored.content_id) == 7


def test_a_large_file_is_never_held_in_memory(url: str, tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(24 << 20)
    storage_at(url, tmp_path / "first").add(b"loads what is loaded once")
    tracemalloc.start()
    try:
        stored = storage_at(url, tmp_path / "a").add_file(str(large))
        storage_at(url, tmp_path / "b").find_verified(stored.content_id)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_files_of_a_server_that_is_away_are_a_file_error(tmp_path: Path) -> None:
    url = "postgresql://app:hunter2@127.0.0.1:1/nosuch"
    config = FileConfig(storage_url="database", storage_dir=tmp_path)
    storage = open_file_storage(config, StoreConfig(connection_timeout=0.05), url)
    for call in (lambda: storage.add(b"x"), lambda: storage.find("a" * 64), lambda: storage.remove("a" * 64)):
        with pytest.raises(FileError, match="cannot be reached") as raised:
            call()
        assert not isinstance(raised.value, FileNotStoredError)
        assert "hunter2" not in str(raised.value)


def test_a_database_file_takes_no_stored_files(tmp_path: Path) -> None:
    config = MnesisConfig(file=FileConfig(storage_url="database"))
    for path in (tmp_path / "x.db", ":memory:"):
        with pytest.raises(ConfigurationError, match="needs a PostgreSQL database"):
            Engine(path, config=config)
    asyncio.run(record_log(tmp_path / "x.db"))
    done = run("doctor", "--deep", "--storage", "database", "--db", tmp_path / "x.db")
    assert done.exit_code != 0
    assert "needs a PostgreSQL database" in done.output.replace("\n", " ")
    with pytest.raises(ValueError, match="'database'") as raised:
        FileConfig(storage_url="postgresql://app:hunter2@db/x")
    assert "hunter2" not in str(raised.value)
