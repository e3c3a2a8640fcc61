"""Opening a database: from a path to a connection that is safe to use.

The file is made private before SQLite opens it. Nothing here opens an existing database with a plain file handle: closing
such a handle would drop the locks that SQLite holds for the whole process.
"""

from __future__ import annotations

import errno
import os
import random
import sqlite3
import stat
import threading
import time
from pathlib import Path

from mnesis.config import StoreConfig
from mnesis.encryption import EncryptionKey
from mnesis.errors import CorruptStoreError, MnesisStoreError, ReadOnlyStoreError, StoreFullError
from mnesis.redaction import get_logger
from mnesis.store.sqlite.connection import ConnectionState
from mnesis.store.sqlite.environment import report_environment
from mnesis.store.sqlite.keyed_file import connect_file, refuse_wrong_key, sqlite_version
from mnesis.store.sqlite.migrate import migrate, migrations, refuse_foreign, refuse_wrong_version
from mnesis.store.sqlite.seal import Progress, add_missing_hashes
from mnesis.store.sqlite.translate_errors import has_code
from mnesis.system.open_files import refuse_second_name, register_database

logger = get_logger(__name__)

MAX_TIMEOUT_MS = 2**31 - 1
"""SQLite stores its busy timeout as a 32-bit number of milliseconds."""

JOURNAL_SIZE_LIMIT_BYTES = 64 * 1024 * 1024
"""A larger write-ahead log is truncated to this size after a checkpoint."""

_creation_lock = threading.Lock()


def open_connection(path: Path, config: StoreConfig, on_progress: Progress | None = None) -> sqlite3.Connection:
    """Open the database at `path`, which is created if missing and migrated if older. `on_progress` follows the latter.

    The connection is read-only if the file or its directory cannot be written.
    Raises `sqlite3.Error` or one of the typed store errors.
    """
    key = config.read_encryption_key()
    report_environment(path, sqlite_version(key))
    try:
        return _open(path, config, key, on_progress)
    except sqlite3.DatabaseError as error:
        if has_code(error, sqlite3.SQLITE_NOTADB):
            refuse_wrong_key(path, key)
        raise


def _open(
    path: Path, config: StoreConfig, key: EncryptionKey | None, on_progress: Progress | None
) -> sqlite3.Connection:
    if config.read_only:
        return _open_read_only(path, config, key)
    with _creation_lock:
        _make_private_file(path)
        connection = _connect(path, "mode=rw", config, key)
    try:
        return _prepare(connection, path, config, on_progress)
    except sqlite3.OperationalError as error:
        if not has_code(error, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN) or _is_writable(path):
            raise
    return _open_unwritable(path, config, key)


def _open_read_only(path: Path, config: StoreConfig, key: EncryptionKey | None) -> sqlite3.Connection:
    """Open a connection that writes nothing, even if the file permits it."""
    connection = _connect(path, "mode=rw", config, key)
    try:
        refuse_unreadable(connection, path)
        _set_pragmas(connection, synchronous="FULL")
        connection.execute("PRAGMA query_only = ON")
    except sqlite3.OperationalError as error:
        connection.close()
        if not has_code(error, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN) or _is_writable(path):
            raise
        return _open_unwritable(path, config, key)
    except BaseException:
        connection.close()
        raise
    return connection


def refuse_unreadable(connection: sqlite3.Connection, path: Path) -> None:
    """Raise a typed error if this is not a mnesis database, or if only a migration would make it readable."""
    version = refuse_foreign(connection, path)
    if version < migrations()[-1].version:
        refuse_wrong_version(connection, path)
        raise ReadOnlyStoreError(
            f"{path} needs an update (schema version {version}, this release uses {migrations()[-1].version}) but is"
            " opened read-only; run `mnesis migrate`, or open it once with write permission on the file and its directory",
            db_path=path,
        )


def busy_timeout_ms(config: StoreConfig) -> int:
    """Return the time that SQLite waits for another writer, in milliseconds."""
    return int(min(config.connection_timeout * 1000, MAX_TIMEOUT_MS))


def _make_private_file(path: Path) -> None:
    try:
        _make_private_directory(path.parent)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError as error:
        if not path.exists() or not stat.S_ISREG(path.stat().st_mode):
            raise CorruptStoreError(
                f"{path} is not a regular file. It was not changed; pass another db_path",
                db_path=path,
            ) from error
    except PermissionError as error:
        raise ReadOnlyStoreError(f"{path} cannot be created: {error}; pass another db_path", db_path=path) from error
    except OSError as error:
        message = f"{path} cannot be created: {error}; pass another db_path"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFullError(message, db_path=path) from error
        raise MnesisStoreError(message) from error


def _is_writable(path: Path) -> bool:
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


def _make_private_directory(directory: Path) -> None:
    if not directory.is_dir():
        _make_private_directory(directory.parent)
        directory.mkdir(mode=0o700, exist_ok=True)


def _connect(path: Path, query: str, config: StoreConfig, key: EncryptionKey | None) -> sqlite3.Connection:
    refuse_second_name(path, is_encrypted=key is not None)
    timeout_seconds = busy_timeout_ms(config) / 1000
    connection = connect_file(path, query, key, timeout=timeout_seconds, isolation_level=None, cached_statements=256)
    register_database(connection, path, is_encrypted=key is not None)
    if isinstance(connection, ConnectionState):
        integrity_key = config.integrity_key
        connection.integrity_key = integrity_key.get_secret_value() if integrity_key is not None else None
    return connection


def _prepare(
    connection: sqlite3.Connection, path: Path, config: StoreConfig, on_progress: Progress | None
) -> sqlite3.Connection:
    try:
        if refuse_foreign(connection, path) == 0:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only an empty file can be set to it
        in_wal = _enter_wal(connection, path, config) if config.wal_mode else False
        _set_pragmas(connection, synchronous="NORMAL" if in_wal and config.durability == "normal" else "FULL")
        migrate(connection, path)
        add_missing_hashes(connection, on_progress)
    except BaseException:
        connection.close()
        raise
    return connection


def _set_pragmas(connection: sqlite3.Connection, synchronous: str) -> None:
    for pragma in (
        f"synchronous = {synchronous}",
        "foreign_keys = ON",
        "recursive_triggers = ON",
        "trusted_schema = OFF",
        "cell_size_check = ON",
        "secure_delete = ON",
        f"journal_size_limit = {JOURNAL_SIZE_LIMIT_BYTES}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _enter_wal(connection: sqlite3.Connection, path: Path, config: StoreConfig) -> bool:
    """Switch to a write-ahead log and return whether it is in use. The switch ignores SQLite's busy timeout, so it is
    retried here.
    """
    deadline = time.monotonic() + config.connection_timeout
    while _journal_mode(connection) != "wal":
        try:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if not has_code(error, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) or time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(0.001, 0.02))  # noqa: S311  # spreads out processes, protects nothing
            continue
        if mode != "wal":
            logger.warning("%s: this file system has no write-ahead log; writers wait for readers", path)
            return False
    return True


def _journal_mode(connection: sqlite3.Connection) -> str:
    return str(connection.execute("PRAGMA journal_mode").fetchone()[0])


def _open_unwritable(path: Path, config: StoreConfig, key: EncryptionKey | None) -> sqlite3.Connection:
    """Open a database that cannot be written as an unchanging file, which is right only while no process writes it."""
    wal = path.with_name(f"{path.name}-wal")
    if wal.exists() and wal.stat().st_size > 0:
        raise ReadOnlyStoreError(
            f"{path} cannot be written by this process, and its write-ahead log contains newer messages; open it once"
            " with write permission on the file and its directory",
            db_path=path,
        )
    connection = _connect(path, "immutable=1", config, key)
    try:
        refuse_unreadable(connection, path)
        _set_pragmas(connection, synchronous="FULL")
    except BaseException:
        connection.close()
        raise
    logger.warning("%s cannot be written; it is opened read-only", path)
    return connection
