"""No damage stops a command with a traceback, hides another session, or goes unnoticed. `tests.support.damage_sweep` runs it all."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import cycle, islice
from pathlib import Path

import pytest

from mnesis.errors import CorruptStoreError
from mnesis.store.sqlite import SqliteStore
from tests.support.damage import Flip, search_tables, store_every_kind, tables
from tests.support.damage_sweep import (
    INTACT_SESSION,
    READING,
    Damage,
    Sweep,
    all_damage,
    flips,
    fresh_copy,
    pages,
    removals,
    run_command,
    swaps,
)

ROTATING = [name for name in READING if name != "doctor"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("damage") / "s.db"
    asyncio.run(store_every_kind(path))
    return path


@pytest.fixture
def sweep(source: Path, tmp_path: Path) -> Sweep:
    return Sweep(source, tmp_path / "work")


def sample(sweep: Sweep, damages: Iterator[Damage], step: int) -> list[str]:
    """Run `doctor` and one other command, a different one each time, on every `step`-th damage."""
    found = []
    names = cycle(ROTATING)
    for damage in islice(damages, 0, None, step):
        found += sweep.find_violations(damage, ["doctor", next(names)])
    return found


@pytest.mark.parametrize("part", range(4))
def test_no_flipped_bit_stops_a_command_or_is_passed_over(source: Path, sweep: Sweep, part: int) -> None:
    assert sample(sweep, islice(flips(source), part, None, 4), 3) == []


def test_no_missing_row_or_object_stops_a_command(source: Path, sweep: Sweep) -> None:
    assert sample(sweep, removals(source), 7) == []


def test_no_swap_and_no_wrong_number_stops_a_command(sweep: Sweep) -> None:
    assert sample(sweep, swaps(), 2) == []


def test_no_zeroed_page_or_short_file_stops_a_command(source: Path, sweep: Sweep) -> None:
    assert sample(sweep, pages(source), 15) == []


@pytest.mark.parametrize("table", ["sessions", "messages", "turns", "record_heads", "sqlite_autoindex_messages_1"])
def test_rows_of_another_table_stop_no_command(source: Path, sweep: Sweep, table: str) -> None:
    """STRICT tables do not protect from pages that changed places, which hold values of other types."""
    with closing(sqlite3.connect(source)) as connection:
        root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()[0]
    damage = next(each for each in pages(source) if each.name.startswith(f"pages {root} and"))
    assert sweep.find_violations(damage, ["doctor", "ls", "search", "reindex", "stats"]) == []


def test_the_whole_sweep_damages_every_column_and_every_object(source: Path) -> None:
    names = [damage.name for damage in all_damage(source)]
    assert len(names) == len(set(names))
    for table, columns in {**tables(source), **search_tables(source)}.items():
        assert all(any(f" {table}.{column}," in name for name in names) for column in columns)
        assert any(name == f"table {table} dropped" for name in names)


@pytest.mark.parametrize("command", [("grep", "question"), ("stats",)])
def test_a_damaged_session_does_not_stop_a_command_on_all(
    source: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    path = fresh_copy(source, tmp_path / "work")
    assert Flip("messages", "parts", 0, 9).apply(path)
    assert Flip("interruptions", "body", 0, 9).apply(path)
    outcome = run_command(command, path, tmp_path / "new.db")
    assert outcome.exit_code == 1
    assert "note: session s is damaged" in outcome.stderr
    assert INTACT_SESSION in outcome.stdout


async def test_a_log_that_seems_shorter_is_read_to_its_end(source: Path, tmp_path: Path) -> None:
    path = fresh_copy(source, tmp_path / "work")
    assert Flip("accounts", "last_seq", 0, 3).apply(path)
    store = SqliteStore(path)
    await store.open()
    assert len(await store.messages("s")) == 11
    with pytest.raises(CorruptStoreError, match="accounts"):
        await store.session("s")
    await store.close()
