"""A whole copy of a database that is in use."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from uuid import uuid4

from mnesis.config import StoreConfig
from mnesis.errors import ConfigurationError, MnesisStoreError, StoreFullError
from mnesis.store.sqlite.connect import open_connection
from mnesis.store.sqlite.translate_errors import translated


def back_up(path: Path, config: StoreConfig, to: str | Path) -> None:
    """Copy the database at `path` as it stands now to the new file `to`, private to its user.

    It reads through a connection of its own: the store goes on writing. Raises `ConfigurationError` if the target exists or
    cannot be made, `StoreFullError`.
    """
    target = Path(to).expanduser().absolute()
    if os.path.lexists(target):
        raise _taken(target)
    unfinished = target.with_name(f".{target.name}.{uuid4().hex}")
    try:
        os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError as error:
        raise _unwritable(target, error) from error
    try:
        _copy(path, config, unfinished, target)
        _sync(unfinished)
        _publish(unfinished, target)
    except OSError as error:
        raise _unwritable(target, error) from error
    finally:
        unfinished.unlink(missing_ok=True)
    with suppress(OSError):  # some file systems cannot sync a directory
        _sync(target.parent)


def _copy(path: Path, config: StoreConfig, unfinished: Path, target: Path) -> None:
    with closing(open_connection(path, config.model_copy(update={"read_only": True}))) as connection:
        connection.execute("PRAGMA query_only = OFF")  # it also forbids writing to the copy
        try:
            connection.execute("VACUUM INTO ?", (str(unfinished),))
        except UnicodeEncodeError as error:
            raise ConfigurationError(f"SQLite takes names in UTF-8 only; {str(target)!a} is none") from error
        except sqlite3.Error as error:
            raise translated(error, target) from error


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _publish(unfinished: Path, target: Path) -> None:
    """Give the copy its name, unless somebody else took it in the meantime."""
    try:
        os.link(unfinished, target)
    except FileExistsError as error:
        raise _taken(target) from error
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        _publish_without_links(unfinished, target)


def _publish_without_links(unfinished: Path, target: Path) -> None:
    """For file systems without hard links: take the name with an empty file first, so that nothing is replaced."""
    try:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError as error:
        raise _taken(target) from error
    unfinished.replace(target)


def _taken(target: Path) -> ConfigurationError:
    return ConfigurationError(f"{target} is there already and a backup replaces nothing; name a new file")


def _unwritable(target: Path, error: OSError) -> ConfigurationError | MnesisStoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFullError(f"no space left for the backup {target}; nothing was left behind", db_path=target)
    return ConfigurationError(f"the backup {target} cannot be made: {error}; name a file in a directory you can write")
