"""The SQLite store."""

from mnesis.store.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
