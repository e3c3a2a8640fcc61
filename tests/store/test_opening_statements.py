"""Opening a database and reading the first window ask for each thing once."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from mnesis.store.sqlite import SqliteStore, connect
from mnesis.testing.store_samples import make_turn, store_conversation


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements of all connections from now on, by their first words or their first table."""
    statements: list[str] = []
    connect_file = connect.connect_file

    def connect_traced(*args: Any, **options: Any) -> sqlite3.Connection:
        connection = connect_file(*args, **options)
        connection.set_trace_callback(lambda statement: statements.append(_describe(statement)))
        return connection

    monkeypatch.setattr(connect, "connect_file", connect_traced)
    return statements


def _describe(statement: str) -> str:
    words = statement.split()
    if words[0] == "SELECT":
        return f"SELECT {words[words.index('FROM') + 1]}"
    return " ".join(words[:2]) if words[0] == "PRAGMA" else words[0]


async def test_opening_a_current_database_asks_once_for_each_thing(tmp_path: Path, executed: list[str]) -> None:
    await _create(tmp_path / "s.db")
    executed.clear()
    store = SqliteStore(tmp_path / "s.db")
    await store.open()
    pragmas = [each.removeprefix("PRAGMA ") for each in executed if each.startswith("PRAGMA")]
    assert pragmas[:3] == ["user_version", "application_id", "journal_mode"]
    assert pragmas.count("user_version") == 2  # before the file is touched, and before a migration
    assert [each for each in executed if each.startswith("SELECT")] == ["SELECT unhashed"]
    await store.close()


@pytest.mark.parametrize("records", [(), ("hide",), ("pin",)])
async def test_a_first_window_asks_once_for_each_kind_of_record(
    tmp_path: Path, executed: list[str], records: tuple[str, ...]
) -> None:
    await _create(tmp_path / "s.db", *records)
    store = SqliteStore(tmp_path / "s.db")
    await store.open()
    executed.clear()
    context = await store.active_context("s")
    assert (bool(context.covers), bool(context.pins)) == ("hide" in records, "pin" in records)
    read = [_without_values(each) for each in executed if each not in ("BEGIN", "COMMIT")]
    always = [
        "PRAGMA data_version",  # so that the next one asks for nothing else
        "SELECT sessions",
        "SELECT context_covers",
        "SELECT json_each(:spans)",
        "SELECT json_each(:spans)",
        "SELECT pins",
    ]
    # Messages and prunes are asked for by spans. A session without records needs no list of their hashes.
    assert read == always + (["SELECT record_heads"] if records else [])
    await store.close()


def _without_values(statement: str) -> str:
    return "SELECT json_each(:spans)" if statement.startswith("SELECT json_each(") else statement


async def _create(path: Path, *records: str) -> None:
    store = SqliteStore(path)
    await store.open()
    await store_conversation(store, 3)
    await store.append("s", make_turn(9))
    if "hide" in records:
        await store.hide("s", 1, 2)
    if "pin" in records:
        await store.pin("s", 3)
    await store.close()
