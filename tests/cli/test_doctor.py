"""`mnesis doctor`: known dangers are named with their fix."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from pathlib import Path

import pytest

from mnesis.cli import doctor, doctor_environment
from mnesis.cli.doctor_environment import file_findings, litellm_finding, python_finding, sqlite_finding
from mnesis.models.finding import Finding
from tests.cli.conftest import Run, record


@pytest.mark.parametrize("good", [(3, 51, 3), (3, 52, 0), (3, 50, 7), (3, 44, 6), (4, 0, 0)])
def test_a_fixed_sqlite_is_fine(good: tuple[int, ...]) -> None:
    assert sqlite_finding(good).severity == "ok"


@pytest.mark.parametrize("bad", [(3, 40, 1), (3, 51, 2), (3, 50, 4), (3, 44, 5), (3, 45, 9)])
def test_a_sqlite_with_the_wal_race_is_a_warning_with_a_fix(bad: tuple[int, ...]) -> None:
    finding = sqlite_finding(bad)
    assert finding.severity == "warning"
    assert "3.51.3" in finding.fix


@pytest.mark.parametrize("bad", ["1.82.7", "1.82.8", "1.106.0", "1.106.1", "1.106.2", None])
def test_a_litellm_to_stay_away_from_is_an_error_with_a_fix(bad: str | None) -> None:
    finding = litellm_finding(bad)
    assert finding.severity == "error"
    assert "pip install" in finding.fix


def test_other_litellms_are_fine() -> None:
    assert litellm_finding("1.105.3").severity == litellm_finding("1.106.3").severity == "ok"


def test_an_old_python_is_an_error() -> None:
    assert python_finding((3, 10, 9)).severity == "error"
    assert python_finding((3, 11, 0)).severity == "ok"


def test_a_healthy_database_has_no_errors(run: Run, database: Path) -> None:
    result = run("doctor", "--json", "--db", database)
    findings = {finding["check"]: finding for finding in json.loads(result.stdout)}
    assert result.exit_code == 0
    assert {"python", "sqlite", "litellm", "tokenizer", "wal size", "content"} <= set(findings)
    assert all(finding["severity"] == "ok" or finding["fix"] for finding in findings.values())


def test_one_session_can_be_examined_by_the_start_of_its_id(run: Run, database: Path) -> None:
    result = run("doctor", "alpi", "--db", database)
    assert result.exit_code == 0
    assert "session alpine" in result.stdout


def test_a_database_others_can_read_is_named_with_its_fix(run: Run, database: Path) -> None:
    database.chmod(0o644)
    result = run("doctor", "--db", database)
    assert f"chmod 600 '{database}'" in result.stdout
    assert "mode 0644" in result.stdout


def test_a_large_write_ahead_log_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "a.db").touch(mode=0o600)
    with open(tmp_path / "a.db-wal", "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.truncate(doctor_environment.LARGE_WAL_BYTES + 1)
    (finding,) = file_findings(tmp_path / "a.db")
    assert (finding.severity, finding.check) == ("warning", "wal size")
    assert finding.fix


def test_an_error_found_in_the_content_is_exit_code_1(
    run: Run, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(db: str | None, session_id: str | None) -> list[Finding]:
        return [Finding("error", "hashes", "message 'm' has changed", "restore it from a copy", ("m",))]

    monkeypatch.setattr(doctor, "_check_database", broken)
    result = run("doctor", "--db", database)
    assert result.exit_code == 1
    assert "✗ hashes: message 'm' has changed" in result.stdout
    assert "fix: restore it from a copy" in result.stdout


def test_a_flipped_character_on_disk_is_found(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "flipped.db"
    asyncio.run(record(path, "s", 2))
    with sqlite3.connect(path) as connection:
        triggers = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]
        for name in triggers:
            connection.execute(f'DROP TRIGGER "{name}"')
        connection.execute("UPDATE messages SET parts = replace(parts, 'pump 2', 'pump 3') WHERE seq = 3")
    connection.close()
    result = run("doctor", "--db", path)
    assert result.exit_code == 1, result.output
    assert "fix:" in result.stdout


def test_what_to_do_about_a_database_that_does_not_open_depends_on_why(
    run: Run, database: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("dear diary\n" * 1_000)
    assert "mnesis salvage DB --to NEW" in run("doctor", "--db", tmp_path / "notes.txt").stdout
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA user_version = 9999")
    connection.close()
    assert "fix: pip install --upgrade mnesis" in run("doctor", "--db", database).stdout


def test_no_database_yet_is_fine_unless_one_was_named(run: Run, tmp_path: Path) -> None:
    assert run("doctor").exit_code == 0
    assert run("doctor", "--db", tmp_path / "none.db").exit_code == 3
