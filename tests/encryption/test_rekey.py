"""Changing keys, and converting databases: complete, or as if it had not begun."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from mnesis import MnesisSession
from mnesis.encryption import EncryptionKey
from mnesis.errors import ConfigurationError, EncryptionKeyError, MnesisStoreError, StoreBusyError
from mnesis.files.copy_files import copy_files
from mnesis.files.storage import FileStorage
from mnesis.models.message import FilePart
from mnesis.store.sqlite import SqliteStore
from mnesis.store.sqlite.rekey import rekey
from tests.support.encrypted import KEY, OTHER_KEY, PASSPHRASE, encrypted, encrypted_config, files_below, find_on_disk

CANARY = "Zirkuspferd"


async def write(directory: Path, key: object = KEY, name: str = "s.db") -> None:
    async with MnesisSession.open(
        model=None, session_id="s", db_path=directory / name, config=encrypted_config(directory, key)
    ) as session:
        for number in range(5):
            log = f"{CANARY} {number}\n" * 300
            await session.record([FilePart(name="a.log", text=log)], f"{CANARY} answer {number} {'word ' * 200}")
        await session.search(CANARY)


async def is_whole(directory: Path, key: object, name: str = "s.db") -> bool:
    """Whether the database has this key, and all of its files."""
    store = SqliteStore(directory / name, encrypted(key))
    try:
        await store.open()
        assert await store.check() == []
        assert len(await store.messages("s")) == 10
        ids = [each.content_id for each in await store.file_references()]
    except EncryptionKeyError:
        return False
    finally:
        await store.close()
    files = FileStorage(directory / "files", read_key=encrypted(key).read_encryption_key)
    assert len(ids) == 5
    assert files.check(ids) == []
    return True


@pytest.mark.parametrize("new", [OTHER_KEY, PASSPHRASE], ids=["raw", "passphrase"])
async def test_a_new_key_replaces_the_old_one_everywhere(tmp_path: Path, new: str | bytes) -> None:
    await write(tmp_path)
    before = files_below(tmp_path)
    progress: list[tuple[int, int]] = []
    files = tmp_path / "files"
    assert rekey(tmp_path / "s.db", encrypted(), EncryptionKey(new), files, lambda *at: progress.append(at)) == 5
    assert progress == [(n, 5) for n in range(1, 6)]
    assert await is_whole(tmp_path, new)
    assert not await is_whole(tmp_path, KEY)
    assert find_on_disk(tmp_path, CANARY) == []
    remaining = before & files_below(tmp_path)
    assert remaining <= {tmp_path / name for name in ("s.db", "s.db-wal", "s.db-shm", "files/salt")}
    assert not (files / "rekey.json").exists()


async def test_a_wrong_or_missing_key_changes_nothing(tmp_path: Path) -> None:
    await write(tmp_path)
    new = EncryptionKey(PASSPHRASE)
    with pytest.raises(EncryptionKeyError):
        rekey(tmp_path / "s.db", encrypted(OTHER_KEY), new, tmp_path / "files")
    with pytest.raises(ConfigurationError, match="mnesis backup"):
        rekey(tmp_path / "s.db", encrypted(None), new, tmp_path / "files")
    assert await is_whole(tmp_path, KEY)
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE t (a)").connection.close()
    with pytest.raises(MnesisStoreError):
        rekey(tmp_path / "other.db", encrypted(), new, tmp_path / "files")


HOLDER = """
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from mnesis.encryption import EncryptionKey
from mnesis.store.sqlite.keyed_file import connect_file
from tests.support.encrypted import KEY
connection = connect_file(Path(sys.argv[1]), "mode=rw", EncryptionKey(KEY))
connection.execute("SELECT count(*) FROM messages").fetchone()
print("ready", flush=True)
sys.stdin.read()
"""


async def test_a_database_that_is_in_use_keeps_its_key(tmp_path: Path) -> None:
    await write(tmp_path)
    config = encrypted(connection_timeout=0.1)
    store = SqliteStore(tmp_path / "s.db", encrypted())
    await store.open()
    with pytest.raises(StoreBusyError, match="is in use"):
        rekey(tmp_path / "s.db", config, EncryptionKey(OTHER_KEY), tmp_path / "files")
    assert len(await store.messages("s")) == 10
    await store.close()
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, str(tmp_path / "s.db"), stdin=PIPE, stdout=PIPE, cwd=Path(__file__).parents[2]
    )
    assert child.stdout is not None
    assert await child.stdout.readline() == b"ready\n"
    with pytest.raises(StoreBusyError, match="is in use"):
        rekey(tmp_path / "s.db", config, EncryptionKey(OTHER_KEY), tmp_path / "files")
    await child.communicate(b"")
    assert await is_whole(tmp_path, KEY)


def die_in_rekey(directory: Path, key: bytes, new: bytes, step: int) -> int:
    """Change the key in a child that dies at its k-th change of a file's name or call of the library. Returns its exit code."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    steps = iter(range(1, 1_000_000))

    def count(*arguments: object) -> int:
        if next(steps) >= step:
            os.kill(os.getpid(), 9)
        return 0

    try:
        sys.addaudithook(
            lambda event, arguments: count() if event in ("os.rename", "os.link", "os.remove") else None  # type: ignore[func-returns-value]
        )
        from mnesis.store.sqlite import cipher

        original = cipher.CipherConnection.execute

        def execute(self: cipher.CipherConnection, *arguments: object) -> object:
            count()
            self.set_progress_handler(count, 40)
            return original(self, *arguments)

        cipher.CipherConnection.execute = execute  # type: ignore[assignment,method-assign]
        rekey(directory / "s.db", encrypted(key), EncryptionKey(new), directory / "files")
        os._exit(0)
    finally:
        os._exit(1)


async def test_killed_anywhere_it_leaves_either_key_with_all_files(tmp_path: Path) -> None:
    await write(tmp_path)
    keys, outcomes, code, step = [KEY, OTHER_KEY], set(), -9, 1
    while code == -9:
        code = die_in_rekey(tmp_path, keys[0], keys[1], step)
        assert code in (0, -9)
        has_old = await is_whole(tmp_path, keys[0])
        outcomes.add((code, has_old))
        if not has_old:
            assert await is_whole(tmp_path, keys[1])
            keys.reverse()
        step += 1 + step // 12
    assert step > 20
    assert {(-9, True), (0, False)} <= outcomes
    # What the kills left is cleared by the last call: one file per stored file, its summary, the notes and the salt.
    files = [path for path in files_below(tmp_path / "files") if path.parent.name != "incoming"]
    assert len(files) <= 5 + 2 + 1
    assert find_on_disk(tmp_path, CANARY) == []


async def test_files_that_another_database_uses_stay(tmp_path: Path) -> None:
    await write(tmp_path)
    await write(tmp_path, name="other.db")
    rekey(tmp_path / "s.db", encrypted(), EncryptionKey(OTHER_KEY), tmp_path / "files")
    assert await is_whole(tmp_path, OTHER_KEY)
    assert await is_whole(tmp_path, KEY, "other.db")


@pytest.mark.parametrize(
    ("key", "new"), [(None, KEY), (KEY, None), (KEY, PASSPHRASE), (PASSPHRASE, PASSPHRASE), (None, None)]
)
async def test_a_copy_has_any_key_and_the_same_content(tmp_path: Path, key: object, new: object) -> None:
    await write(tmp_path, key)
    source = SqliteStore(tmp_path / "s.db", encrypted(key))
    await source.open()
    await source.convert(tmp_path / "copy.db", encrypted(new).read_encryption_key())
    assert [path.name for path in files_below(tmp_path) if path.name.startswith(".")] == []
    assert bool(find_on_disk(tmp_path, "SQLite format 3")) == (None in (key, new))
    copy = SqliteStore(tmp_path / "copy.db", encrypted(new))
    await copy.open()
    assert await copy.check() == []
    heads = [(await store.verify()).heads for store in (source, copy)]
    assert heads[0] == heads[1]
    assert await copy.messages("s") == await source.messages("s")
    ids = [each.content_id for each in await copy.file_references()]
    old, target = (
        FileStorage(tmp_path / name, read_key=encrypted(each).read_encryption_key)
        for name, each in (("files", key), ("new", new))
    )
    assert copy_files(old, target, ids).copied == 5
    assert target.check(ids) == []
    assert (find_on_disk(tmp_path / "new", CANARY) == []) == (new is not None)
    await copy.close()
    with pytest.raises(ConfigurationError, match="already exists"):
        await source.convert(tmp_path / "copy.db", None)
    await source.close()
