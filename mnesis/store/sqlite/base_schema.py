"""The script that makes a new database at once, rendered from the migrations: `migrations/base.sql`.

Running every migration on an empty file takes five times as long, and waits for the disk after each migration.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from mnesis.store.sqlite.migrate import APPLICATION_ID, migrations

_HEAD = (
    "-- What a new database has: all that its migrations would have made.\n"
    "-- Generated from them by `python docs/generate.py`; do not edit.\n"
)


def render_base_schema() -> str:
    """Return the text of `migrations/base.sql`."""
    connection = sqlite3.connect(":memory:")
    try:
        for migration in migrations():
            connection.executescript(migration.sql)
        content = [*_definitions(connection), *_insertions(connection)]
    finally:
        connection.close()
    pragmas = [f"PRAGMA application_id = {APPLICATION_ID}", f"PRAGMA user_version = {migrations()[-1].version}"]
    return "\n".join([_HEAD, *(f"{each};\n" for each in (*pragmas, *content))])


def _definitions(connection: sqlite3.Connection) -> Iterator[str]:
    """Yield the statement that creates each object, in order of creation, without the tables of which virtual tables
    consist.
    """
    shadows = _tables(connection, "shadow")
    for name, definition in connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"):
        if name not in shadows:
            yield definition


def _insertions(connection: sqlite3.Connection) -> Iterator[str]:
    """Yield the statement that inserts each row that the migrations wrote."""
    for name in sorted(_tables(connection, "table")):
        for row in connection.execute(f"SELECT * FROM {name}"):  # noqa: S608  # a name from the schema
            values = ", ".join(connection.execute("SELECT quote(?)", (value,)).fetchone()[0] for value in row)
            yield f"INSERT INTO {name} VALUES ({values})"  # noqa: S608  # same


def _tables(connection: sqlite3.Connection, kind: str) -> set[str]:
    rows = connection.execute("SELECT name FROM pragma_table_list WHERE type = ? AND name NOT LIKE 'sqlite%'", (kind,))
    return {name for (name,) in rows}
