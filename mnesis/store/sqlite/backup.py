"""A complete copy of a database that is in use."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote_from_bytes

from mnesis.config import StoreConfig
from mnesis.encryption import EncryptionKey
from mnesis.errors import ConfigurationError, MnesisStoreError, StoreFullError
from mnesis.store.base import OnCopied
from mnesis.store.sqlite.connect import open_connection
from mnesis.store.sqlite.keyed_file import sqlite_version
from mnesis.store.sqlite.translate_errors import translate_error
from mnesis.system.open_files import refuse_output_path
from mnesis.system.unfinished_files import remove_leftovers, unfinished_path

REPORT_INSTRUCTIONS = 100_000
"""The steps of SQLite's virtual machine between two reports of progress: some milliseconds."""


def back_up(path: Path, config: StoreConfig, destination: str | Path, on_progress: OnCopied | None = None) -> None:
    """Copy the current state of the database at `path` to the new file `destination`, private to its user.

    The copy reads through its own connection, so the store can write at the same time. The copy has the key of the
    database, if there is one. Raises the errors of `_write_copy`.
    """
    _write_copy(destination, lambda unfinished, target: _copy(path, config, unfinished, target, on_progress))


def convert(path: Path, config: StoreConfig, destination: str | Path, new_key: EncryptionKey | None) -> None:
    """Copy a database like `back_up`, encrypted with `new_key` or, if that is None, not encrypted.

    While a database that is not encrypted is converted, a second copy of it exists in its directory. Raises the errors
    of `_write_copy`, and `ConfigurationError` if the library for encryption is not installed.
    """
    sqlite_version(new_key)
    _write_copy(destination, lambda unfinished, target: _convert(path, config, unfinished, target, new_key))


def _write_copy(destination: str | Path, write: Callable[[Path, Path], None]) -> None:
    """Create a private file with `write(unfinished, target)`, and give it its name once it is complete and on disk.

    Raises `ConfigurationError` if the file exists, cannot be created, or has the name of a file of an open database, and
    `StoreFullError`.
    """
    target = Path(destination).expanduser().absolute()
    refuse_output_path(target)
    if os.path.lexists(target):
        raise _exists_error(target)
    remove_leftovers(target.parent)
    unfinished = unfinished_path(target)
    try:
        os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError as error:
        raise _write_error(target, error) from error
    try:
        write(unfinished, target)
        _sync(unfinished)
        _publish(unfinished, target)
    except OSError as error:
        raise _write_error(target, error) from error
    finally:
        with suppress(OSError):  # the first error says more
            unfinished.unlink(missing_ok=True)
    with suppress(OSError):  # some file systems cannot sync a directory
        _sync(target.parent)


def _copy(path: Path, config: StoreConfig, unfinished: Path, target: Path, on_progress: OnCopied | None = None) -> None:
    with closing(_open_source(path, config)) as connection:
        try:
            if on_progress is not None:
                _report_size(connection, unfinished, on_progress)
            connection.execute("VACUUM INTO ?", (str(unfinished),))
        except UnicodeEncodeError as error:
            raise ConfigurationError(
                f"the file name {str(target)!a} is not valid UTF-8, which SQLite requires; choose another name"
            ) from error
        except sqlite3.Error as error:
            raise translate_error(error, target) from error


def _convert(path: Path, config: StoreConfig, unfinished: Path, target: Path, new_key: EncryptionKey | None) -> None:
    if new_key is None and config.encryption_key is None:
        _copy(path, config, unfinished, target)
    elif config.encryption_key is None:
        _encrypt(path, config, unfinished, target, new_key)
    else:
        with closing(_open_source(path, config)) as connection:
            _export(connection, unfinished, target, new_key)


def _encrypt(path: Path, config: StoreConfig, unfinished: Path, target: Path, new_key: EncryptionKey | None) -> None:
    """Encrypt a copy of the database: two copies of SQLite in one process must not open the same file."""
    from mnesis.store.sqlite.cipher import connect_encrypted

    remove_leftovers(path.parent)
    plain = unfinished_path(path)
    try:
        os.close(os.open(plain, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        _copy(path, config, plain, plain)
        name = f"file:{quote_from_bytes(os.fsencode(plain))}?mode=rw"
        with closing(connect_encrypted(name, None, isolation_level=None)) as connection:
            _export(connection, unfinished, target, new_key)
    finally:
        for suffix in ("", "-journal"):
            with suppress(OSError):
                plain.with_name(plain.name + suffix).unlink(missing_ok=True)


def _export(connection: sqlite3.Connection, unfinished: Path, target: Path, new_key: EncryptionKey | None) -> None:
    from mnesis.store.sqlite.cipher import export_database

    try:
        export_database(connection, unfinished, new_key)
    except (sqlite3.Error, UnicodeEncodeError) as error:
        raise translate_error(error, target) from error


def _report_size(connection: sqlite3.Connection, file: Path, on_progress: OnCopied) -> None:
    """Report the size of a file while the connection works, until it is closed."""
    (page_count,), (page_bytes,) = (
        connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size")
    )

    def report() -> int:
        on_progress(min(os.stat(file).st_size, page_count * page_bytes), page_count * page_bytes)
        return 0  # another value would interrupt the statement

    connection.set_progress_handler(report, REPORT_INSTRUCTIONS)


def _open_source(path: Path, config: StoreConfig) -> sqlite3.Connection:
    """Open the database for reading, on a connection that may write the copy."""
    try:
        connection = open_connection(path, config.model_copy(update={"read_only": True}))
        connection.execute("PRAGMA query_only = OFF")
    except sqlite3.Error as error:
        raise translate_error(error, path) from error
    return connection


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _publish(unfinished: Path, target: Path) -> None:
    """Give the finished copy its name, unless a file of that name has appeared in the meantime."""
    try:
        os.link(unfinished, target)
    except FileExistsError as error:
        raise _exists_error(target) from error
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        _publish_without_links(unfinished, target)


def _publish_without_links(unfinished: Path, target: Path) -> None:
    """Publish on file systems without hard links: reserve the name with an empty file, so that nothing is replaced."""
    try:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError as error:
        raise _exists_error(target) from error
    unfinished.replace(target)


def _exists_error(target: Path) -> ConfigurationError:
    return ConfigurationError(f"{target} already exists, and a backup never replaces a file; name a new file")


def _write_error(target: Path, error: OSError) -> ConfigurationError | MnesisStoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFullError(
            f"no space left for the backup {target}. No partial file remains; free some space and try again",
            db_path=target,
        )
    return ConfigurationError(
        f"the backup {target} cannot be created: {error}; name a file in a directory you can write"
    )
