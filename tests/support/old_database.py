"""Databases as older releases wrote them."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

from mnesis.store.sqlite.migrate import migrate, migrations


def write_old_database(source: Path | str, target: Path, version: int) -> None:
    """Copy the rows of a database into a new one of an older schema version, with the hashes of that version."""
    old = sqlite3.connect(target, isolation_level=None)
    old.execute("PRAGMA journal_mode = WAL")
    migrate(old, target, migrations()[:version])
    old.execute("ATTACH ? AS new", (str(source),))
    old.create_function("content_hash", 4, _content_hash)
    tables = [name for (name,) in old.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    for table in tables:
        if not table.startswith(("search_", "sqlite_")):
            columns = [row[1] for row in old.execute(f"PRAGMA table_info({table})")]
            values = [
                "content_hash(id, role, CAST(parts AS BLOB), CAST(meta AS BLOB))"
                if c == "hash" and table == "messages"
                else c
                for c in columns
            ]
            old.execute(f"DELETE FROM {table}")  # rows that the migrations made
            old.execute(f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(values)} FROM new.{table}")
    old.execute("DETACH new")
    old.close()


def _content_hash(message_id: str, role: str, parts: bytes, meta: bytes | None) -> bytes:
    return hashlib.sha256(b"\0".join((message_id.encode(), role.encode(), parts, meta or b""))).digest()
