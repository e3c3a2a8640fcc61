"""The objects that a database of this release has: tables, indexes, triggers, and how each was created."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from functools import cache

from mnesis.store.sqlite.migrate import migrations
from mnesis.store.sqlite.queries import sql


def schema_objects(connection: sqlite3.Connection) -> dict[tuple[str, str], str]:
    """Return the definitions of the objects of a database, by name and kind, in the order in which they were created."""
    return {(name, kind): definition for name, kind, definition in connection.execute(sql("check_schema"))}


@cache
def expected_objects() -> Mapping[tuple[str, str], str]:
    """Return the objects of a new database."""
    fresh = sqlite3.connect(":memory:")
    try:
        for migration in migrations():
            fresh.executescript(migration.sql)
        return schema_objects(fresh)
    finally:
        fresh.close()
