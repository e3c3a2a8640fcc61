"""Sessions, purges and commands work with an object store as with a directory."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mnesis import Engine, FileConfig, MnesisConfig, MnesisSession, RetentionConfig
from mnesis.cli.app import cli
from mnesis.errors import ConfigurationError, FileError
from mnesis.files import FileStorage
from mnesis.models.message import FilePart
from mnesis.testing import ScriptedLLM
from tests.files.support import MODEL
from tests.session.support import calls

LOG = "".join(f"line {number}\n" for number in range(2_000))
LOG_ID = hashlib.sha256(LOG.encode()).hexdigest()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"file://{tmp_path}/bucket"


def configured(where: Path, url: str) -> MnesisConfig:
    return MnesisConfig(file=FileConfig(storage_dir=where, storage_url=url, inline_threshold=100))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(each) for each in arguments])


def objects_in(tmp_path: Path, directory: str = "bucket") -> set[str]:
    return {each.name for each in (tmp_path / directory / "files").glob("*")}


async def record_log(database: Path, config: MnesisConfig, session_id: str = "s") -> None:
    async with (
        Engine(database, config=config) as engine,
        await MnesisSession.create(model=None, session_id=session_id, engine=engine) as session,
    ):
        await session.record(["see", FilePart(name="a.log", text=LOG)], "ok")


async def test_a_session_on_another_machine_pages_and_searches_the_file(tmp_path: Path, url: str) -> None:
    await record_log(tmp_path / "x.db", configured(tmp_path / "a", url))
    async with (
        Engine(tmp_path / "x.db", config=configured(tmp_path / "b", url)) as engine,
        await MnesisSession.load("s", engine=engine) as session,
    ):
        assert "line 700\n" in (await session.read_file(LOG_ID, line=701)).text
        assert [each.line for each in (await session.search_file(LOG_ID, "line 1999$")).matches] == [2_000]
        assert (await session.file_path(LOG_ID)).read_text() == LOG
        assert await session.file_content(LOG_ID) == LOG.encode()


@pytest.mark.parametrize("bad_url", ["nosuch://bucket/x", "file:///nosuch/missing/bucket"])
async def test_a_turn_finishes_without_the_object_store(tmp_path: Path, bad_url: str) -> None:
    def tail() -> str:
        """The log."""
        return LOG[:5_000]

    llm = ScriptedLLM([calls(("tail", {})), "Read."])
    config = configured(tmp_path / "a", bad_url)
    async with MnesisSession.open(model=MODEL, db_path=tmp_path / "x.db", config=config, llm=llm) as session:
        assert (await session.send("Look", tools=[tail])).text == "Read."
        (result,) = (await session.messages())[2].tool_results
        with pytest.raises((FileError, ConfigurationError), match="bucket"):
            await session.record([FilePart(name="a.log", text=LOG)], "ok")
    assert (result.output, result.output_file) == (LOG[:5_000], None)


async def test_a_purge_erases_what_no_database_of_any_machine_uses(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(tmp_path / "a", url)
    await record_log(tmp_path / "x.db", config)
    await record_log(tmp_path / "y.db", config)
    rule = RetentionConfig(keep_last=0, purge_files=True)
    async with Engine(tmp_path / "x.db", config=config) as engine:
        await engine.apply_purge(await engine.plan_purge(rule))
    assert objects_in(tmp_path) == {LOG_ID}
    monkeypatch.setattr("platform.node", lambda: "another")
    await record_log(tmp_path / "y.db", config, "on-another-machine")
    monkeypatch.undo()
    async with Engine(tmp_path / "y.db", config=config) as engine:
        await engine.apply_purge(await engine.plan_purge(rule))
    assert objects_in(tmp_path) == {LOG_ID}
    for note in (tmp_path / "bucket" / "databases").iterdir():
        if note.read_text().startswith("another:"):
            note.unlink()
    await record_log(tmp_path / "y.db", config, "again")
    async with Engine(tmp_path / "y.db", config=config) as engine:
        await engine.apply_purge(await engine.plan_purge(rule))
    assert objects_in(tmp_path) == set()


def test_commands_take_the_url_of_an_object_store(tmp_path: Path, url: str) -> None:
    database, export = tmp_path / "x.db", tmp_path / "s.jsonl"
    asyncio.run(record_log(database, configured(tmp_path / "a", url)))
    options = ("--storage", url, "--db", database)
    done = run("doctor", "--deep", *options)
    assert done.exit_code == 0, done.output
    assert f"all intact in {url}" in done.output
    assert run("backup", tmp_path / "copy.db", "--files-to", tmp_path / "copied", *options).exit_code == 0
    assert FileStorage(tmp_path / "copied").read(LOG_ID) == LOG.encode()
    assert run("export", "s", "--with-files", "-o", export, *options).exit_code == 0
    other = f"file://{tmp_path}/other"
    assert run("import", export, "--storage", other, "--db", tmp_path / "y.db").exit_code == 0
    assert objects_in(tmp_path, "other") == {LOG_ID}
    (tmp_path / "bucket" / "files" / LOG_ID).write_text("damaged")
    done = run("doctor", "--deep", "--json", *options)
    assert done.exit_code != 0
    assert LOG_ID in json.dumps(json.loads(done.stdout))
    assert run("purge", "--keep-last", 0, "--apply", *options).exit_code == 0
    assert objects_in(tmp_path) == set()


def test_purging_one_session_by_command_deletes_its_objects(tmp_path: Path, url: str) -> None:
    asyncio.run(record_log(tmp_path / "x.db", configured(tmp_path / "a", url)))
    done = run("purge", "s", "--apply", "--files", "--storage", url, "--db", tmp_path / "x.db")
    assert done.exit_code == 0, done.output
    assert objects_in(tmp_path) == set()


def test_commands_refuse_a_url_they_cannot_use(tmp_path: Path, url: str) -> None:
    asyncio.run(record_log(tmp_path / "x.db", configured(tmp_path / "a", url)))
    (tmp_path / "key").write_text("cd" * 32)
    refused = run("rekey", "--new-key-file", tmp_path / "key", "--storage", url, "--db", tmp_path / "x.db")
    assert refused.exit_code == 2
    assert "mnesis backup" in refused.output
    secret = run("doctor", "--deep", "--storage", "s3://key:hunter2@bucket/x", "--db", tmp_path / "x.db")
    assert secret.exit_code == 2
    assert "credentials" in secret.output
    assert "hunter2" not in secret.output
