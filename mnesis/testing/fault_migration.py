"""Databases of older releases, and their update as an operation for `mnesis.testing.faults`."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import sqlite3
from pathlib import Path

from mnesis.store.sqlite.migrate import migrate, migrations
from mnesis.testing.faults import Scene

OLD_VERSION = 3
"""The schema of the database that is updated: its messages have no hash chain, and it has no changes and no forks."""


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
            old.execute(f"DELETE FROM {table}")  # noqa: S608  # names from the schema; rows that the migrations made
            insert = f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(values)} FROM new.{table}"  # noqa: S608  # same
            old.execute(insert)
    old.execute("DETACH new")
    old.close()


def _content_hash(message_id: str, role: str, parts: bytes, meta: bytes | None) -> bytes:
    return hashlib.sha256(b"\0".join((message_id.encode(), role.encode(), parts, meta or b""))).digest()


async def write_old_scene(scene: Scene, messages: int) -> None:
    """Replace the database of a scene, whose session "s" has `messages` messages, by one of an older release."""

    def write() -> None:
        newest = scene.path.rename(scene.directory / "newest.db")
        write_old_database(newest, scene.directory / "old.db", OLD_VERSION)

    async with scene.open_store() as store:
        if len(await store.messages("s")) != messages:
            raise AssertionError("the database was not filled")
    await asyncio.to_thread(write)


async def migrate_scene(scene: Scene) -> None:
    """Open a database of an older release, which updates it."""

    def copy() -> None:
        for path in scene.directory.glob("s.db*"):
            path.unlink()
        shutil.copyfile(scene.directory / "old.db", scene.path)

    await asyncio.to_thread(copy)
    scene.arm()
    async with scene.open_store():
        pass
