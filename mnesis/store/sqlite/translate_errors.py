"""SQLite's errors in our words. One table; the cause stays chained."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from mnesis.errors import (
    CorruptStoreError,
    InvalidMessageError,
    MnesisError,
    MnesisStoreError,
    ReadOnlyStoreError,
    StoreBusyError,
    StoreFullError,
    StoreReplacedError,
)

Refusal = Callable[[Path], MnesisError]


def _busy(path: Path) -> MnesisError:
    return StoreBusyError(
        f"another writer held {path} for longer than the connection timeout. Nothing was written; it is safe to try"
        " again. If it lasts, look for a process that keeps a transaction open, or raise StoreConfig.connection_timeout",
        db_path=path,
    )


def _full(path: Path) -> MnesisError:
    return StoreFullError(
        f"no space left to write {path}. Nothing of this call was stored and reads go on working; free some space"
        " and try again",
        db_path=path,
    )


def _read_only(path: Path) -> MnesisError:
    return ReadOnlyStoreError(
        f"{path} cannot be written by this process: check the permissions of the file and of its directory, which"
        " must be writable too",
        db_path=path,
    )


def _corrupt(path: Path) -> MnesisError:
    return CorruptStoreError(
        f"{path} is damaged, or is no database. It was left as it is; run `mnesis doctor` on it, and restore it from"
        " a backup",
        db_path=path,
    )


def _replaced(path: Path) -> MnesisError:
    return StoreReplacedError(
        f"{path} was moved, deleted or replaced while it was open; a write would be lost. Open it again", db_path=path
    )


def _too_big(path: Path) -> MnesisError:
    return InvalidMessageError(f"a value is too large for {path}: texts may have 1,000,000,000 bytes, numbers 64 bits")


_BY_EXTENDED_CODE: dict[int, Refusal] = {
    sqlite3.SQLITE_READONLY_DBMOVED: _replaced,
    sqlite3.SQLITE_IOERR_WRITE: _full,
    sqlite3.SQLITE_IOERR_FSYNC: _full,
    sqlite3.SQLITE_IOERR_DIR_FSYNC: _full,
    sqlite3.SQLITE_IOERR_TRUNCATE: _full,
    sqlite3.SQLITE_IOERR_SHMSIZE: _full,
    sqlite3.SQLITE_IOERR_READ: _corrupt,
    sqlite3.SQLITE_IOERR_SHORT_READ: _corrupt,
    sqlite3.SQLITE_IOERR_CORRUPTFS: _corrupt,
}
_BY_CODE: dict[int, Refusal] = {
    sqlite3.SQLITE_BUSY: _busy,
    sqlite3.SQLITE_LOCKED: _busy,
    sqlite3.SQLITE_FULL: _full,
    sqlite3.SQLITE_READONLY: _read_only,
    sqlite3.SQLITE_CORRUPT: _corrupt,
    sqlite3.SQLITE_NOTADB: _corrupt,
    sqlite3.SQLITE_TOOBIG: _too_big,
}


def translated(error: Exception, path: Path) -> MnesisError:
    """The typed error for what SQLite, or the binding of a value, raised."""
    if isinstance(error, OverflowError):
        return _too_big(path)
    if isinstance(error, UnicodeEncodeError):
        return InvalidMessageError(f"names and ids must be valid Unicode, without lone surrogates: {error.object!r}")
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return _corrupt(path) if "decode" in str(error) else MnesisStoreError(f"{path}: {error}")
    refusal = _BY_EXTENDED_CODE.get(code) or _BY_CODE.get(code & 0xFF)
    return refusal(path) if refusal else MnesisStoreError(f"{path}: {error}")


def is_code(error: sqlite3.Error, *codes: int) -> bool:
    """Whether `error` is of one of SQLite's primary result codes."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in codes
