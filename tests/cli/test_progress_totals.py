"""Long commands say how much is done, of how much."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mnesis import Engine, MnesisSession
from mnesis.cli import backup, doctor, maintenance, purge, salvage, verify
from mnesis.store.sqlite import SqliteStore
from mnesis.store.sqlite.backup import REPORT_INSTRUCTIONS
from mnesis.testing.fault_migration import write_old_database
from tests.cli.conftest import Run
from tests.support.damage import store_every_kind

SESSIONS = 5


class Bar:
    """A bar that remembers what it was told."""

    def __init__(self, total: int | None) -> None:
        self.total, self.done = total, 0

    def advance(self, count: int = 1) -> None:
        self.done += count

    def set_total(self, total: int | None) -> None:
        self.total = total


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> dict[str, Bar]:
    shown: dict[str, Bar] = {}

    @contextmanager
    def record(label: str, total: int | None = None, **options: Any) -> Iterator[Bar]:
        shown[label] = Bar(total)
        yield shown[label]

    for module in (backup, doctor, maintenance, purge, salvage, verify):
        monkeypatch.setattr(module, "progress", record)
    return shown


async def fill(path: Path) -> None:
    async with Engine(path) as engine:
        for number in range(SESSIONS):
            async with MnesisSession.create(model=None, session_id=f"old-{number}", engine=engine) as session:
                await session.record("question", "answer")


@pytest.mark.parametrize(
    ("arguments", "label"),
    [
        (["verify"], "verifying sessions"),
        (["doctor"], "checking sessions"),
        (["salvage", "--to", "{new}"], "salvaging sessions"),
        (["migrate", "--to", "{new}"], "copying sessions"),
        (["purge", "--match", "old-*", "--apply"], "erasing sessions"),
    ],
)
def test_sessions_are_counted(run: Run, tmp_path: Path, bars: dict[str, Bar], arguments: list[str], label: str) -> None:
    asyncio.run(fill(tmp_path / "s.db"))
    options = [each.replace("{new}", str(tmp_path / "new.db")) for each in arguments]
    shown = run(*options, "--db", tmp_path / "s.db")
    assert shown.exit_code == 0, shown.output
    assert (bars[label].done, bars[label].total) == (SESSIONS, SESSIONS)


def test_an_update_counts_sessions_and_runs(run: Run, tmp_path: Path, bars: dict[str, Bar]) -> None:
    asyncio.run(store_every_kind(tmp_path / "new.db"))
    write_old_database(tmp_path / "new.db", tmp_path / "s.db", 3)
    assert run("migrate", "--db", tmp_path / "s.db").exit_code == 0
    bar = bars["updating sessions and runs"]
    assert bar.done == bar.total
    assert bar.total is not None
    assert bar.total >= 5


def test_a_backup_counts_bytes(run: Run, tmp_path: Path, bars: dict[str, Bar]) -> None:
    asyncio.run(fill(tmp_path / "s.db"))
    connection = sqlite3.connect(tmp_path / "s.db")
    connection.execute("CREATE TABLE ballast (x)")
    rows = REPORT_INSTRUCTIONS // 4
    connection.execute(
        "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
        " INSERT INTO ballast SELECT i FROM n",
        (rows,),
    )
    connection.commit()
    connection.close()
    assert run("backup", tmp_path / "copy.db", "--db", tmp_path / "s.db").exit_code == 0
    bar = bars["copying bytes"]
    assert bar.total is not None
    assert 0 <= bar.done <= bar.total


async def test_a_check_of_one_session_counts_one(tmp_path: Path) -> None:
    await fill(tmp_path / "s.db")
    store = SqliteStore(tmp_path / "s.db")
    await store.open()
    heard: list[tuple[int, int]] = []
    await store.verify(session_id="old-1", on_progress=lambda done, total: heard.append((done, total)))
    assert heard == [(1, 1)]
    await store.close()
