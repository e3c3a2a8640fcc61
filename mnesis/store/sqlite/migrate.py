"""Numbered scripts that bring a database to the newest schema, each committed together with its number."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from mnesis.errors import CorruptStoreError, SchemaTooNewError

APPLICATION_ID = 1_835_951_475
"""Marks our files in their header ("mnes")."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One script. `version` is the schema's number once it ran; they count from 1 without gaps."""

    version: int
    sql: str


@cache
def migrations() -> tuple[Migration, ...]:
    """The scripts that ship with the library, in order."""
    folder = files("mnesis.store.sqlite").joinpath("migrations")
    found = [(re.match(r"(\d+)_.*\.sql$", entry.name), entry) for entry in folder.iterdir()]
    return tuple(
        sorted(
            (Migration(int(match[1]), entry.read_text(encoding="utf-8")) for match, entry in found if match),
            key=lambda migration: migration.version,
        )
    )


def refuse_foreign(connection: sqlite3.Connection, path: Path, scripts: Sequence[Migration] | None = None) -> int:
    """The schema's version, 0 for an empty file; changes nothing.

    Raises `CorruptStoreError` for a database that is not ours and `SchemaTooNewError` for one that a newer release wrote.
    """
    scripts = migrations() if scripts is None else scripts
    version, application_id, objects = _identified(connection)
    is_empty = version == 0 and application_id == 0 and objects == 0
    if application_id != APPLICATION_ID and not is_empty:
        raise CorruptStoreError(
            f"{path} is an SQLite database of something else (application id {application_id}, version {version},"
            f" {objects} objects); it was left as it is. Give another db_path",
            db_path=path,
        )
    if version > scripts[-1].version:
        raise SchemaTooNewError(
            f"{path} has schema {version}; this release knows {scripts[-1].version}. It was left as it is;"
            " upgrade mnesis",
            db_path=path,
            found=version,
            supported=scripts[-1].version,
        )
    return version


def _identified(connection: sqlite3.Connection) -> tuple[int, int, int]:
    """Version, application id and number of objects at one moment: another process may be making the database."""
    connection.execute("BEGIN")
    try:
        version = schema_version(connection)
        application_id = connection.execute("PRAGMA application_id").fetchone()[0]
        return version, application_id, connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    finally:
        if connection.in_transaction:  # SQLite ends it itself where the file is damaged
            connection.execute("ROLLBACK")


def migrate(connection: sqlite3.Connection, path: Path, scripts: Sequence[Migration] | None = None) -> None:
    """Apply what is missing. Several processes may do this at once; each script runs in one of them.

    A database of an older version is copied to `<name>.v<version>.backup` beside it first.
    """
    scripts = migrations() if scripts is None else scripts
    version = schema_version(connection)
    if 0 < version < scripts[-1].version:
        _back_up(connection, path.with_name(f"{path.name}.v{version}.backup"))
    for migration in scripts:
        if migration.version > version:
            _apply(connection, migration)


def schema_version(connection: sqlite3.Connection) -> int:
    """The number of the last script that ran on this database."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _apply(connection: sqlite3.Connection, migration: Migration) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        if schema_version(connection) < migration.version:
            for statement in _statements(migration.sql):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {migration.version}")
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # the first error tells more
            connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> Iterator[str]:
    """Statements one by one: `executescript` would commit the transaction that guards them."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _back_up(connection: sqlite3.Connection, target: Path) -> None:
    if target.exists():
        return
    unfinished = target.with_name(f"{target.name}.{os.getpid()}")
    unfinished.unlink(missing_ok=True)
    os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    connection.execute("VACUUM INTO ?", (str(unfinished),))
    unfinished.replace(target)
