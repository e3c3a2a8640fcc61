"""A store that is opened for reading only writes nothing, whatever the file would allow."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from pathlib import Path

import pytest

from mnesis import Engine, MnesisConfig, MnesisSession
from mnesis.config import StoreConfig
from mnesis.errors import MnesisStoreError, ReadOnlyStoreError
from mnesis.store.sqlite import SqliteStore
from mnesis.store.sqlite.migrate import migrations
from mnesis.testing.fault_migration import write_old_database

READING = StoreConfig(read_only=True)


async def recorded(path: Path) -> None:
    async with Engine(path) as engine, MnesisSession.open(model=None, session_id="s", engine=engine) as session:
        await session.record("question about frogs", "answer")


def state(path: Path) -> tuple[str, list[str]]:
    return hashlib.sha256(path.read_bytes()).hexdigest(), sorted(os.listdir(path.parent))


async def test_reading_leaves_every_byte_and_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await recorded(path)
    before = state(path)
    store = SqliteStore(path, READING)
    await store.open()
    assert len(await store.messages("s")) == 2
    assert await store.check() == []
    await store.close()
    assert state(path) == before


async def test_writing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await recorded(path)
    store = SqliteStore(path, READING)
    await store.open()
    with pytest.raises(ReadOnlyStoreError):
        await store.update_session("s", title="new")
    with pytest.raises(ReadOnlyStoreError):
        await store.purge("s")
    await store.close()


async def test_no_file_is_made(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "none" / "a.db", READING)
    with pytest.raises(MnesisStoreError):
        await store.open()
    await store.close()
    assert os.listdir(tmp_path) == []


async def test_a_journal_mode_and_an_older_schema_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await recorded(path)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    before = state(path)
    async with Engine(path, config=MnesisConfig(store=READING)) as engine:
        assert (await engine.store.session("s")).last_seq == 2
    assert state(path) == before
    old = tmp_path / "old.db"
    write_old_database(path, old, version=migrations()[-1].version - 1)
    before = state(old)
    with pytest.raises(ReadOnlyStoreError, match="needs an update"):
        await Engine(old, config=MnesisConfig(store=READING)).open()
    assert state(old) == before


async def test_readers_see_what_a_writer_of_the_same_process_commits(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await recorded(path)
    async with Engine(path) as writer, Engine(path, config=MnesisConfig(store=READING)) as reader:
        async with await MnesisSession.load("s", engine=writer) as session:
            await session.record("more", "said")
        assert (await reader.store.session("s")).last_seq == 4
        with pytest.raises(ReadOnlyStoreError):
            await reader.store.purge("s")


async def test_an_engine_that_cannot_be_opened_leaves_nothing_open(tmp_path: Path) -> None:
    path, first = tmp_path / "old.db", migrations()[0]
    connection = sqlite3.connect(path)
    connection.executescript(first.sql)
    connection.execute(f"PRAGMA user_version = {first.version}")
    connection.close()
    engine = Engine(path, config=MnesisConfig(store=READING))
    with pytest.raises(ReadOnlyStoreError):
        await engine.__aenter__()
    assert engine.closed
