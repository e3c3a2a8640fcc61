"""Stored files inside the database, for machines that share nothing else.

The port is that of object stores, `mnesis.files.object_store.ObjectStore`. Each call makes one connection and one
transaction, outside the pool of the sessions, because a large file takes a long time. A call whose connection was lost
runs again from its beginning until the connection timeout has passed. All calls have the same result when they are
repeated. Blocking.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import psycopg

from mnesis.config import StoreConfig
from mnesis.database_url import DatabaseURL
from mnesis.errors import FileError, MnesisError
from mnesis.store.postgres.database import FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS, connect
from mnesis.store.postgres.migrate import prepare_schema
from mnesis.store.postgres.queries import statements
from mnesis.store.postgres.rows import Row
from mnesis.store.postgres.translate_errors import is_repeatable, translate_error
from mnesis.system.open_files import open_file

T = TypeVar("T")
Connection = psycopg.Connection[Row]

CHUNK_BYTES = 1 << 20


class PostgresFileObjects:
    """The stored files in one schema of a PostgreSQL database. It connects at each use and keeps no connection open."""

    def __init__(self, url: DatabaseURL, config: StoreConfig) -> None:
        self.url = url
        self._config = config
        self._statements = statements(url.schema)
        self._is_prepared = False

    def put(self, name: str, source: Path) -> None:
        """See `ObjectStore.put`."""
        self._run(f"store {name!r}", partial(self._put, name, source), is_write=True)

    def create(self, name: str, content: bytes) -> None:
        """See `ObjectStore.create`."""
        self._run(f"store {name!r}", partial(self._create, name, content), is_write=True)

    def size_bytes(self, name: str) -> int | None:
        """See `ObjectStore.size_bytes`."""
        row = self._run(f"look up {name!r}", partial(self._row, statement="file", name=name))
        return None if row is None else int(row[1])

    def fetch(self, name: str, target: Path) -> bool:
        """See `ObjectStore.fetch`."""
        return self._run(f"read {name!r}", partial(self._fetch, name, target))

    def read(self, name: str) -> bytes | None:
        """See `ObjectStore.read`."""
        return self._run(f"read {name!r}", partial(self._read, name))

    def delete(self, name: str) -> int:
        """See `ObjectStore.delete`."""
        freed_bytes = self.size_bytes(name)  # a call that is repeated finds nothing to delete
        if freed_bytes is not None:
            delete = partial(self._row, statement="delete_file", name=name)
            self._run(f"delete {name!r}", delete, is_write=True)
        return freed_bytes or 0

    def list_names(self, directory: str) -> list[str]:
        """See `ObjectStore.list_names`."""
        prefix = f"{directory}/"
        rows = self._run(
            f"list {directory!r}",
            lambda connection: connection.execute(self._statements["file_names"], {"prefix": prefix}).fetchall(),
        )
        return [row[0].removeprefix(prefix) for row in rows]

    def _put(self, name: str, source: Path, connection: Connection) -> None:
        with open_file(source) as file:
            self._row(connection, "lock_file", name=name)
            self._row(connection, "delete_file", name=name)
            row = self._row(connection, "insert_file", name=name, size_bytes=source.stat().st_size)
            assert row is not None  # noqa: S101  # the lock keeps others from storing it, and it was deleted
            position = 0
            while content := file.read(CHUNK_BYTES):
                self._insert_chunk(connection, row[0], position, content)
                position += 1

    def _create(self, name: str, content: bytes, connection: Connection) -> None:
        self._row(connection, "lock_file", name=name)
        row = self._row(connection, "insert_file", name=name, size_bytes=len(content))
        if row is not None:
            self._insert_chunk(connection, row[0], 0, content)

    def _fetch(self, name: str, target: Path, connection: Connection) -> bool:
        row = self._row(connection, "file", name=name)
        if row is None:
            return False
        with target.open("wb") as file:
            position = 0
            while (chunk := self._chunk(connection, row[0], position)) is not None:
                file.write(chunk)
                position += 1
        return True

    def _read(self, name: str, connection: Connection) -> bytes | None:
        row = self._row(connection, "file", name=name)
        return None if row is None else self._chunk(connection, row[0], 0) or b""

    def _row(self, connection: Connection, statement: str, **parameters: object) -> Row | None:
        return connection.execute(self._statements[statement], parameters).fetchone()

    def _insert_chunk(self, connection: Connection, file_pk: int, position: int, content: bytes) -> None:
        parameters = {"file_pk": file_pk, "position": position, "content": content}
        connection.execute(self._statements["insert_file_chunk"], parameters)

    def _chunk(self, connection: Connection, file_pk: int, position: int) -> bytes | None:
        parameters = {"file_pk": file_pk, "position": position}
        row = connection.execute(self._statements["file_chunk"], parameters, binary=True).fetchone()
        return None if row is None else row[0]

    def _run(self, action: str, function: Callable[[Connection], T], *, is_write: bool = False) -> T:
        """Run a function in one transaction. A function that only reads sees one state of the database. Raises
        `FileError`.
        """
        deadline = time.monotonic() + self._config.connection_timeout
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                return self._attempt(function, is_write)
            except psycopg.Error as error:
                if not is_repeatable(error) or time.monotonic() + pause > deadline:
                    raise self._error(action, translate_error(error, str(self.url))) from error
            except FileError:
                raise
            except MnesisError as error:
                raise self._error(action, error) from error
            time.sleep(random.uniform(pause / 2, pause))  # noqa: S311  # spreads out processes, protects nothing
            pause = min(2 * pause, MAX_PAUSE_SECONDS)

    def _attempt(self, function: Callable[[Connection], T], is_write: bool) -> T:
        with connect(self.url) as connection:
            if not self._is_prepared:
                key = self._config.integrity_key
                secret = None if key is None else key.get_secret_value()
                prepare_schema(connection, self.url, read_only=self._config.read_only, key=secret)
                self._is_prepared = True
            if not is_write:
                connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            with connection.transaction():
                return function(connection)

    def _error(self, action: str, error: MnesisError) -> FileError:
        return FileError(f"the database cannot {action}: {error}", path=self.url)
