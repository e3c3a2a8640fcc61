"""From a path to a connection that is safe to use.

The file is made private before SQLite sees it, and nothing here opens a database that may be in use: closing a plain
handle of it would drop the locks SQLite holds for the whole process.
"""

from __future__ import annotations

import logging
import os
import random
import sqlite3
import stat
import threading
import time
from pathlib import Path
from urllib.parse import quote_from_bytes

from mnesis.config import StoreConfig
from mnesis.errors import CorruptStoreError, MnesisStoreError, ReadOnlyStoreError, StoreFullError
from mnesis.store.sqlite.migrate import migrate, migrations, refuse_foreign
from mnesis.store.sqlite.translate_errors import is_code

logger = logging.getLogger(__name__)

MAX_TIMEOUT_MS = 2**31 - 1
"""SQLite counts its busy timeout in 32-bit milliseconds."""

_creating = threading.Lock()


def open_connection(path: Path, config: StoreConfig) -> sqlite3.Connection:
    """A connection to an up-to-date database at `path`, made if it is not there.

    Raises `sqlite3.Error` or one of the typed store errors. Where the file or its directory cannot be written the
    connection reads only.
    """
    if config.read_only:
        return _open_for_reading(path, config)
    with _creating:
        _make_private_file(path)
        connection = _connect(path, "mode=rw", config)
    try:
        return _made_ready(connection, path, config)
    except sqlite3.OperationalError as error:
        if not is_code(error, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN) or _is_writable(path):
            raise
    return _open_unwritable(path, config)


def _open_for_reading(path: Path, config: StoreConfig) -> sqlite3.Connection:
    """A connection that writes nothing, also where it could."""
    connection = _connect(path, "mode=rw", config)
    try:
        _refuse_unreadable(connection, path)
        _set_pragmas(connection, synchronous="FULL")
        connection.execute("PRAGMA query_only = ON")
    except sqlite3.OperationalError as error:
        connection.close()
        if not is_code(error, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN) or _is_writable(path):
            raise
        return _open_unwritable(path, config)
    except BaseException:
        connection.close()
        raise
    return connection


def _refuse_unreadable(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse what is not ours, and what only an update would make readable."""
    version = refuse_foreign(connection, path)
    if version < migrations()[-1].version:
        raise ReadOnlyStoreError(
            f"{path} needs an update (schema {version}, this release uses {migrations()[-1].version}) and is opened for"
            " reading only; run `mnesis migrate`, or open it once with write permission on file and directory",
            db_path=path,
        )


def busy_timeout_ms(config: StoreConfig) -> int:
    """How long SQLite waits for another writer."""
    return int(min(config.connection_timeout * 1000, MAX_TIMEOUT_MS))


def _make_private_file(path: Path) -> None:
    try:
        _make_private_directory(path.parent)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError as error:
        if not path.exists() or not stat.S_ISREG(path.stat().st_mode):
            raise CorruptStoreError(
                f"{path} is no file that could hold a database. It was left as it is; give another db_path",
                db_path=path,
            ) from error
    except PermissionError as error:
        raise ReadOnlyStoreError(f"{path} cannot be created: {error}; give another db_path", db_path=path) from error
    except OSError as error:
        kind = StoreFullError if error.errno in _NO_SPACE else None
        message = f"{path} cannot be created: {error}; give another db_path"
        raise kind(message, db_path=path) if kind else MnesisStoreError(message) from error


_NO_SPACE = (28, 122)  # ENOSPC, EDQUOT


def _is_writable(path: Path) -> bool:
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


def _make_private_directory(directory: Path) -> None:
    if not directory.is_dir():
        _make_private_directory(directory.parent)
        directory.mkdir(mode=0o700, exist_ok=True)


def _connect(path: Path, query: str, config: StoreConfig) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{quote_from_bytes(os.fsencode(path))}?{query}",
        uri=True,
        timeout=busy_timeout_ms(config) / 1000,
        isolation_level=None,
        cached_statements=256,
    )


def _made_ready(connection: sqlite3.Connection, path: Path, config: StoreConfig) -> sqlite3.Connection:
    try:
        refuse_foreign(connection, path)
        in_wal = _enter_wal(connection, path, config) if config.wal_mode else False
        _set_pragmas(connection, synchronous="NORMAL" if in_wal and config.durability == "normal" else "FULL")
        migrate(connection, path)
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
        "journal_size_limit = 67108864",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _enter_wal(connection: sqlite3.Connection, path: Path, config: StoreConfig) -> bool:
    """Whether the database keeps a write-ahead log now. The switch ignores the busy timeout, so it is repeated here."""
    deadline = time.monotonic() + config.connection_timeout
    while _journal_mode(connection) != "wal":
        try:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if not is_code(error, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) or time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(0.001, 0.02))  # noqa: S311  # spreads processes, hides nothing
            continue
        if mode != "wal":
            logger.warning("%s: no write-ahead log on this file system; writers will wait for readers", path)
            return False
    return True


def _journal_mode(connection: sqlite3.Connection) -> str:
    return str(connection.execute("PRAGMA journal_mode").fetchone()[0])


def _open_unwritable(path: Path, config: StoreConfig) -> sqlite3.Connection:
    """Read a database that cannot be written, as it stands: right only while nobody writes it."""
    wal = path.with_name(f"{path.name}-wal")
    if wal.exists() and wal.stat().st_size > 0:
        raise ReadOnlyStoreError(
            f"{path} cannot be written by this process, and its write-ahead log holds newer messages; open it once"
            " with write permission on file and directory",
            db_path=path,
        )
    connection = _connect(path, "immutable=1", config)
    try:
        _refuse_unreadable(connection, path)
        _set_pragmas(connection, synchronous="FULL")
    except BaseException:
        connection.close()
        raise
    logger.warning("%s cannot be written; it is read as it stands", path)
    return connection
