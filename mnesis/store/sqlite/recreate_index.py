"""Replacement of a damaged search index by an empty one. The log does not change, and the next search indexes it
again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from mnesis.errors import MnesisStoreError
from mnesis.store.sqlite.expected_schema import expected_objects, schema_objects
from mnesis.store.sqlite.search_blocks import FULL_TEXT_TABLES, save_checksums
from mnesis.store.sqlite.translate_errors import has_code

SHADOW_SUFFIXES = ("data", "idx", "config", "docsize", "content")
"""The suffixes with which FTS5 names the tables that store a full-text table (https://sqlite.org/fts5.html)."""


def is_index_damage(error: MnesisStoreError) -> bool:
    """Return whether an error of a search may come from the index: a damaged or missing table, or a duplicate row."""
    cause = error.__cause__
    return isinstance(cause, sqlite3.Error) and has_code(
        cause, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_SCHEMA
    )


def has_expected_tables(connection: sqlite3.Connection) -> bool:
    """Return whether the tables of the index are defined as in a new database."""
    actual = schema_objects(connection)
    return all(
        actual.get(key) == definition for key, definition in expected_objects().items() if key[0].startswith("search_")
    )


def recreate_index(connection: sqlite3.Connection) -> None:
    """Drop every table of the search index, in any state, and create all of them as in a new database."""
    for name in _table_names():
        try:
            connection.execute(f"DROP TABLE IF EXISTS {name}")
        except sqlite3.Error:
            _remove_from_schema(connection, [name])
    _create(connection)


def recreate_unreadable_index(connection: sqlite3.Connection) -> None:
    """Recreate the index without reading pages of the old tables, because SQLCipher ends a transaction at a page that
    it cannot decrypt.
    """
    _remove_from_schema(connection, _table_names())
    _create(connection)


def _table_names() -> list[str]:
    """Return every table that belongs to the index, with the tables that SQLite creates at the end."""
    shadows = sorted(f"{table}_{suffix}" for table in FULL_TEXT_TABLES for suffix in SHADOW_SUFFIXES)
    return [*reversed(_definitions()), *shadows]


def _definitions() -> dict[str, str]:
    """Return the statements that create the index, by the name of the object they create."""
    shadows = {f"{table}_{suffix}" for table in FULL_TEXT_TABLES for suffix in SHADOW_SUFFIXES}
    return {
        name: sql for (name, _), sql in expected_objects().items() if name.startswith("search_") and name not in shadows
    }


def _create(connection: sqlite3.Connection) -> None:
    for definition in _definitions().values():
        connection.execute(definition)
    save_checksums(connection)


def _remove_from_schema(connection: sqlite3.Connection, names: Iterable[str]) -> None:
    """Remove tables from the schema. Their pages are lost (https://sqlite.org/pragma.html#pragma_writable_schema)."""
    connection.execute("PRAGMA writable_schema = ON")
    connection.executemany("DELETE FROM sqlite_master WHERE tbl_name = ?", [(name,) for name in names])
    connection.execute("PRAGMA writable_schema = RESET")
