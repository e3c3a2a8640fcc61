"""The storage of a database's files: a directory, an object store, or a PostgreSQL database itself."""

from __future__ import annotations

import os

from mnesis.config import FileConfig, StoreConfig
from mnesis.database_url import DatabaseURL
from mnesis.files.object_storage import open_storage
from mnesis.files.object_store import ObjectStore
from mnesis.files.storage import FileStorage


def file_objects(file: FileConfig, store: StoreConfig, location: str | os.PathLike[str]) -> ObjectStore | None:
    """Return the stored files in the database at this URL, or None if they are elsewhere. Connects to nothing yet.

    Raises `ConfigurationError` if the settings place them in a database that is an SQLite file.
    """
    if not file.is_in_database(location):
        return None
    from mnesis.store.postgres.file_objects import PostgresFileObjects

    return PostgresFileObjects(DatabaseURL(os.fspath(location)), store)


def open_file_storage(file: FileConfig, store: StoreConfig, location: str | os.PathLike[str]) -> FileStorage:
    """Return the storage of the files of the database at this path or URL. Reads and writes nothing.

    Raises like `file_objects`.
    """
    return open_storage(file, read_key=store.read_encryption_key, objects=file_objects(file, store, location))
