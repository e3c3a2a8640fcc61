"""Databases with rows in every table, and damage to any of their values."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnesis.models.context import Cover, Prune
from mnesis.models.message import FileRefPart, ToolPart
from mnesis.models.run import ItemOutcome, RunSpec
from mnesis.models.search import Search
from mnesis.models.session import Interruption, SessionRecord, UsageReport
from mnesis.models.usage import TokenUsage
from mnesis.store.base import Append, Store
from mnesis.store.sqlite import SqliteStore
from mnesis.testing.store_samples import (
    make_compaction,
    make_condensed,
    make_leaf,
    make_message,
    make_turn,
    store_conversation,
)


async def store_every_kind(path: Path) -> None:
    """Store rows of every kind in a new database."""
    store = SqliteStore(path)
    await store.open()
    await fill_with_every_kind(store)
    await store.close()


async def fill_with_every_kind(store: Store) -> None:
    """Store rows of every kind: two sessions with all records, a purged one, and two runs."""
    for name in ("s", "t"):
        await store_conversation(store, 4, name)
        await store.update_session(name, title=f"title of {name}", metadata={"k": [1]}, system_prompt="Be kind.")
        output = FileRefPart(content_id="f" * 64, path="/o")
        parts = (ToolPart(tool_name="read", tool_call_id="c", output_file=output, output="words"),)
        message = make_message("assistant", id=f"with-file-{name}").model_copy(
            update={"parts": parts, "tool_tokens": 5}
        )
        report = UsageReport(TokenUsage(input=900, output=50, cache_read=3, cache_write=4, total=957), "request", 0.25)
        await store.append(name, Append([message], report, ends_turn=True))
        one, two = make_leaf("one", 1, 2), make_leaf("two", 3, 4)
        top = make_condensed("top", [one, two])
        await store.compact(name, make_compaction((), [Cover(1, 4, "top")], [one, two, top], [Prune(9, 0, 3)]))
        await store.hide(name, 5, 5)
        await store.pin(name, 6)
        await store.pin(name, 7)
        await store.record_interruption(name, Interruption(9, "failed", "Error", "it broke", "half", 5))
        await store.append(name, make_turn(5))
    await store.create_session(SessionRecord(id="child", model="m", parent_id="s"))
    await store_conversation(store, 1, "purged")
    await store.purge("purged")
    for run_id in ("r", "q"):
        await store.begin_run(RunSpec(run_id, "llm_map", "print", "m", 5, '{"template": "t"}'))
        await store.add_items(run_id, 0, ['"a"', '"b"', '"c"', '"d"'])
        await store.seal_run(run_id, 4)
        await store.claim_items(run_id, "w", limit=3, now_ms=1, lease_ms=10**6, max_claims=3)
        usage = TokenUsage(input=9, output=5, cache_read=1, cache_write=1, total=16)
        outcomes = [ItemOutcome(0, "done", '"A"', usage=usage, cost=0.5), ItemOutcome(1, "failed", '"E"')]
        await store.finish_items(run_id, "w", outcomes)
    await store.search(Search("question"))
    await store.search(Search("question", mode="substring"))


@dataclass(frozen=True)
class Flip:
    """One flipped bit: of the value in `column` of the row with this position in `table`."""

    table: str
    column: str
    position: int
    bit: int

    def apply(self, path: Path) -> bool:
        """Flip the bit behind the back of every trigger. Returns whether there is such a value."""
        connection = sqlite3.connect(path)
        try:
            for pragma in ("ignore_check_constraints = ON", "foreign_keys = OFF", "writable_schema = ON"):
                connection.execute(f"PRAGMA {pragma}")
            triggers = connection.execute(
                "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?", (self.table,)
            ).fetchall()
            for name, _ in triggers:
                connection.execute(f"DROP TRIGGER {name}")
            found = self._flip(connection)
            for _, sql in triggers:
                connection.execute(sql)
            connection.commit()
            return found
        except sqlite3.IntegrityError:
            return False  # the database itself refuses a second row with this key
        finally:
            connection.close()

    def _flip(self, connection: sqlite3.Connection) -> bool:
        keys = [row[1] for row in connection.execute(f"PRAGMA table_info({self.table})") if row[5]]
        names = ", ".join(keys)
        rows = connection.execute(
            f"SELECT {names}, typeof({self.column}), CAST({self.column} AS BLOB), {self.column} IS NULL"
            f" FROM {self.table} ORDER BY {names}"
        ).fetchall()
        rows = [row for row in rows if not row[-1]]
        if not rows:
            return False
        *key, kind, data, _ = rows[min(self.position, len(rows) - 1)]
        where = " AND ".join(f"{name} IS ?" for name in keys)
        set_value = f"CAST(? AS {'TEXT' if kind == 'text' else 'BLOB'})" if kind in ("text", "blob") else "?"
        connection.execute(
            f"UPDATE {self.table} SET {self.column} = {set_value} WHERE {where}",
            (_flip_value(kind, data, self.bit), *key),
        )
        return True


def _flip_value(kind: str, data: bytes, bit: int) -> Any:
    if kind == "integer":
        return int(data) ^ (1 << bit % 62)
    if kind == "real":
        (number,) = struct.unpack(">q", struct.pack(">d", float(data)))
        return struct.unpack(">d", struct.pack(">q", number ^ (1 << bit % 52)))[0]
    flipped = bytearray(data or b"\0")
    flipped[bit // 8 % len(flipped)] ^= 1 << bit % 8
    return bytes(flipped)


def tables(path: Path) -> dict[str, list[str]]:
    """Return the columns of every table of a database, without those of the search index and of SQLite."""
    return {name: columns for name, columns in _all_tables(path).items() if not name.startswith("search_")}


def search_tables(path: Path) -> dict[str, list[str]]:
    """Return the columns of every table in which the search index is stored."""
    return {name: columns for name, columns in _all_tables(path).items() if name.startswith("search_")}


def _all_tables(path: Path) -> dict[str, list[str]]:
    connection = sqlite3.connect(path)
    rows = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%' AND name NOT LIKE 'sqlite_%'"
    )
    columns = {
        name: [row[1] for row in connection.execute(f"PRAGMA table_info({name})")] for (name,) in rows.fetchall()
    }
    connection.close()
    return columns


def flips(path: Path, table: str) -> Iterator[Flip]:
    """Yield flips of a low bit in the first and of a high bit in the last value of every column of a table."""
    for column in tables(path)[table]:
        yield Flip(table, column, 0, 1)
        yield Flip(table, column, 10**9, 38)
