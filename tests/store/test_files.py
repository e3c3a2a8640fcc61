"""Files that are not there, not ours, damaged, locked, full, read-only, replaced."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sqlite3
import stat
from pathlib import Path

import pytest

from mnesis.config import StoreConfig
from mnesis.errors import (
    CorruptStoreError,
    MnesisStoreError,
    SchemaTooNewError,
    StoreBusyError,
    StoreFullError,
    StoreReplacedError,
)
from mnesis.models.session import SessionRecord
from mnesis.store.base import Append
from mnesis.store.sqlite import SqliteStore
from mnesis.store.sqlite.migrate import migrations
from mnesis.testing.store_samples import expect_error, make_message, make_turn, store_conversation
from tests.store.children import Report, patch, read_bytes, start
from tests.support.store_files import filled, opens


def clear(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


def modes_in(folder: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


async def test_files_are_private_from_the_first_moment(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        path = tmp_path / "new" / "deeper" / "s.db"
        store = SqliteStore(path)
        await store.open()
        await store_conversation(store, 1)
        modes = modes_in(path.parent)
        await store.close()
    finally:
        os.umask(previous)
    assert modes == {"s.db": 0o600, "s.db-shm": 0o600, "s.db-wal": 0o600}
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (path.parent, path.parent.parent)] == [0o700, 0o700]


@pytest.mark.parametrize("name", ["with space ?#%41&mode=memory.db", "ü.db", ":memory:.db", os.fsdecode(b"raw\xff.db")])
async def test_any_file_name_will_do(tmp_path: Path, name: str) -> None:
    await filled(tmp_path / name)
    await opens(tmp_path / name)
    assert list(modes_in(tmp_path)) == [name]


async def test_an_empty_file_becomes_a_database(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    path.touch()
    await filled(path)
    await opens(path)


async def test_opening_twice_uses_what_is_there(tmp_path: Path) -> None:
    await filled(tmp_path / "s.db")
    await opens(tmp_path / "s.db")


def _text_file(path: Path) -> None:
    path.write_text("This is no database, but long enough to look like something. " * 40)


def _broken_header(path: Path) -> None:
    patch(path, 0, b"XXXX")


def _cut_off(path: Path) -> None:
    os.truncate(path, 5_000)


def _overwritten_schema(path: Path) -> None:
    patch(path, 100, os.urandom(3_000))


def _other_database(path: Path) -> None:
    path.unlink()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (x)")
    other.commit()
    other.close()


@pytest.mark.parametrize("damage", [_text_file, _broken_header, _cut_off, _overwritten_schema, _other_database])
async def test_what_is_no_database_of_ours_is_refused_and_left_alone(tmp_path: Path, damage: object) -> None:
    path = tmp_path / "s.db"
    await filled(path)
    damage(path)  # type: ignore[operator]  # one of the functions above
    before = read_bytes(path)
    with pytest.raises(CorruptStoreError, match=r"s\.db") as caught:
        await opens(path)
    assert caught.value.db_path == str(path)
    assert read_bytes(path) == before


async def test_a_directory_is_refused(tmp_path: Path) -> None:
    with expect_error(CorruptStoreError):
        await opens(tmp_path)


async def test_a_path_through_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with expect_error(MnesisStoreError):
        await opens(tmp_path / "file" / "s.db")


async def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    await filled(path)
    raw = sqlite3.connect(path)
    raw.execute("PRAGMA user_version = 999")
    raw.close()
    before = read_bytes(path)
    with pytest.raises(SchemaTooNewError) as caught:
        await opens(path)
    assert (caught.value.found_version, caught.value.supported_version) == (999, len(migrations()))
    assert read_bytes(path) == before


async def test_a_lock_held_too_long_is_reported_and_the_write_can_be_repeated(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    store = SqliteStore(path, StoreConfig(connection_timeout=0.05))
    await store.open()
    await store.create_session(SessionRecord(id="s", model="m"))
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    for outcome in await asyncio.gather(*(store.append("s", make_turn(n)) for n in range(3)), return_exceptions=True):
        assert isinstance(outcome, StoreBusyError)
    assert await store.messages("s") == []
    holder.execute("ROLLBACK")
    holder.close()
    await store.append("s", make_turn())
    assert len(await store.messages("s")) == 2
    await store.close()


async def test_a_replaced_file_is_noticed_before_the_next_write(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    for change in (lambda: path.rename(tmp_path / "moved.db"), path.unlink):
        await filled(path)
        store = SqliteStore(path)
        await store.open()
        change()
        with expect_error(StoreReplacedError):
            await store.append("s", make_turn(9))
        await store.close()
        clear(tmp_path)


async def test_a_full_disk_is_reported_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    await filled(path)

    async def fill(tell: Report) -> None:
        store = SqliteStore(path)
        await store.open()
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
        number = 100
        try:
            while True:
                await store.append("s", Append([make_message("user", "x" * 20_000, id=f"big-{number}")]))
                tell(f"big-{number}")
                number += 1
        except StoreFullError:
            tell(f"full {len(await store.messages('s'))}")
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await store.append("s", Append([make_message("user", "small", id="small")]))
        tell("small")
        os._exit(0)

    lines, code = start(fill).wait()
    assert code == 0
    *big, full, small = lines
    assert big
    assert (full, small) == (f"full {6 + len(big)}", "small")
    store = SqliteStore(path)
    await store.open()
    assert [message.id for message in (await store.messages("s"))[6:]] == [*big, "small"]
    assert await store.check() == []
    await store.close()
