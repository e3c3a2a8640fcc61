"""Stored files in an object store are the same on every machine, and verified copies are what is read."""

from __future__ import annotations

import hashlib
import platform
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from mnesis import ConfigurationError, FileConfig
from mnesis.config import StoreConfig
from mnesis.database_url import DatabaseURL, is_database_url
from mnesis.errors import DamagedFileError, FileError, FileNotStoredError
from mnesis.files.copy_files import copy_files
from mnesis.files.object_storage import ObjectStorage, open_storage
from mnesis.files.object_store import FsspecStore, ObjectStore
from mnesis.files.paging import read_page
from mnesis.files.summary_cache import explore_cached
from mnesis.system.process_ids import process_id
from tests.support.postgres import connect, temporary_schema

CONTENT = b"".join(b"line %d\n" % n for n in range(20_000))
CONTENT_ID = hashlib.sha256(CONTENT).hexdigest()
KEYS = {"plain": None, "key": "ab" * 32, "passphrase": "correct horse battery staple"}


@pytest.fixture(params=["memory", "file", "database"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "file":
        yield f"file://{tmp_path}/bucket"
        return
    if request.param == "database":
        with temporary_schema() as url:
            yield DatabaseURL(url)
        return
    root = f"memory://{uuid.uuid4().hex}"
    yield root
    fs, path = fsspec.core.url_to_fs(root)
    if fs.exists(path):
        fs.rm(path, recursive=True)


def machine(where: Path, url: str, key: str | None = None) -> ObjectStorage:
    """The storage of one machine, which has its own directory for copies."""
    read_key = StoreConfig(encryption_key=key).read_encryption_key
    storage = open_storage(FileConfig(storage_dir=where), read_key=read_key, objects=object_store(url))
    assert isinstance(storage, ObjectStorage)
    return storage


def object_store(url: str) -> ObjectStore:
    if not is_database_url(url):
        return FsspecStore(url)
    from mnesis.store.postgres.file_objects import PostgresFileObjects

    return PostgresFileObjects(DatabaseURL(url), StoreConfig())


def objects_of(url: str) -> dict[str, bytes]:
    """All objects of the store with their bytes, by name."""
    if is_database_url(url):
        schema = DatabaseURL(url).schema
        with connect(url) as admin:
            rows = admin.execute(
                f"SELECT name, string_agg(content, ''::bytea ORDER BY position) FROM {schema}.file_objects"
                f" LEFT JOIN {schema}.file_chunks ON file_pk = pk GROUP BY name"
            )
            return {name: content or b"" for name, content in rows}
    fs, root = fsspec.core.url_to_fs(url)
    return {path[len(root) :].lstrip("/"): fs.cat_file(path) for path in fs.find(root)}


def overwrite_object(url: str, name: str, content: bytes) -> None:
    if is_database_url(url):
        schema = DatabaseURL(url).schema
        with connect(url) as admin:
            admin.execute(f"ALTER TABLE {schema}.file_chunks DISABLE TRIGGER USER")
            admin.execute(
                f"UPDATE {schema}.file_chunks SET content = %s FROM {schema}.file_objects WHERE file_pk = pk AND name = %s",
                (content, name),
            )
            admin.execute(f"ALTER TABLE {schema}.file_chunks ENABLE TRIGGER USER")
        return
    fs, root = fsspec.core.url_to_fs(url)
    fs.pipe_file(f"{root}/{name}", content)


def copies_below(where: Path) -> list[Path]:
    return [each for each in where.rglob("*") if each.is_file()]


def test_copying_files_leaves_no_copies_on_this_machine(url: str, tmp_path: Path) -> None:
    kept = machine(tmp_path / "author", url).add(CONTENT)
    other = machine(tmp_path / "author", url).add(b"another file")
    here = machine(tmp_path / "here", url)
    here.find(other.content_id)
    target = machine(tmp_path / "target", f"memory://{uuid.uuid4().hex}")
    assert copy_files(here, target, [kept.content_id, other.content_id, "f" * 64]).copied == 2
    assert [path.name for path in (tmp_path / "here").rglob("?" * 64)] == [other.content_id]
    assert list((tmp_path / "target").rglob("?" * 64)) == []
    assert target.read(kept.content_id) == CONTENT
    assert here.read(other.content_id) == b"another file"


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_another_machine_reads_what_one_stored(url: str, tmp_path: Path, key: str | None) -> None:
    added = machine(tmp_path / "a", url, key).add(CONTENT)
    assert (added.content_id, added.size_bytes) == (CONTENT_ID, len(CONTENT))
    other = machine(tmp_path / "b", url, key)
    stored = other.find(CONTENT_ID)
    assert stored.size_bytes == len(CONTENT)
    assert "line 5\n" in read_page(stored, line=5).text
    assert other.read(CONTENT_ID) == CONTENT
    assert "20,000" in explore_cached(other, stored, "x.txt").text
    assert other.check([CONTENT_ID]) == []
    on_disk = [*objects_of(url).values(), *(each.read_bytes() for each in copies_below(tmp_path))]
    assert any(b"line 19999" in each for each in on_disk) == (key is None)


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_a_damaged_or_deleted_copy_is_replaced(url: str, tmp_path: Path, key: str | None) -> None:
    storage = machine(tmp_path / "a", url, key)
    path = storage.add(CONTENT).path
    whole = path.read_bytes()
    for damaged in (b"", whole[:-1], bytes([whole[0] ^ 1]) + whole[1:]):
        path.write_bytes(damaged)
        assert storage.read(CONTENT_ID) == CONTENT
        path.write_bytes(damaged)
        assert storage.find_verified(CONTENT_ID).path.read_bytes() == whole
    path.unlink()
    assert storage.find(CONTENT_ID).path.read_bytes() == whole


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_a_damaged_object_is_found_and_repaired_by_adding_it(url: str, tmp_path: Path, key: str | None) -> None:
    storage = machine(tmp_path / "a", url, key)
    name = f"files/{storage.add(CONTENT).path.name}"
    whole = objects_of(url)[name]
    for damaged in (b"", whole[:-1], bytes([whole[0] ^ 1]) + whole[1:]):
        overwrite_object(url, name, damaged)
        with pytest.raises(DamagedFileError, match=CONTENT_ID):
            machine(tmp_path / f"b{len(damaged)}", url, key).find(CONTENT_ID)
        (finding,) = storage.check([CONTENT_ID])
        assert "damaged" in finding.detail
        assert url in finding.detail
        storage.add(CONTENT)
        assert storage.check([CONTENT_ID]) == []


def test_a_deleted_file_is_gone_on_every_machine(url: str, tmp_path: Path) -> None:
    first, second = machine(tmp_path / "a", url), machine(tmp_path / "b", url)
    explore_cached(first, first.add(CONTENT), "x.txt")
    explore_cached(second, second.find(CONTENT_ID), "x.txt")
    assert first.remove(CONTENT_ID) == len(CONTENT)
    assert first.remove(CONTENT_ID) == 0
    for storage in (first, second):
        with pytest.raises(FileNotStoredError):
            storage.find(CONTENT_ID)
    assert objects_of(url) == {}
    assert copies_below(tmp_path / "a") == copies_below(tmp_path / "b") == []
    (finding,) = second.check([CONTENT_ID])
    assert CONTENT_ID in finding.detail
    with pytest.raises(FileNotStoredError):
        first.find("../../etc/passwd")


def test_content_that_is_stored_is_not_uploaded_again(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = machine(tmp_path / "a", url)
    storage.add(CONTENT)
    monkeypatch.setattr(storage.objects, "put", lambda *args: pytest.fail("uploaded"))
    assert storage.add(CONTENT).content_id == CONTENT_ID


def test_a_killed_upload_leaves_only_what_the_next_one_deletes(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/bucket"
    script = (
        "import os, signal, sys\n"
        "from fsspec.implementations.local import LocalFileSystem\n"
        "from mnesis.files.object_storage import ObjectStorage\n"
        "from mnesis.files.object_store import FsspecStore\n"
        "def mv(*args, **options): os.kill(os.getpid(), signal.SIGKILL)\n"
        "LocalFileSystem.mv = mv\n"
        "ObjectStorage(sys.argv[1], FsspecStore(sys.argv[2])).add(b'x' * 1000)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "a"), url], check=False)
    assert done.returncode == -signal.SIGKILL
    (leftover,) = objects_of(url)
    assert leftover.startswith("incoming/")
    machine(tmp_path / "b", url).add(CONTENT)
    assert set(objects_of(url)) == {f"files/{CONTENT_ID}"}


def test_uploads_of_other_machines_stay_for_a_day(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/bucket"
    storage, live = machine(tmp_path / "a", url), process_id()
    storage.add(b"first")
    names = [f"9999999999.{live}.{'0' * 16}", f"1000000000.{'f' * 16}-1-1.{'0' * 16}", "notes.txt"]
    for name in names:
        FsspecStore(url).create(f"incoming/{name}", b"x")
    storage.add(CONTENT)
    assert FsspecStore(url).list_names("incoming") == sorted([names[0], names[2]])


def test_a_failed_upload_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"memory://{uuid.uuid4().hex}"

    def fail(*args: object, **options: object) -> None:
        raise RuntimeError("https://x?X-Amz-Signature=hunter2")

    monkeypatch.setattr(MemoryFileSystem, "mv", fail)
    with pytest.raises(FileError) as raised:
        machine(tmp_path / "a", url).add(CONTENT)
    assert "RuntimeError" in str(raised.value)
    assert url in str(raised.value)
    assert "hunter2" not in str(raised.value)
    assert raised.value.__suppress_context__
    assert objects_of(url) == {}
    assert copies_below(tmp_path) == []


def test_an_object_store_that_does_not_answer_raises_a_file_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = machine(tmp_path / "a", f"memory://{uuid.uuid4().hex}")

    def fail(*args: object, **options: object) -> None:
        raise PermissionError(13, "key hunter2 refused")

    for name in ("info", "ls", "cat_file", "pipe_file", "get_file"):
        monkeypatch.setattr(MemoryFileSystem, name, fail)
    calls = (
        lambda: storage.find(CONTENT_ID),
        lambda: storage.read(CONTENT_ID),
        lambda: storage.add(CONTENT),
        lambda: storage.remove(CONTENT_ID),
        lambda: storage.note_database("/x.db"),
        storage.databases,
    )
    for call in calls:
        with pytest.raises(FileError) as raised:
            call()
        assert "hunter2" not in str(raised.value)
        assert "PermissionError" in str(raised.value)
    (finding,) = storage.check([CONTENT_ID])
    assert "PermissionError" in finding.detail


def test_notes_name_the_machine_of_a_database(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = machine(tmp_path / "a", url)
    assert storage.databases() == []
    storage.note_database("/data/x.db")
    storage.note_database("/data/x.db")
    assert storage.databases() == ["/data/x.db"]
    node = platform.node()
    monkeypatch.setattr("platform.node", lambda: "another")
    assert storage.databases() == [f"{node}:/data/x.db"]
    assert storage.note_address(f"{node}:/data/x.db").removeprefix(f"{url}/") in objects_of(url)


@pytest.mark.parametrize(
    "bad", ["s3://key:hunter2@bucket/x", "s3://bucket/x?token=hunter2", "hunter2", "s3://", "s3://b/hunter2*", 7]
)
def test_an_unusable_url_is_refused_without_repeating_it(bad: object) -> None:
    with pytest.raises(ValueError, match="storage_url") as raised:
        FileConfig(storage_url=bad)  # type: ignore[arg-type]
    assert "hunter2" not in str(raised.value)


def test_a_missing_library_is_a_configuration_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="nosuch"):
        machine(tmp_path, "nosuch://bucket/x").find(CONTENT_ID)
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(ConfigurationError, match=r"pip install \"mnesis-context\[object-storage\]\""):
        machine(tmp_path, "memory://x").find(CONTENT_ID)


def test_a_directory_stays_the_default(tmp_path: Path) -> None:
    storage = open_storage(FileConfig(storage_dir=tmp_path))
    assert type(storage).__name__ == "FileStorage"
    assert storage.address == str(tmp_path)
