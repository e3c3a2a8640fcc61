"""Stored files with a key: encrypted on disk, and read, searched and explored like any other."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import sys
import tarfile
import zipfile
from pathlib import Path

import pypdf
import pytest

from mnesis import MnesisSession
from mnesis.encryption import EncryptionKey
from mnesis.errors import ConfigurationError, DamagedFileError, FileError, FileNotStoredError
from mnesis.files.cipher import InvalidContentError
from mnesis.files.explorers import explore
from mnesis.files.handler import LargeFileHandler
from mnesis.files.storage import FileStorage
from mnesis.files.summary_cache import explore_cached
from mnesis.models.message import FilePart, TextPart
from tests.support.encrypted import KEY, OTHER_KEY, PASSPHRASE, encrypted_config, find_on_disk

CANARY = "Zirkuspferd"


def storage(directory: Path, key: str | bytes = KEY) -> FileStorage:
    return FileStorage(directory, read_key=lambda: EncryptionKey(key))


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{CANARY}.txt", "content")
    return file.getvalue()


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(f"{CANARY}.txt"), io.BytesIO())
    return file.getvalue()


def printed() -> bytes:
    file, writer = io.BytesIO(), pypdf.PdfWriter()
    writer.add_blank_page(100, 100)
    writer.add_metadata({"/Title": CANARY})
    writer.write(file)
    return file.getvalue()


def database(directory: Path) -> bytes:
    connection = sqlite3.connect(directory / "made.db")
    connection.executescript(
        f"PRAGMA journal_mode = WAL; CREATE TABLE {CANARY} (a, b); INSERT INTO {CANARY} VALUES (1, 2)"
    )
    connection.close()
    content = (directory / "made.db").read_bytes()
    (directory / "made.db").unlink()
    return content


def samples(directory: Path) -> dict[str, bytes]:
    return {
        "a.csv": b"name,size\n" + b"".join(b"%s,%d\n" % (CANARY.encode(), n) for n in range(9_000)),
        "a.json": json.dumps([{CANARY: n} for n in range(500)]).encode(),
        "a.py": f"class {CANARY}:\n    def run(self): ...\n".encode(),
        "a.java": f"class {CANARY} {{ void run() {{}} }}\n".encode(),
        "a.txt": f"{CANARY} \u6771\u4eac\n".encode("utf-16") * 3_000,
        "a.log": f"2026-01-01 INFO {CANARY}\n".encode() * 9_000,
        "a.zip": zipped(),
        "a.tar": tarred(),
        "a.pdf": printed(),
        "a.db": database(directory),
        "a.bin": os.urandom(3) + b"\0" + bytes(range(256)) * 300,
        "empty": b"",
    }


def test_every_kind_of_file_is_explored_as_if_it_were_not_encrypted(tmp_path: Path) -> None:
    kept = storage(tmp_path / "files")
    for name, content in samples(tmp_path).items():
        (tmp_path / "plain").write_bytes(content)
        stored = kept.add(content, name)
        assert stored.size_bytes == kept.find(stored.content_id).size_bytes == len(content)
        assert kept.read(stored.content_id) == content, name
        plain = explore(tmp_path / "plain", name, sha256=stored.content_id)
        assert explore(stored, name, sha256=stored.content_id) == plain, name
        explored = explore_cached(kept, stored, name)
        assert explore_cached(kept, stored, name) == explored  # from the cache
        assert "could not be read" not in plain.text, name
    (tmp_path / "plain").unlink()
    assert find_on_disk(tmp_path, CANARY) == []
    assert kept.check([kept.add(content).content_id for content in samples(tmp_path).values()]) == []


def test_names_tell_nothing_without_the_key(tmp_path: Path) -> None:
    kept = storage(tmp_path)
    content_id = kept.add(b"content").content_id
    kept.note_database("/home/ada/secret-project.db")
    explore_cached(kept, kept.find(content_id), "a.txt")
    assert find_on_disk(tmp_path, content_id, "secret-project") == []
    assert kept.databases() == ["/home/ada/secret-project.db"]
    assert not list(tmp_path.rglob("*.size"))
    assert {path.stat().st_mode & 0o077 for path in tmp_path.rglob("*")} == {0}


@pytest.mark.parametrize("key", [KEY, PASSPHRASE], ids=["raw", "passphrase"])
def test_another_process_finds_the_files_with_the_same_key_only(tmp_path: Path, key: str | bytes) -> None:
    content_id = storage(tmp_path, key).add(b"content").content_id
    assert storage(tmp_path, key).read(content_id) == b"content"
    for other in (storage(tmp_path, OTHER_KEY), FileStorage(tmp_path)):
        with pytest.raises(FileNotStoredError):
            other.find(content_id)
        assert other.databases() == []


def test_files_with_and_without_a_key_share_a_directory(tmp_path: Path) -> None:
    plain, kept = FileStorage(tmp_path), storage(tmp_path)
    content_id = plain.add(b"content").content_id
    assert kept.add(b"content").content_id == content_id
    assert plain.remove(content_id)
    assert kept.read(content_id) == b"content"
    assert kept.remove(content_id)
    with pytest.raises(FileNotStoredError):
        kept.find(content_id)


def test_a_changed_or_cut_file_is_damaged(tmp_path: Path) -> None:
    kept = storage(tmp_path)
    stored = kept.add(b"content" * 30_000)
    original = stored.path.read_bytes()
    for changed in (original[:-1], original[: len(original) // 2], b"", original + b"x", bytes(len(original))):
        stored.path.write_bytes(changed)
        with pytest.raises(DamagedFileError):
            kept.find(stored.content_id)
    middle = bytearray(original)
    middle[70_000] ^= 1
    stored.path.write_bytes(middle)
    with pytest.raises(DamagedFileError):
        kept.read(stored.content_id)
    assert [finding.severity for finding in kept.check([stored.content_id])] == ["error"]
    assert kept.add(b"content" * 30_000).content_id == stored.content_id  # which repairs it
    assert kept.check([stored.content_id]) == []


def test_a_file_under_the_name_of_another_is_damaged(tmp_path: Path) -> None:
    kept = storage(tmp_path)
    first, second = kept.add(b"one"), kept.add(b"two")
    first.path.write_bytes(second.path.read_bytes())
    with pytest.raises(DamagedFileError, match="no longer match"):
        kept.find_verified(first.content_id)


def test_a_salt_that_is_gone_or_damaged_is_reported(tmp_path: Path) -> None:
    storage(tmp_path, PASSPHRASE).add(b"content")
    (tmp_path / "salt").write_text("not hexadecimal")
    with pytest.raises(FileError, match="salt"):
        storage(tmp_path, PASSPHRASE).add(b"content")


def test_a_damaged_cached_summary_is_made_again(tmp_path: Path) -> None:
    kept = storage(tmp_path)
    stored = kept.add(b"content")
    explored = explore_cached(kept, stored, "a.txt")
    (entry,) = tmp_path.rglob("*.json")
    entry.write_bytes(b"x" * 100)
    with pytest.raises(InvalidContentError):
        kept.read_private(entry)
    assert explore_cached(kept, stored, "a.txt") == explored


async def test_a_session_reads_and_searches_its_encrypted_files(tmp_path: Path) -> None:
    log = "".join(f"line {n} {CANARY if n == 7_000 else ''}\n" for n in range(9_000))
    async with MnesisSession.open(
        model=None, session_id="s", db_path=tmp_path / "s.db", config=encrypted_config(tmp_path)
    ) as session:
        await session.record([TextPart(text="see"), FilePart(name="app.log", text=log)], "seen")
        (reference,) = [part for message in await session.messages() for part in message.file_refs]
        assert (await session.read_file(reference.content_id, line=7_001)).text.startswith(f"line 7000 {CANARY}")
        assert [match.line for match in (await session.search_file(reference.content_id, CANARY)).matches] == [7_001]
        assert await session.file_content(reference.content_id) == log.encode()
        with pytest.raises(ConfigurationError, match=r"file_content\(\)"):
            await session.file_path(reference.content_id)
    assert find_on_disk(tmp_path, CANARY) == []


async def test_content_of_plain_files_can_be_read_whole_too(tmp_path: Path) -> None:
    from mnesis import FileConfig, MnesisConfig

    config = MnesisConfig(file=FileConfig(storage_dir=tmp_path / "files", inline_threshold=100))
    async with MnesisSession.open(model=None, session_id="s", db_path=tmp_path / "s.db", config=config) as session:
        await session.record([FilePart(name="app.log", text="line\n" * 500)], "seen")
        (reference,) = [part for message in await session.messages() for part in message.file_refs]
        assert (
            await session.file_content(reference.content_id)
            == (await session.file_path(reference.content_id)).read_bytes()
        )


async def test_without_the_library_nothing_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    config = encrypted_config(tmp_path)
    handler = LargeFileHandler(config=config.file, read_key=config.store.read_encryption_key)
    with pytest.raises(ConfigurationError, match=r"mnesis-context\[encryption\]"):
        await handler.handle_file("a.txt", content=f"{CANARY}\n" * 900)
    assert find_on_disk(tmp_path, CANARY) == []
