"""The database itself refuses change; its statements, its plans and its migrations."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

import mnesis.store.sqlite
from mnesis.models.context import Cover
from mnesis.store.sqlite import SqliteStore, migrate
from mnesis.store.sqlite.migrate import Migration, migrations
from mnesis.store.sqlite.queries import statements
from mnesis.testing.store_samples import make_compaction, make_condensed, make_leaf, store_conversation
from tests.store.children import Report, start

GUARDED = ("messages", "summaries", "summary_messages", "summary_children", "turns", "compactions")
MAY_SCAN = {"check_sessions", "check_schema", "search_behind", "search_trigrams_behind", "search_logs"}
MAY_SCAN |= {"search_outdated", "empty_search_rows", "empty_search_speakers", "empty_search_state"}
MAY_SCAN |= {
    "runs",
    "check_runs",
    "file_refs",
    "file_content_ids",
    "change_sessions",
    "purge_changes",
    "purge_run_changes",
}
MAY_SCAN |= {
    "count_search_behind",
    "count_trigrams_behind",
    "check_changes",
    "check_change_sums",
    "count_deletion",
    "count_unhashed",
}
MAY_SCAN |= {f"salvage_{name}" for name in ("sessions", "messages", "turns", "turns_backwards")}
MAY_SCAN |= {f"salvage_{table}_{way}" for table in ("sessions", "messages") for way in ("forwards", "backwards")}
MAY_SCAN |= {"sessions_without_accounts", "accounts_without_sessions", "covered_extent"}
MAY_SCAN |= {"count_indexed", *(f"check_search_{part}" for part in ("speakers", "strays"))}
MAY_SCAN |= {f"search_{part}" for part in ("all_blocks", "settings", "whole_index")}
MAY_SCAN |= {"seal_accounts", "seal_runs", "seal_items", "unhashed"}
SORTS = {
    "check_search_speakers",
    "check_search_strays",
    "children_page",
    "covered_messages",
    "summaries",
    "check_summaries",
    "check_summary_rows",
    "prunes_in_spans",
    "run_items_abandoned",
    "run_items_lost",
}


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A database in which every table that refuses change has rows."""
    path = tmp_path / "s.db"
    store = SqliteStore(path)
    await store.open()
    await store_conversation(store, 3)
    one = make_leaf("one", 1, 2)
    await store.compact("s", make_compaction((), [Cover(1, 2, "top")], [one, make_condensed("top", [one])]))
    await store.close()
    return path


@pytest.fixture(params=["recursive triggers", "plain"])
def intruder(path: Path, request: pytest.FixtureRequest) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA recursive_triggers = {'ON' if request.param == 'recursive triggers' else 'OFF'}")
    yield connection
    connection.close()


@pytest.mark.parametrize("table", GUARDED)
def test_rows_of_the_log_cannot_be_changed_deleted_or_replaced(intruder: sqlite3.Connection, table: str) -> None:
    rows = intruder.execute(f"SELECT * FROM {table}").fetchall()
    assert rows
    columns = [row[1] for row in intruder.execute(f"PRAGMA table_info({table})")]
    for column in columns:
        with pytest.raises(sqlite3.IntegrityError, match="never"):
            intruder.execute(f"UPDATE {table} SET {column} = {column}")
    with pytest.raises(sqlite3.IntegrityError, match="never"):
        intruder.execute(f"DELETE FROM {table}")
    for row in rows:
        marks = ", ".join("?" * len(row))
        with pytest.raises(sqlite3.IntegrityError, match="never"):
            intruder.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", row)
        if columns[0] == "pk":
            with pytest.raises(sqlite3.IntegrityError):
                intruder.execute(f"REPLACE INTO {table} VALUES ({marks})", (row[0], *rows[-1][1:]))
    assert intruder.execute(f"SELECT * FROM {table}").fetchall() == rows


def test_a_message_cannot_be_replaced_through_any_of_its_keys(intruder: sqlite3.Connection) -> None:
    columns = "session_pk, seq, id, role, token_count, tool_tokens, created_at, hash, parts"
    hash_ = b"\0" * 32
    for seq, name in ((1, "new"), (99, intruder.execute("SELECT id FROM messages").fetchone()[0])):
        with pytest.raises(sqlite3.IntegrityError, match="never"):
            intruder.execute(
                f"REPLACE INTO messages ({columns}) VALUES (1, ?, ?, 'user', 0, 0, 0, ?, '\"\"')", (seq, name, hash_)
            )


def test_a_session_cannot_be_deleted_without_a_purge(intruder: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="purge"):
        intruder.execute("DELETE FROM sessions")


async def test_a_purge_leaves_no_row_and_no_byte(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    await store_conversation(store, 1, "needle-session")
    await store.purge("s")
    counts = {
        table: await store.database.read(lambda c, t=table: c.execute(f"SELECT count(*) FROM {t}").fetchone()[0])
        for table in (*GUARDED, "sessions", "accounts", "context_covers", "prunes", "hidden_spans", "purging")
    }
    await store.purge("needle-session")
    assert {counts.pop("messages"), counts.pop("turns"), counts.pop("sessions"), counts.pop("accounts")} == {1, 2}
    assert set(counts.values()) == {0}
    bytes_left = b"".join(file.read_bytes() for file in path.parent.iterdir() if file.name != "s.db-shm")
    await store.close()
    assert b"question" not in bytes_left
    assert b"needle" not in bytes_left


def test_every_statement_has_a_purpose_and_is_used() -> None:
    folder = Path(mnesis.store.sqlite.__file__).parent
    source = "".join(file.read_text() for file in (*folder.glob("*.py"), *folder.parent.glob("*.py")))
    for statement in statements().values():
        assert statement.purpose
        assert f'"{statement.name}"' in source, statement.name
    assert set(re.findall(r'\bsql\("(\w+)"\)', source)) <= set(statements())


@pytest.mark.parametrize("name", sorted(statements()))
def test_a_statement_compiles_and_does_not_scan(path: Path, name: str) -> None:
    connection = sqlite3.connect(path)
    statement = statements()[name].sql
    named = dict.fromkeys(re.findall(r":(\w+)", statement), 1)
    parameters: object = named or (1,) * statement.count("?")
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]  # type: ignore[arg-type]  # both kinds
    connection.close()
    harmless = r"SCAN (span|expression|child|json_each|page|behind|\(subquery-\d+\)|CONSTANT ROW|.* VIRTUAL TABLE.*)"
    scans = [step for step in plan if step.startswith("SCAN") and not re.match(harmless, step)]
    assert name in MAY_SCAN or not scans
    assert name in SORTS or not [step for step in plan if "TEMP B-TREE" in step and "DISTINCT" not in step]


def objects(connection: sqlite3.Connection) -> list[tuple[str, ...]]:
    return connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name").fetchall()


NEXT = len(migrations()) + 1
FURTHER = Migration(NEXT, "ALTER TABLE prunes ADD COLUMN why TEXT;\nCREATE TABLE notes (\n x TEXT\n) STRICT;\n")
BROKEN = Migration(NEXT, "CREATE TABLE notes (x TEXT) STRICT;\nCREATE TABLE notes (x TEXT) STRICT;\n")


async def test_a_migrated_database_equals_a_fresh_one_and_keeps_its_rows(path: Path, tmp_path: Path) -> None:
    old = sqlite3.connect(path, isolation_level=None)
    before = old.execute("SELECT * FROM messages").fetchall()
    migrate.migrate(old, path, [*migrations(), FURTHER])
    fresh = sqlite3.connect(tmp_path / "fresh.db", isolation_level=None)
    migrate.migrate(fresh, tmp_path / "fresh.db", [*migrations(), FURTHER])
    assert objects(old) == objects(fresh)
    assert migrate.schema_version(old) == migrate.schema_version(fresh) == NEXT
    assert old.execute("SELECT * FROM messages").fetchall() == before
    old.close()
    fresh.close()
    backup = tmp_path / f"s.db.v{NEXT - 1}.backup"
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    copy = sqlite3.connect(backup)
    assert copy.execute("SELECT * FROM messages").fetchall() == before
    assert migrate.schema_version(copy) == NEXT - 1
    copy.close()
    assert not (tmp_path / f"fresh.db.v{NEXT - 1}.backup").exists()


def test_a_new_database_is_what_the_migrations_make(tmp_path: Path) -> None:
    def make(name: str, scripts: list[Migration] | None) -> list[object]:
        connection = sqlite3.connect(tmp_path / name, isolation_level=None)
        migrate.migrate(connection, tmp_path / name, scripts)
        pragmas = [connection.execute(f"PRAGMA {each}").fetchone() for each in ("user_version", "application_id")]
        tables = {name for _, name, kind, *_ in connection.execute("PRAGMA main.table_list") if kind != "virtual"}
        # An empty index counts how often it was emptied.
        tables -= {"sqlite_schema", "search_words_data", "search_trigrams_data"}
        rows = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in tables}
        made = [pragmas, rows, objects(connection)]
        connection.close()
        return made

    assert make("new.db", None) == make("migrated.db", list(migrations()))


def test_the_base_schema_is_followed_by_later_migrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "migrations", lambda: (*migrations(), FURTHER))
    connection = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
    migrate.migrate(connection, tmp_path / "s.db")
    assert migrate.schema_version(connection) == NEXT
    assert ("notes",) in connection.execute("SELECT name FROM sqlite_master").fetchall()
    connection.close()


def test_many_processes_may_make_a_database_at_once(tmp_path: Path) -> None:
    path = tmp_path / "new.db"

    def work(tell: Report) -> None:
        connection = sqlite3.connect(path, isolation_level=None, timeout=60)
        migrate.migrate(connection, path)
        tell(str(migrate.schema_version(connection)))
        connection.close()

    children = [start(work) for _ in range(8)]
    assert [child.wait() for child in children] == [([str(NEXT - 1)], 0)] * 8


async def test_a_migration_that_fails_leaves_the_database_as_it_was(path: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    before = objects(connection)
    with pytest.raises(sqlite3.OperationalError):
        migrate.migrate(connection, path, [*migrations(), BROKEN])
    assert (objects(connection), migrate.schema_version(connection)) == (before, NEXT - 1)
    assert not connection.in_transaction
    connection.close()


def test_many_processes_may_migrate_at_once(path: Path) -> None:
    def work(tell: Report) -> None:
        connection = sqlite3.connect(path, isolation_level=None, timeout=60)
        migrate.migrate(connection, path, [*migrations(), FURTHER])
        tell(str(migrate.schema_version(connection)))
        connection.close()

    children = [start(work) for _ in range(8)]
    assert [child.wait() for child in children] == [([str(NEXT)], 0)] * 8


def test_migrations_count_from_one_without_gaps() -> None:
    assert [migration.version for migration in migrations()] == list(range(1, len(migrations()) + 1))


def test_a_database_that_is_being_created_is_not_a_foreign_one(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    path.touch()

    class Interleaved(sqlite3.Connection):
        def execute(self, sql: str, *parameters: object) -> sqlite3.Cursor:
            if "sqlite_master" in sql:
                other = sqlite3.connect(path, isolation_level=None, timeout=0)
                with contextlib.suppress(sqlite3.OperationalError):
                    migrate.migrate(other, path)
                other.close()
            return super().execute(sql, *parameters)  # type: ignore[arg-type]  # passed on

    connection = sqlite3.connect(path, isolation_level=None, factory=Interleaved)
    assert migrate.refuse_foreign(connection, path) == 0
    connection.close()
