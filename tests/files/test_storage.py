"""Stored files: under the hash of their bytes, whole or not at all, and checked."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mnesis.errors import DamagedFileError, FileError, FileNotStoredError
from mnesis.files import FileStorage
from mnesis.system.unfinished_files import LEFTOVER_SECONDS, unfinished_path

ROOT = Path(__file__).parents[2]


@pytest.fixture
def storage(tmp_path: Path) -> FileStorage:
    return FileStorage(tmp_path / "kept")


def contents(storage: FileStorage) -> list[Path]:
    """Every file that has an id."""
    return [path for path in storage.directory.glob("??/*") if not path.suffix]


def test_the_same_bytes_are_kept_once(storage: FileStorage) -> None:
    ids = {storage.add(b"the same").content_id for _ in range(3)}
    assert len(ids) == 1
    assert len(contents(storage)) == 1


def test_only_the_user_may_look_in(tmp_path: Path) -> None:
    storage = FileStorage(tmp_path / "not" / "there" / "kept")
    before = os.umask(0)
    try:
        stored = storage.add(b"secret")
    finally:
        os.umask(before)
    for path in [tmp_path / "not", *(tmp_path / "not").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert stored.path.parent.name == stored.content_id[:2]


@pytest.mark.parametrize("damage", [b"", b"sh0rt", b"xxxx long enough", b"far too long " * 9])
def test_a_damaged_file_is_never_read_as_if_it_were_whole(storage: FileStorage, damage: bytes) -> None:
    stored = storage.add(b"sixteen bytes ..")
    stored.path.write_bytes(damage)
    for read in (storage.read, storage.find_verified):
        with pytest.raises(DamagedFileError, match=stored.content_id) as caught:
            read(stored.content_id)
        assert caught.value.path == str(stored.path)
    if len(damage) != stored.size_bytes:
        with pytest.raises(DamagedFileError, match="instead of 16"):
            storage.find(stored.content_id)
    assert [finding.ids for finding in storage.check([stored.content_id])] == [(stored.content_id,)]
    assert storage.add(b"sixteen bytes ..") == stored
    assert storage.check([stored.content_id]) == []
    assert storage.read(stored.content_id) == b"sixteen bytes .."


def test_without_its_noted_size_a_file_is_checked_whole(storage: FileStorage) -> None:
    stored = storage.add(b"content")
    stored.path.with_name(f"{stored.content_id}.size").write_bytes(b"?")
    assert storage.find(stored.content_id) == stored
    stored.path.write_bytes(b"c0ntent")
    with pytest.raises(DamagedFileError):
        storage.find(stored.content_id)


@pytest.mark.parametrize("content_id", ["", "ab", "../../etc/passwd", "A" * 64, "g" * 64, "ab" * 32, "0" * 63 + "\n"])
def test_what_is_not_stored_is_named_with_its_place(storage: FileStorage, content_id: str) -> None:
    with pytest.raises(FileNotStoredError, match="not found") as caught:
        storage.find(content_id)
    assert str(storage.directory) in str(caught.value)
    assert caught.value.id == content_id


def test_removing_leaves_nothing_of_a_file_and_nothing_else_goes(storage: FileStorage) -> None:
    first, second = storage.add(b"first"), storage.add(b"second")
    assert storage.remove(first.content_id) >= 5
    assert storage.remove(first.content_id) == 0
    assert contents(storage) == [second.path]


def test_what_cannot_be_deleted_is_a_file_error(storage: FileStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, **_: bool) -> None:
        raise OSError(5, "Input/output error")

    stored = storage.add(b"content")
    monkeypatch.setattr(Path, "unlink", fail)
    with pytest.raises(FileError, match=r"cannot be deleted.*Input/output error"):
        storage.remove(stored.content_id)
    assert storage.read(stored.content_id) == b"content"


def test_what_cannot_be_written_is_a_file_error_that_leaves_nothing(
    storage: FileStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    storage.add(b"there before")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match=r"'big\.csv' cannot be stored.*No space left") as caught:
        storage.add(b"more", "big.csv")
    assert caught.value.path == "big.csv"
    assert len(contents(storage)) == 1
    assert list((storage.directory / "incoming").iterdir()) == []


def test_a_storage_place_that_is_no_directory_is_a_file_error(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("in the way")
    with pytest.raises(FileError, match="storage_dir"):
        FileStorage(tmp_path / "kept").add(b"content")


def test_long_stretches_of_zeros_take_no_space(storage: FileStorage, tmp_path: Path) -> None:
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.write(b"begin")
        file.truncate(50 << 20)
    stored = storage.add_file(str(sparse))
    assert stored.size_bytes == stored.path.stat().st_size == 50 << 20
    assert storage.check([stored.content_id]) == []
    assert stored.path.stat().st_blocks * 512 < 5_000_000


STORE_FOREVER = """
import os, sys
from mnesis.files import FileStorage
storage = FileStorage(sys.argv[1])
print("ready", flush=True)
while True:
    storage.add_file(sys.argv[2])
    storage.remove(storage.add(os.urandom(200_000)).content_id)
    storage.add(os.urandom(400_000))
"""


def test_a_process_killed_while_storing_leaves_no_half_file_under_an_id(tmp_path: Path) -> None:
    source, directory = tmp_path / "source", tmp_path / "kept"
    source.write_bytes(os.urandom(8_000_000))
    for number in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", STORE_FOREVER, str(directory), str(source)], stdout=subprocess.PIPE, cwd=ROOT
        ) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(0.02 + 0.037 * number)
            child.kill()
    storage = FileStorage(directory)
    for path in contents(storage):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    assert storage.check([path.name for path in contents(storage)]) == []


def test_only_unfinished_files_of_dead_processes_are_removed(storage: FileStorage) -> None:
    storage.add(b"first")
    old, new = (unfinished_path(storage.directory / "incoming" / name) for name in ("old", "new"))
    old.write_bytes(b"half")
    new.write_bytes(b"half")
    long_ago = time.time() - LEFTOVER_SECONDS - 60
    os.utime(old, (long_ago, long_ago))
    storage.add(b"second")
    assert not old.exists()
    assert new.exists()
