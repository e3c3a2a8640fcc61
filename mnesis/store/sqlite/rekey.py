"""Changing the key of an encrypted database and of its stored files.

    1  write a list of the old and the new names of the stored files
    2  copy each file under the new key, to its new name
    3  change the key of the database, in one transaction
    4  delete the files under the old key, and the list

A process that is killed before step 3 leaves a database with the old key; after it, one with the new key. In both cases
all files of that key exist. The next call first deletes the other files.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from mnesis.config import StoreConfig
from mnesis.encryption import EncryptionKey
from mnesis.errors import ConfigurationError, StoreBusyError
from mnesis.files.copy_files import OnFile, copy_files
from mnesis.files.storage import FileStorage
from mnesis.store.sqlite.connect import busy_timeout_ms, refuse_unreadable
from mnesis.store.sqlite.keyed_file import connect_file, refuse_wrong_key
from mnesis.store.sqlite.queries import sql
from mnesis.store.sqlite.translate_errors import has_code, translate_error
from mnesis.system.open_files import describe_open_file, find_identity, open_file

_LIST_NAME = "rekey.json"


def rekey(
    path: Path, config: StoreConfig, new_key: EncryptionKey, storage_dir: Path, on_file: OnFile | None = None
) -> int:
    """Encrypt a database and its stored files with a new key, and return the number of files. Blocking.

    `config` has the current key. If other databases keep files with that key in the same directory, the files under the
    old key are kept. No other process may have the database open during the call. `on_file(done, all)` is called after
    each file. Files that are missing or damaged are skipped; `mnesis doctor --deep` lists them.

    Raises `ConfigurationError` if there is no current key, `EncryptionKeyError` if it is wrong, and `StoreBusyError` if the
    database is in use.
    """
    key = config.read_encryption_key()
    if key is None:
        raise ConfigurationError(
            f"a key can be changed, but {path} has none; make an encrypted copy with `mnesis backup --new-key-file`"
        )
    old = FileStorage(storage_dir, read_key=lambda: key)
    new = FileStorage(storage_dir, read_key=lambda: new_key)
    with closing(_open_exclusively(path, config, key)) as connection:
        content_ids = [str(row[0]) for row in connection.execute(sql("file_content_ids"))]
        if content_ids or old.directory.is_dir():
            _delete_leftovers(old, path, content_ids)
            _write_list(old, new, path, content_ids)
            new.note_database(str(path))
        count = copy_files(old, new, content_ids, on_file).copied
        try:
            connection.execute(f"PRAGMA rekey = {new_key.to_sql()}")
        except sqlite3.Error as error:
            raise translate_error(error, path) from error
    if content_ids or new.directory.is_dir():
        _delete_leftovers(new, path, content_ids)
    return count


def _open_exclusively(path: Path, config: StoreConfig, key: EncryptionKey) -> sqlite3.Connection:
    """Open the database for this process alone, without a write-ahead log."""
    identity = find_identity(path)
    if identity is not None and describe_open_file(identity) is not None:
        raise _in_use_error(path)
    connection = connect_file(path, "mode=rw", key, isolation_level=None, timeout=busy_timeout_ms(config) / 1000)
    try:
        refuse_unreadable(connection, path)
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        mode = connection.execute("PRAGMA journal_mode = DELETE").fetchone()[0]
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("COMMIT")  # the lock is held until the connection is closed
        if mode != "delete":
            raise _in_use_error(path)
    except BaseException as error:
        connection.close()
        if not isinstance(error, sqlite3.Error):
            raise
        if has_code(error, sqlite3.SQLITE_NOTADB):
            refuse_wrong_key(path, key)
        if has_code(error, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise _in_use_error(path) from error
        raise translate_error(error, path) from error
    return connection


def _in_use_error(path: Path) -> StoreBusyError:
    return StoreBusyError(
        f"{path} is in use, and its key can only be changed while nothing else has it open; close it in every process and"
        " try again. Nothing was changed",
        db_path=path,
    )


def _paths_in(storage: FileStorage, database: Path, content_ids: Sequence[str]) -> list[Path]:
    return [storage.database_note(str(database)), *map(storage.path_of, content_ids)]


def _write_list(old: FileStorage, new: FileStorage, database: Path, content_ids: Sequence[str]) -> None:
    is_shared = any(location != str(database) for location in old.databases())
    paths = _paths_in(new, database, content_ids) + ([] if is_shared else _paths_in(old, database, content_ids))
    names = sorted({path.relative_to(old.directory).as_posix() for path in paths})
    old.replace_file(old.directory / _LIST_NAME, json.dumps(names).encode())


def _delete_leftovers(storage: FileStorage, database: Path, content_ids: Sequence[str]) -> None:
    """Delete listed files that do not have the key of this storage, and then the list."""
    path = storage.directory / _LIST_NAME
    try:
        with open_file(path) as file:
            listed = json.loads(file.read())
    except (FileNotFoundError, ValueError):
        return
    kept = set(_paths_in(storage, database, content_ids))
    for relative in listed:
        file_path = storage.directory / relative
        if file_path not in kept and file_path.parent.parent == storage.directory:
            for each in [*file_path.parent.glob(f"{file_path.name}.*"), file_path]:
                each.unlink(missing_ok=True)
    path.unlink(missing_ok=True)
