"""Commands on encrypted databases: the key comes from the environment, and everything works as without one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator

from mnesis import MnesisSession
from mnesis.cli.app import cli
from mnesis.cli.json_output import OUTPUTS, json_schema
from mnesis.models.message import FilePart
from mnesis.testing.llm import ScriptedLLM
from tests.support.encrypted import KEY, PASSPHRASE, encrypted_config, files_below, find_on_disk

CANARY = "Zirkuspferd"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


async def write(directory: Path) -> None:
    async with MnesisSession.open(
        model="openai/gpt-4o",
        session_id="ada",
        db_path=directory / "s.db",
        config=encrypted_config(directory),
        llm=ScriptedLLM(lambda messages: "A summary of what was said."),
    ) as session:
        for number in range(5):
            await session.record(f"{CANARY} {number} {'word ' * 400}", "answer")
        await session.record([FilePart(name="a.log", text=f"{CANARY}\n" * 300)], "seen")
        await session.compact()


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    asyncio.run(write(tmp_path))
    monkeypatch.setenv("MNESIS_ENCRYPTION_KEY", KEY.hex())
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    yield tmp_path / "s.db"
    assert find_on_disk(tmp_path / "files", CANARY) == []


READING: list[tuple[str, ...]] = [
    ("ls",),
    ("show", "ada"),
    ("context", "ada"),
    ("dag", "ada"),
    ("timeline", "ada"),
    ("search", CANARY),
    ("grep", CANARY, "ada"),
    ("stats",),
    ("export", "ada"),
    ("doctor",),
    ("verify",),
    ("reindex",),
    ("migrate",),
    ("purge", "ada"),
]


@pytest.mark.parametrize("arguments", READING, ids=lambda arguments: arguments[0])
def test_a_command_works_with_the_key_and_refuses_without(
    database: Path, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(*arguments, "--db", database)
    assert result.exit_code == 0, result.output
    for name, value in (("MNESIS_ENCRYPTION_KEY", ""), ("MNESIS_ENCRYPTION_KEY", PASSPHRASE)):
        monkeypatch.setenv(name, value)
        refused = run(*arguments, "--db", database)
        assert refused.exit_code == 3, refused.output
        words = refused.stdout + refused.stderr
        assert "is encrypted, and no key" in words or "cannot be decrypted" in words
        assert KEY.hex() not in words
        assert PASSPHRASE not in words
    assert CANARY not in refused.output


def test_a_session_travels_through_exports_and_imports_with_its_files(database: Path, tmp_path: Path) -> None:
    lines = tmp_path / "out" / "ada.jsonl"
    lines.parent.mkdir()
    exported = run("export", "ada", "--with-files", "-o", lines, "--db", database, "--storage", tmp_path / "files")
    assert exported.exit_code == 0, exported.output
    assert lines.read_text().count('"kind": "file"') + lines.read_text().count('"kind":"file"') == 1
    new = tmp_path / "new"
    imported = run("import", lines, "--db", new / "new.db", "--storage", new / "files")
    assert imported.exit_code == 0, imported.output
    assert find_on_disk(new, CANARY) == []
    assert run("doctor", "--deep", "--db", new / "new.db", "--storage", new / "files").exit_code == 0
    purged = run("purge", "ada", "--apply", "--files", "--db", new / "new.db", "--storage", new / "files")
    assert purged.exit_code == 0, purged.output
    assert [path for path in files_below(new / "files") if path.parent.name not in ("databases", "incoming")] == []


def test_salvage_and_migrate_keep_the_key(database: Path, tmp_path: Path) -> None:
    for arguments in (("salvage", "--to", tmp_path / "new" / "s.db"), ("migrate", "--to", tmp_path / "new" / "m.db")):
        (tmp_path / "new").mkdir(exist_ok=True)
        result = run(*arguments, "--db", database)
        assert result.exit_code == 0, result.output
        assert run("show", "ada", "--db", arguments[2]).exit_code == 0
    assert find_on_disk(tmp_path / "new", CANARY) == []


def test_a_backup_has_the_same_key_another_one_or_none(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_file = tmp_path / "new.key"
    key_file.write_text(f"{PASSPHRASE}\n")
    storage = ("--storage", tmp_path / "files")
    validate = Draft202012Validator(json_schema(OUTPUTS["backup"].document or "")).validate
    for name, options, is_encrypted in (
        ("same", [], True),
        ("other", ["--new-key-file", key_file], True),
        ("plain", ["--plain"], False),
    ):
        target = tmp_path / name
        target.mkdir()
        options += ["--files-to", target / "files", *storage, "--json"]
        result = run("backup", target / "s.db", *options, "--db", database)
        assert result.exit_code == 0, result.output
        document = json.loads(result.stdout)
        validate(document)
        assert (document["encrypted"], document["files"]) == (is_encrypted, 1)
        assert (find_on_disk(target, CANARY) == []) == is_encrypted
    for name, key in (("same", KEY.hex()), ("other", PASSPHRASE), ("plain", "")):
        monkeypatch.setenv("MNESIS_ENCRYPTION_KEY", key)
        result = run("doctor", "--deep", "--db", tmp_path / name / "s.db", "--storage", tmp_path / name / "files")
        assert result.exit_code == 0, result.output
    assert run("backup", tmp_path / "x.db", "--plain", "--new-key-file", key_file, "--db", database).exit_code == 2


def test_rekey_changes_the_key_of_database_and_files(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_file = tmp_path / "new.key"
    key_file.write_bytes(bytes(range(200, 232)))
    result = run("rekey", "--new-key-file", key_file, "--storage", tmp_path / "files", "--json", "--db", database)
    assert result.exit_code == 0, result.output
    Draft202012Validator(json_schema(OUTPUTS["rekey"].document or "")).validate(json.loads(result.stdout))
    assert run("ls", "--db", database).exit_code == 3
    monkeypatch.delenv("MNESIS_ENCRYPTION_KEY")
    monkeypatch.setenv("MNESIS_ENCRYPTION_KEY_FILE", str(key_file))
    result = run("doctor", "--deep", "--db", database, "--storage", tmp_path / "files")
    assert result.exit_code == 0, result.output


def test_keys_that_cannot_be_used_are_wrong_usage(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNESIS_ENCRYPTION_KEY", "short")
    assert (run("ls", "--db", database).exit_code, "short" in run("ls", "--db", database).output) == (2, False)
    monkeypatch.setenv("MNESIS_ENCRYPTION_KEY_FILE", str(tmp_path / "missing"))
    assert "both set" in run("ls", "--db", database).output
    monkeypatch.delenv("MNESIS_ENCRYPTION_KEY")
    assert "cannot be read" in run("ls", "--db", database).output
    (tmp_path / "missing").write_bytes(b"\xff\xfe")
    assert "has no key" in run("ls", "--db", database).output
    plain = tmp_path / "plain.db"
    monkeypatch.delenv("MNESIS_ENCRYPTION_KEY_FILE")
    asyncio.run(_create(plain))
    (tmp_path / "key").write_text(PASSPHRASE)
    refused = run("rekey", "--new-key-file", tmp_path / "key", "--db", plain)
    assert "mnesis backup --new-key-file" in refused.output
    assert refused.exit_code != 0


async def _create(path: Path) -> None:
    async with MnesisSession.open(model=None, session_id="s", db_path=path):
        pass
