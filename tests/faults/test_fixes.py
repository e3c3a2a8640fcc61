"""Every finding of `doctor` about a database names a command that exists, and that command helps."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from itertools import islice
from pathlib import Path

import pytest
from click.testing import CliRunner

from mnesis.cli.app import COMMANDS, cli
from mnesis.store.sqlite import fixes
from tests.support.damage import store_every_kind
from tests.support.damage_sweep import all_damage, statements

COMMAND = re.compile(r"mnesis ([a-z]+)((?: (?:[A-Z]+|--[a-z-]+))*)")
SKIPPED_CHECKS = {"python", "sqlite", "litellm", "tokenizer", "wal size", "file system", "permissions"}
"""Findings about the environment."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("damage") / "s.db"
    asyncio.run(store_every_kind(path))
    return path


def findings_of(path: Path) -> list[dict[str, str]]:
    document = json.loads(CliRunner().invoke(cli, ["doctor", "--json", "--db", str(path)]).stdout)
    return [each for each in document if each["severity"] != "ok" and each["check"] not in SKIPPED_CHECKS]


def test_every_fix_of_a_store_names_a_command() -> None:
    texts = [value for name, value in vars(fixes).items() if name.isupper()]
    assert len(texts) > 5
    for text in texts:
        assert COMMAND.search(text), text
        assert all(name in COMMANDS for name, _ in COMMAND.findall(text)), text


@pytest.mark.parametrize("offset", range(3))
def test_the_command_of_a_finding_removes_it(source: Path, tmp_path: Path, offset: int) -> None:
    unhelpful, helped = [], set()
    for damage in islice(all_damage(source), offset * 17, None, 53):
        path = tmp_path / "copy.db"
        for leftover in tmp_path.iterdir():
            leftover.unlink()
        shutil.copyfile(source, path)
        if not damage.apply(path):
            continue
        findings = findings_of(path)
        for fix in {each["fix"] for each in findings}:
            before = {each["detail"] for each in findings if each["fix"] == fix}
            if fix.startswith("pip install"):  # a newer release may have written the database
                continue
            found = COMMAND.search(fix)
            if found is None:
                unhelpful.append((damage.name, fix, "names no command"))
                continue
            result = apply_fix(found[1], path, tmp_path)
            if result is None:  # nothing could be read; the fix says what to do then
                assert "backup" in fix or "salvage" in fix
                continue
            after = {each["detail"] for each in findings_of(result)}
            helped.add(found[1])
            if before & after:
                unhelpful.append((damage.name, fix, str(before & after)))
    assert unhelpful == []
    assert helped


def apply_fix(command: str, path: Path, directory: Path) -> Path | None:
    """Run a command on a copy of the database. Returns the database to use afterwards; None if it was refused."""
    target = directory / "fixed.db"
    for leftover in directory.glob("fixed.db*"):
        leftover.unlink()
    if command == "salvage":
        done = CliRunner().invoke(cli, ["salvage", str(path), "--to", str(target)])
        return target if done.exit_code in (0, 1) else None
    shutil.copyfile(path, target)
    done = CliRunner().invoke(cli, [command, "--db", str(target)])
    assert done.exit_code == 0, done.output
    return target


def test_an_unfinished_import_is_removed_by_the_command_it_names(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    asyncio.run(store_every_kind(path))
    export = CliRunner().invoke(cli, ["export", "s", "--db", str(path)]).stdout
    (tmp_path / "s.jsonl").write_text(export)
    asyncio.run(_mark_unfinished(path))
    (finding,) = findings_of(path)
    assert finding["check"] == "unfinished"
    assert "mnesis import" in finding["fix"]
    assert CliRunner().invoke(cli, ["import", str(tmp_path / "s.jsonl"), "--db", str(path)]).exit_code == 0
    assert findings_of(path) == []


async def _mark_unfinished(path: Path) -> None:
    from mnesis.models.session import UNFINISHED
    from mnesis.store.sqlite import SqliteStore

    store = SqliteStore(path)
    await store.open()
    await store.update_session("s", metadata={UNFINISHED: "import"})
    await store.close()


@pytest.mark.parametrize("version", [0, 1, 5])
def test_a_wrong_schema_version_is_damage_and_not_an_old_database(source: Path, tmp_path: Path, version: int) -> None:
    path = Path(shutil.copy(source, tmp_path / "copy.db"))
    assert statements(f"PRAGMA user_version = {version}")(path)
    (finding,) = findings_of(path)
    assert "header is damaged" in finding["detail"]
    assert CliRunner().invoke(cli, ["migrate", "--db", str(path)]).exit_code == 3
    assert not list(tmp_path.glob("*.backup"))
    assert CliRunner().invoke(cli, ["salvage", str(path), "--to", str(tmp_path / "new.db")]).exit_code == 0
