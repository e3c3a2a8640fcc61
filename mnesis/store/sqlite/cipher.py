"""Connections to encrypted databases: SQLCipher, with the exceptions of the standard library.

This is the only module that uses sqlcipher3, whose interface is that of `sqlite3` but whose exceptions are its own.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import sqlcipher3

from mnesis.encryption import EncryptionKey
from mnesis.store.sqlite.connection import ConnectionState

_NO_KEY = "''"

VERSION: tuple[int, ...] = sqlcipher3.sqlite_version_info
"""The release of SQLite inside SQLCipher."""


class CipherCursor(sqlcipher3.Cursor):  # type: ignore[misc]  # sqlcipher3 has no type hints
    """A cursor that raises the exceptions of `sqlite3`."""

    def execute(self, *arguments: Any) -> CipherCursor:
        """Do the same as `sqlite3.Cursor.execute`."""
        try:
            super().execute(*arguments)
        except sqlcipher3.Error as error:
            raise _translate(error) from None
        return self

    def executemany(self, *arguments: Any) -> CipherCursor:
        """Do the same as `sqlite3.Cursor.executemany`."""
        try:
            super().executemany(*arguments)
        except sqlcipher3.Error as error:
            raise _translate(error) from None
        return self

    def fetchone(self) -> Any:
        """Do the same as `sqlite3.Cursor.fetchone`."""
        try:
            return super().fetchone()
        except sqlcipher3.Error as error:
            raise _translate(error) from None

    def fetchmany(self, *arguments: Any) -> list[Any]:
        """Do the same as `sqlite3.Cursor.fetchmany`."""
        try:
            return cast("list[Any]", super().fetchmany(*arguments))
        except sqlcipher3.Error as error:
            raise _translate(error) from None

    def fetchall(self) -> list[Any]:
        """Do the same as `sqlite3.Cursor.fetchall`."""
        try:
            return cast("list[Any]", super().fetchall())
        except sqlcipher3.Error as error:
            raise _translate(error) from None

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from iter(super().__next__, None)  # one row at a time, so that rows before an error arrive
        except sqlcipher3.Error as error:
            raise _translate(error) from None


class CipherConnection(ConnectionState, sqlcipher3.Connection):  # type: ignore[misc]
    """A connection to an encrypted database, which reads and writes like a `StoreConnection`."""

    def execute(self, *arguments: Any) -> CipherCursor:
        """Do the same as `sqlite3.Connection.execute`."""
        cursor: CipherCursor = self.cursor(CipherCursor)
        return cursor.execute(*arguments)

    def executemany(self, *arguments: Any) -> CipherCursor:
        """Do the same as `sqlite3.Connection.executemany`."""
        cursor: CipherCursor = self.cursor(CipherCursor)
        return cursor.executemany(*arguments)


def connect_encrypted(name: str, key: EncryptionKey | None, **options: Any) -> sqlite3.Connection:
    """Connect to a database file and set its key, if it is encrypted. A wrong key shows when the file is read.

    `name` is a `file:` URI, and `options` are those of `sqlite3.connect`. Without a key, no other connection of the process
    may have the file open, because that is another copy of SQLite.
    """
    try:
        connection = sqlcipher3.connect(name, uri=True, factory=CipherConnection, **options)
    except sqlcipher3.Error as error:
        raise _translate(error) from None
    # SQLCipher prints each failed decryption to stderr, for the whole process; the caller gets a typed error.
    connection.execute("PRAGMA cipher_log_level = NONE")
    if key is not None:
        connection.execute(f"PRAGMA key = {key.to_sql()}")
    return cast(sqlite3.Connection, connection)


def export_database(connection: sqlite3.Connection, target: Path, key: EncryptionKey | None) -> None:
    """Copy the current state of a database to the empty file `target`, encrypted with a key or, with None, not
    encrypted.

    See https://www.zetetic.net/sqlcipher/sqlcipher-api/#sqlcipher_export, which omits the settings in the header.
    """
    connection.execute(
        f"ATTACH DATABASE ? AS target KEY {key.to_sql() if key is not None else _NO_KEY}", (str(target),)
    )
    connection.execute("PRAGMA target.auto_vacuum = INCREMENTAL")
    connection.execute("BEGIN")
    connection.execute("SELECT sqlcipher_export('target')").fetchall()
    for name in ("user_version", "application_id"):
        value = int(connection.execute(f"PRAGMA main.{name}").fetchone()[0])
        connection.execute(f"PRAGMA target.{name} = {value}")
    connection.execute("COMMIT")
    connection.execute("DETACH DATABASE target")


def _translate(error: Exception) -> sqlite3.Error:
    """Return the exception of the standard library that has the same name."""
    translated: sqlite3.Error = getattr(sqlite3, type(error).__name__)(*error.args)
    translated.sqlite_errorcode = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return translated
