"""Database files with and without a key: connecting to both, and telling them apart."""

from __future__ import annotations

import os
import sqlite3
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

from mnesis.encryption import INSTALL_COMMAND, EncryptionKey
from mnesis.errors import ConfigurationError, EncryptionKeyError, UnsuitableFileError
from mnesis.store.sqlite.connection import StoreConnection
from mnesis.system.open_files import open_file

_PLAIN_HEADER = b"SQLite format 3\0"
"""The beginning of every database that is not encrypted (https://sqlite.org/fileformat.html, section 1.3)."""
_PAGE_BYTES = 4096
MIN_RANDOM_VALUES = 200
"""The number of distinct byte values at which a page counts as encrypted: on average 255.9 of 256 in an encrypted
database, about 80 in text."""


def is_installed() -> bool:
    """Return whether the library for encrypted databases is installed."""
    return find_spec("sqlcipher3") is not None


def sqlite_version(key: EncryptionKey | None) -> tuple[int, ...]:
    """Return the release of SQLite that opens a database with this key. Raises `ConfigurationError` if none is installed."""
    if key is None:
        return sqlite3.sqlite_version_info
    if not is_installed():
        raise ConfigurationError(f"encrypted databases need another SQLite library; run {INSTALL_COMMAND}")
    from mnesis.store.sqlite.cipher import VERSION

    return VERSION


def connect_file(path: Path, query: str, key: EncryptionKey | None, **options: Any) -> sqlite3.Connection:
    """Connect to a database file, with the query of its URI and the options of `sqlite3.connect`.

    A wrong key shows when the file is read, as SQLITE_NOTADB.
    """
    name = f"file:{quote_from_bytes(os.fsencode(path))}?{query}"
    if key is None:
        return sqlite3.connect(name, uri=True, factory=StoreConnection, **options)
    sqlite_version(key)
    from mnesis.store.sqlite.cipher import connect_encrypted

    return connect_encrypted(name, key, **options)


def refuse_wrong_key(path: Path, key: EncryptionKey | None) -> None:
    """Raise `EncryptionKeyError` if the key is the reason why this file cannot be read. Call it once no connection is open."""
    head = _read_head(path)
    is_plain, is_random = head.startswith(_PLAIN_HEADER), len(set(head)) >= MIN_RANDOM_VALUES
    if key is None and is_random:
        hint = "" if is_installed() else f", after {INSTALL_COMMAND}"
        raise EncryptionKeyError(
            f"{path} is encrypted, and no key was given; pass StoreConfig(encryption_key=…), or set MNESIS_ENCRYPTION_KEY for"
            f" commands{hint}",
            db_path=path,
        )
    if key is not None and is_plain:
        raise EncryptionKeyError(
            f"{path} is not encrypted, but a key was given; omit it, or make an encrypted copy with `mnesis backup"
            " --new-key-file`",
            db_path=path,
        )
    if key is not None and is_random:
        raise EncryptionKeyError(
            f"{path} cannot be decrypted: the key is wrong, or the first page of the file is damaged. It was not changed;"
            " pass the key it was created with",
            db_path=path,
        )


def _read_head(path: Path) -> bytes:
    """Return the first page of a file. If the file is open in this process, returns the answer for an encrypted one."""
    try:
        with open_file(path) as file:
            return file.read(_PAGE_BYTES)
    except UnsuitableFileError:  # another connection has the key and reads it
        return bytes(range(256))
    except OSError:
        return b""
