"""The connection of a store, with the store's cached knowledge of the database."""

from __future__ import annotations

import random
import sqlite3
from typing import Any

from mnesis.store.context_cache import ContextCache
from mnesis.store.sqlite.known_sessions import KnownSessions
from mnesis.system.open_files import unregister_database

MAX_ORIGIN = 2**62


class ConnectionState:
    """The state of a connection: a random number that marks its changes, and the key that seals its writes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.origin = random.randrange(1, MAX_ORIGIN)  # noqa: S311  # tells connections apart, protects nothing
        self.integrity_key: bytes | None = None
        self.known_rows: dict[int, tuple[Any, ...]] = {}
        """Accounts that this connection wrote, by session. A row that is still the same is not damaged."""
        self.known_profiles: dict[int, tuple[tuple[Any, ...], bytes, dict[str, Any]]] = {}
        """Rows of sessions without metadata that were read, with their hash and settings, by session."""

        self.known_sessions: KnownSessions[Any] = KnownSessions()
        self.contexts = ContextCache()

    def close(self) -> None:
        """Close the connection. After this, its files are no longer protected from being opened by other means."""
        super().close()  # type: ignore[misc]  # the method of the connection class that comes next
        unregister_database(self)


def data_version(connection: sqlite3.Connection) -> int:
    """Return SQLite's number for the state of the database, which changes with each commit of another connection."""
    version: int = connection.execute("PRAGMA data_version").fetchone()[0]
    return version


class StoreConnection(ConnectionState, sqlite3.Connection):
    """A connection to a database that is not encrypted."""
