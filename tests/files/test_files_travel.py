"""Stored files go along with an export that is told to carry them, and are the same where it is imported."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mnesis import MnesisSession, TextPart
from mnesis.cli import export_files
from mnesis.cli.app import cli
from mnesis.files import FileStorage
from mnesis.testing import ScriptedLLM
from tests.files.support import LOG, LOG_ID, MODEL, configured

BINARY = bytes(range(256)) * 20


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(each) for each in arguments])


@pytest.fixture
def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An export that carries a log and a binary file, each in several lines."""
    monkeypatch.setattr(export_files, "CHUNK_BYTES", 3_000)

    async def recorded() -> None:
        (tmp_path / "a.log").write_text(LOG)
        (tmp_path / "a.bin").write_bytes(BINARY)
        async with MnesisSession.open(
            model=MODEL, session_id="s", db_path=tmp_path / "a.db", config=configured(tmp_path), llm=ScriptedLLM("ok")
        ) as session:
            await session.record(["see", tmp_path / "a.log", tmp_path / "a.bin"], "ok")
            await session.record([tmp_path / "a.log"], [TextPart(text="again")])

    asyncio.run(recorded())
    target = tmp_path / "s.jsonl"
    done = run("export", "s", "--with-files", "--storage", tmp_path / "kept", "--db", tmp_path / "a.db", "-o", target)
    assert done.exit_code == 0, done.output
    return target


def imported(exported: Path, where: Path) -> Result:
    return run("import", exported, "--storage", where / "other", "--db", where / "b.db")


def test_files_are_stored_where_the_export_is_imported(exported: Path, tmp_path: Path) -> None:
    kinds = [json.loads(line)["kind"] for line in exported.read_text().splitlines()]
    assert kinds.count("file") > 2
    assert imported(exported, tmp_path).exit_code == 0
    here, there = FileStorage(tmp_path / "kept"), FileStorage(tmp_path / "other")
    assert there.read(LOG_ID) == LOG.encode()
    ids = {path.stem for path in here.directory.glob("??/*.size")}
    assert ids == {path.stem for path in there.directory.glob("??/*.size")}
    assert sorted(map(there.read, ids)) == sorted([LOG.encode(), BINARY])


def test_without_being_told_to_an_export_carries_no_file(exported: Path, tmp_path: Path) -> None:
    plain = run("export", "s", "--db", tmp_path / "a.db").stdout
    assert [line for line in exported.read_text().splitlines() if '"kind": "file"' not in line] == plain.splitlines()


def test_bytes_that_are_not_the_files_are_refused_and_no_session_is_made(exported: Path, tmp_path: Path) -> None:
    *lines, last = exported.read_text().splitlines()
    for wrong in ({"data": "QUJD"}, {"data": "%"}, {"data": None}):
        exported.write_text("\n".join([*lines, json.dumps(json.loads(last) | wrong)]))
        done = imported(exported, tmp_path)
        assert done.exit_code == 2
        assert json.loads(last)["id"] in "".join(done.stderr.split())
        assert not (tmp_path / "b.db").exists()


def test_a_file_that_is_not_there_is_left_out_and_named(exported: Path, tmp_path: Path) -> None:
    FileStorage(tmp_path / "kept").remove(LOG_ID)
    done = run("export", "s", "--with-files", "--storage", tmp_path / "kept", "--db", tmp_path / "a.db")
    assert done.exit_code == 0
    assert "left out" in done.stderr
    assert LOG_ID in done.stderr
    assert LOG_ID not in [json.loads(line).get("id") for line in done.stdout.splitlines()]


@pytest.mark.parametrize("other", [["--redact"], ["--format", "md"]])
def test_files_go_along_with_nothing_but_a_whole_export(other: list[str], tmp_path: Path) -> None:
    done = run("export", "s", "--with-files", *other, "--db", tmp_path / "a.db")
    assert done.exit_code == 2
    assert "--with-files" in done.stderr
