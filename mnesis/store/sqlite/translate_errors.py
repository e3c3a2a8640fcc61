"""The translation of SQLite's errors, and of lower layers' errors, into typed store errors."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
import tempfile
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
    StoreIOError,
    StoreReplacedError,
)
from mnesis.store.codec import DamagedValueError

PROBE_BYTES = 1 << 16

ErrorFactory = Callable[[Path], MnesisError]


def _busy(path: Path) -> MnesisError:
    return StoreBusyError(
        f"another writer held {path} for longer than the connection timeout. Nothing was written; it is safe to try"
        " again. If this persists, look for a process that keeps a transaction open, or raise"
        " StoreConfig.connection_timeout",
        db_path=path,
    )


def _full(path: Path) -> MnesisError:
    return StoreFullError(
        f"no space left to write {path}. This call stored nothing and reads continue to work; free some space and try"
        " again",
        db_path=path,
    )


def _io_error(path: Path) -> MnesisError:
    return StoreIOError(
        f"the operating system reported an I/O error (EIO) for {path}. This call stored nothing, and the database may be"
        " intact: check the disk and the system log, try again, and make a copy with `mnesis backup`",
        db_path=path,
    )


def _write_error(path: Path) -> MnesisError:
    """Distinguish an exceeded quota or file size limit from an I/O error, because SQLite reports only ENOSPC as a full
    disk.
    """
    return _full(path) if _is_out_of_space(path) else _io_error(path)


def _is_out_of_space(path: Path) -> bool:
    """Return whether the operating system refuses to extend files here. It tries with a small temporary file."""
    try:
        sizes = [os.stat(f"{path}{suffix}").st_size for suffix in ("", "-wal") if os.path.exists(f"{path}{suffix}")]
        if max(sizes, default=0) + PROBE_BYTES > _max_file_bytes():
            return True
        with tempfile.TemporaryFile(dir=path.parent) as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return False


def _max_file_bytes() -> float:
    """Return the largest size that this process may give a file."""
    if sys.platform == "win32":
        return float("inf")
    import resource  # the module does not exist on Windows

    limit_bytes = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return float("inf") if limit_bytes == resource.RLIM_INFINITY else limit_bytes


def _read_only(path: Path) -> MnesisError:
    return ReadOnlyStoreError(
        f"{path} cannot be written by this process; check the permissions of the file and of its directory, which must"
        " be writable too",
        db_path=path,
    )


def _corrupt(path: Path) -> MnesisError:
    return CorruptStoreError(
        f"{path} is damaged or is not a database. It was not changed; run `mnesis doctor` on it, copy what is intact with"
        " `mnesis salvage`, or restore it from a backup",
        db_path=path,
    )


def _replaced(path: Path) -> MnesisError:
    return StoreReplacedError(
        f"{path} was moved, deleted or replaced while it was open, so a write would be lost; open it again",
        db_path=path,
    )


def _too_big(path: Path) -> MnesisError:
    return InvalidMessageError(
        f"a value is too large for {path}: a text must be at most 1,000,000,000 bytes and a number must fit 64 bits"
    )


_BY_EXTENDED_CODE: dict[int, ErrorFactory] = {
    sqlite3.SQLITE_READONLY_DBMOVED: _replaced,
    sqlite3.SQLITE_IOERR_WRITE: _write_error,
    sqlite3.SQLITE_IOERR_FSYNC: _write_error,
    sqlite3.SQLITE_IOERR_DIR_FSYNC: _write_error,
    sqlite3.SQLITE_IOERR_TRUNCATE: _write_error,
    sqlite3.SQLITE_IOERR_SHMSIZE: _write_error,
    sqlite3.SQLITE_IOERR_SHORT_READ: _corrupt,
    sqlite3.SQLITE_IOERR: _write_error,  # SQLCipher's module does not report which operation failed
}
_BY_CODE: dict[int, ErrorFactory] = {
    sqlite3.SQLITE_BUSY: _busy,
    sqlite3.SQLITE_LOCKED: _busy,
    sqlite3.SQLITE_FULL: _full,
    sqlite3.SQLITE_IOERR: _io_error,
    sqlite3.SQLITE_READONLY: _read_only,
    sqlite3.SQLITE_CORRUPT: _corrupt,
    sqlite3.SQLITE_NOTADB: _corrupt,
    sqlite3.SQLITE_TOOBIG: _too_big,
}


def translate_error(error: Exception, path: Path) -> MnesisError:
    """Return the typed error for an error of SQLite, of the binding of a value, or of the codec."""
    if isinstance(error, DamagedValueError):
        return error.at(str(path))
    if isinstance(error, OverflowError):
        return _too_big(path)
    if isinstance(error, UnicodeEncodeError):
        return InvalidMessageError(f"names and ids must be valid Unicode, without lone surrogates: {error.object!r}")
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return _corrupt(path) if "decode" in str(error) else MnesisStoreError(f"{path}: {error}")
    factory = _BY_EXTENDED_CODE.get(code) or _BY_CODE.get(code & 0xFF)
    return factory(path) if factory else MnesisStoreError(f"{path}: {error}")


def has_code(error: sqlite3.Error, *codes: int) -> bool:
    """Return whether the primary result code of an error is one of `codes`."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in codes


def has_damaged_rows(connection: sqlite3.Connection) -> bool:
    """Return whether rows do not match their table or index, such as a text in a column of integers."""
    try:
        return bool(connection.execute("PRAGMA integrity_check(1)").fetchone()[0] != "ok")
    except sqlite3.Error:
        return True
