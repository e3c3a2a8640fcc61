"""Numbered migration scripts, each committed together with its schema version."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from mnesis.errors import CorruptStoreError, SchemaTooNewError
from mnesis.system.unfinished_files import remove_leftovers, unfinished_path

APPLICATION_ID = 1_835_951_475
"""Identifies mnesis databases in the file header; the ASCII codes of "mnes"."""


_CREATED_TABLE = re.compile(r"^CREATE (?:VIRTUAL )?TABLE (\w+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Migration:
    """One migration script. `version` is the schema version after it; versions count from 1 without gaps."""

    version: int
    sql: str


@cache
def migrations() -> tuple[Migration, ...]:
    """Return the scripts that ship with the library, in order."""
    folder = files("mnesis.store.sqlite").joinpath("migrations")
    entries = [(re.match(r"(\d+)_.*\.sql$", entry.name), entry) for entry in folder.iterdir()]
    return tuple(
        sorted(
            (Migration(int(match[1]), entry.read_text(encoding="utf-8")) for match, entry in entries if match),
            key=lambda migration: migration.version,
        )
    )


@cache
def base_schema() -> str:
    """Return the script that makes a new database at once, with its schema version."""
    return files("mnesis.store.sqlite").joinpath("migrations", "base.sql").read_text(encoding="utf-8")


def refuse_foreign(connection: sqlite3.Connection, path: Path, scripts: Sequence[Migration] | None = None) -> int:
    """Return the schema version of a database, 0 for an empty file. Changes nothing.

    Raises `CorruptStoreError` if it is not a mnesis database, and `SchemaTooNewError` if a newer release wrote it.
    """
    scripts = migrations() if scripts is None else scripts
    version, application_id, objects = _read_identity(connection)
    is_empty = version == application_id == objects == 0
    if application_id != APPLICATION_ID and not is_empty:
        raise CorruptStoreError(
            f"{path} is not a mnesis database but another SQLite database (application id {application_id}, version"
            f" {version}, {objects} objects). It was not changed; pass another db_path",
            db_path=path,
        )
    if version > scripts[-1].version:
        raise SchemaTooNewError(
            f"{path} has schema version {version}; this release supports up to {scripts[-1].version}. It was not"
            " changed; upgrade mnesis",
            db_path=path,
            found_version=version,
            supported_version=scripts[-1].version,
        )
    return version


def _read_identity(connection: sqlite3.Connection) -> tuple[int, int, int]:
    """Read version, application id and number of objects in one transaction, because another process may be creating
    them. The objects of a mnesis database are not counted.
    """
    connection.execute("BEGIN")
    try:
        version = schema_version(connection)
        application_id = connection.execute("PRAGMA application_id").fetchone()[0]
        is_own = application_id == APPLICATION_ID
        objects = 0 if is_own else connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        return version, application_id, objects
    finally:
        if connection.in_transaction:  # if the file is damaged, SQLite itself has ended the transaction
            connection.execute("ROLLBACK")


def migrate(connection: sqlite3.Connection, path: Path, scripts: Sequence[Migration] | None = None) -> None:
    """Apply the missing scripts. Several processes may do this at once; each script runs in only one of them.

    An empty database gets the base schema first. A database of an older version is first copied to
    `<name>.v<version>.backup` in the same directory. `scripts` replaces the migrations and the base schema.
    """
    to_run = migrations() if scripts is None else scripts
    version = refuse_wrong_version(connection, path, to_run)
    if scripts is None and version == 0:
        _run_script(connection, base_schema(), lambda version: version == 0)
        version = schema_version(connection)
    if 0 < version < to_run[-1].version:
        _back_up(connection, path.with_name(f"{path.name}.v{version}.backup"))
    for migration in to_run:
        if migration.version > version:
            _apply(connection, migration)


def refuse_wrong_version(connection: sqlite3.Connection, path: Path, scripts: Sequence[Migration] | None = None) -> int:
    """Return the schema version. Raises `CorruptStoreError` if the database has tables of a later version."""
    scripts = migrations() if scripts is None else scripts
    version = schema_version(connection)
    if version >= scripts[-1].version:
        return version
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    version = schema_version(connection)  # read last, because another process may be updating the database
    for migration in scripts:
        if migration.version > version and tables.intersection(_CREATED_TABLE.findall(migration.sql)):
            raise CorruptStoreError(
                f"{path} says that its schema version is {version}, but it has tables of version {migration.version}: its"
                " header is damaged. It was not changed; run `mnesis salvage`",
                db_path=path,
            )
    return version


def schema_version(connection: sqlite3.Connection) -> int:
    """Return the number of the last script that ran on this database."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _apply(connection: sqlite3.Connection, migration: Migration) -> None:
    script = f"{migration.sql}\nPRAGMA user_version = {migration.version};"
    _run_script(connection, script, lambda version: version < migration.version)


def _run_script(connection: sqlite3.Connection, script: str, is_needed: Callable[[int], bool]) -> None:
    """Run a script in one transaction, if the schema version of the database, read in that transaction, needs it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        if is_needed(schema_version(connection)):
            for statement in _split_statements(script):
                connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # the first error says more
            connection.execute("ROLLBACK")
        raise


def _split_statements(script: str) -> Iterator[str]:
    """Yield the statements of a script: `executescript` would commit the transaction around them."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _back_up(connection: sqlite3.Connection, target: Path) -> None:
    remove_leftovers(target.parent)
    if target.exists():
        return
    unfinished = unfinished_path(target)
    os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    connection.execute("VACUUM INTO ?", (str(unfinished),))
    unfinished.replace(target)
