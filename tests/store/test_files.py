"""Files that are not there, not ours, damaged, locked, full, read-only, replaced."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from mnesis.config import StoreConfig
from mnesis.errors import (
    CorruptStoreError,
    ForkedStoreError,
    MnesisStoreError,
    ReadOnlyStoreError,
    SchemaTooNewError,
    StoreBusyError,
    StoreFullError,
    StoreReplacedError,
)
from mnesis.models.session import SessionRecord
from mnesis.store.base import Append
from mnesis.store.sqlite import SqliteStore, connect
from mnesis.store.sqlite.connection import StoreConnection
from mnesis.store.sqlite.migrate import migrations
from mnesis.testing.store_suite import expect_error, make_message, make_turn, store_conversation
from tests.store.children import Report, patch, read_bytes, start


async def filled(path: Path, turns: int = 3) -> None:
    store = SqliteStore(path)
    await store.open()
    await store_conversation(store, turns)
    await store.close()


def clear(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


def modes_in(folder: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


async def opens(path: Path) -> None:
    store = SqliteStore(path)
    try:
        await store.open()
        await store.messages("s")
    finally:
        await store.close()


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


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user; others are refused by the next test")
@pytest.mark.parametrize("case", ["directory", "file"])
def test_what_cannot_be_written_is_read(tmp_path: Path, case: str) -> None:
    path = tmp_path / "s.db"
    asyncio.run(filled(path))
    for folder in (tmp_path, *tmp_path.parents):
        if folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    path.chmod(0o644)
    tmp_path.chmod(0o755 if case == "directory" else 0o777)

    async def read(tell: Report) -> None:
        os.setuid(65_534)
        store = SqliteStore(path)
        await store.open()
        tell(str(len(await store.messages("s"))))
        with expect_error(ReadOnlyStoreError):
            await store.append("s", make_turn(9))
        with expect_error(ReadOnlyStoreError, MnesisStoreError):
            await opens(Path("/proc/s.db"))
        await store.close()

    assert start(read).wait() == (["6"], 0)


async def test_a_database_that_may_not_be_written_refuses_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.db"
    await filled(path)
    original = connect._connect
    monkeypatch.setattr(connect, "_connect", lambda path, query, config: original(path, "mode=ro", config))
    store = SqliteStore(path)
    await store.open()
    assert len(await store.messages("s")) == 6
    with expect_error(ReadOnlyStoreError):
        await store.append("s", make_turn(9))
    await store.close()


async def test_a_write_ahead_log_that_is_refused_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class WithoutSharedMemory(StoreConnection):
        def execute(self, sql: str, *parameters: object) -> sqlite3.Cursor:
            return super().execute("PRAGMA journal_mode" if sql == "PRAGMA journal_mode = WAL" else sql, *parameters)  # type: ignore[arg-type]  # passed on

    plain = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: plain(*a, **{**k, "factory": WithoutSharedMemory}))
    store = SqliteStore(tmp_path / "s.db")
    await store.open()
    await store_conversation(store, 2)
    modes = await store._database.read(
        lambda c: (c.execute("PRAGMA journal_mode").fetchone()[0], c.execute("PRAGMA synchronous").fetchone()[0])
    )
    await store.close()
    assert modes == ("delete", 2)
    assert "no write-ahead log" in caplog.text


@pytest.mark.parametrize("refusals", [3, 1_000_000])
async def test_the_switch_to_a_write_ahead_log_is_tried_again_until_the_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusals: int
) -> None:
    class Busy(StoreConnection):
        tries = 0

        def execute(self, sql: str, *parameters: object) -> sqlite3.Cursor:
            if sql == "PRAGMA journal_mode = WAL":
                Busy.tries += 1
                if Busy.tries <= refusals:
                    error = sqlite3.OperationalError("database is locked")
                    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
                    raise error
            return super().execute(sql, *parameters)  # type: ignore[arg-type]  # passed on

    plain = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: plain(*a, **{**k, "factory": Busy}))
    store = SqliteStore(tmp_path / "s.db", StoreConfig(connection_timeout=30.0 if refusals == 3 else 0.1))
    if refusals == 3:
        await store.open()
        assert await store._database.read(lambda c: c.execute("PRAGMA journal_mode").fetchone()[0]) == "wal"
        assert Busy.tries == 4
    else:
        with expect_error(StoreBusyError):
            await store.open()
    await store.close()


async def test_durability_is_a_setting(tmp_path: Path) -> None:
    for durability, synchronous in (("normal", 1), ("full", 2)):
        store = SqliteStore(StoreConfig(db_path=tmp_path / "s.db", durability=durability))  # type: ignore[arg-type]  # as given
        await store.open()
        assert await store._database.read(lambda c: c.execute("PRAGMA synchronous").fetchone()[0]) == synchronous
        await store.close()


async def test_a_forked_child_is_refused_and_the_parent_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    store = SqliteStore(path)
    await store.open()
    await store_conversation(store, 1)

    def use_inherited(tell: Report) -> None:
        async def use() -> None:
            for call in (store.open(), store.session("s"), store.append("s", make_turn(9))):
                with expect_error(ForkedStoreError):
                    await call
            with expect_error(ForkedStoreError):
                store.turns("s")
            await store.close()
            own = SqliteStore(path)
            await own.open()
            tell(str(len(await own.messages("s"))))
            await own.close()

        asyncio.new_event_loop().run_until_complete(use())

    def in_child(tell: Report) -> None:
        import threading

        done = threading.Thread(target=use_inherited, args=(tell,))
        done.start()
        done.join()

    assert start(in_child).wait() == (["2"], 0)
    await store.append("s", make_turn(1))
    assert len(await store.messages("s")) == 4
    await store.close()


def test_a_process_that_never_closes_exits_with_everything_stored(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    script = """
        import asyncio, sys
        from mnesis.store.sqlite import SqliteStore
        from mnesis.testing.store_suite import store_conversation
        store = SqliteStore(sys.argv[1])
        async def main():
            await store.open()
            await store_conversation(store, 5)
        asyncio.run(main())
        print("done")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(path)], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr

    async def stored() -> int:
        store = SqliteStore(path)
        await store.open()
        try:
            return len(await store.messages("s"))
        finally:
            await store.close()

    assert asyncio.run(stored()) == 10


async def test_no_handle_of_an_open_database_is_opened_plainly(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    store = SqliteStore(path)
    await store.open()
    plainly: list[str] = []
    watching = True

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event == "open" and str(arguments[0]).startswith(str(path)):
            plainly.append(str(arguments[0]))

    sys.addaudithook(watch)
    await store_conversation(store, 2)
    await store.check()
    await store.purge("s")
    second = SqliteStore(path)
    await second.open()
    await second.close()
    await store.close()
    watching = False
    # The second opening may try to create the file, which fails without a handle.
    assert [name for name in plainly if not name.endswith("s.db")] == []
