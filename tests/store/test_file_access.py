"""Files that are read-only, forked, or left open by a process."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from mnesis.config import StoreConfig
from mnesis.errors import (
    ForkedStoreError,
    MnesisStoreError,
    ReadOnlyStoreError,
    StoreBusyError,
)
from mnesis.store.sqlite import SqliteStore, connect
from mnesis.store.sqlite.connection import StoreConnection
from mnesis.testing.store_samples import expect_error, make_turn, store_conversation
from tests.store.children import Report, start
from tests.support.store_files import filled, opens


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
    monkeypatch.setattr(connect, "_connect", lambda path, query, config, key: original(path, "mode=ro", config, key))
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
    modes = await store.database.read(
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
        assert await store.database.read(lambda c: c.execute("PRAGMA journal_mode").fetchone()[0]) == "wal"
        assert Busy.tries == 4
    else:
        with expect_error(StoreBusyError):
            await store.open()
    await store.close()


async def test_durability_is_a_setting(tmp_path: Path) -> None:
    for durability, synchronous in (("normal", 1), ("full", 2)):
        store = SqliteStore(StoreConfig(db_path=tmp_path / "s.db", durability=durability))  # type: ignore[arg-type]  # as given
        await store.open()
        assert await store.database.read(lambda c: c.execute("PRAGMA synchronous").fetchone()[0]) == synchronous
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
        from mnesis.testing.store_samples import store_conversation
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
