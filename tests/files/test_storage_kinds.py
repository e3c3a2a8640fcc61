"""What every kind of storage promises: a directory, an object store, and a PostgreSQL database."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mnesis.config import FileConfig, StoreConfig
from mnesis.errors import FileNotStoredError
from mnesis.files import FileStorage
from mnesis.files.paging import read_page
from mnesis.redaction import Redaction
from mnesis.store.file_storage import open_file_storage
from tests.support.postgres import temporary_schema
from tests.support.samples import sampled

MIB = 1 << 20


@pytest.fixture(params=["directory", "objects", "database"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FileStorage]:
    where = tmp_path / "kept"
    if request.param == "directory":
        yield open_file_storage(FileConfig(storage_dir=where), StoreConfig(), "x.db")
    elif request.param == "objects":
        url = f"file://{tmp_path}/bucket"
        yield open_file_storage(FileConfig(storage_dir=where, storage_url=url), StoreConfig(), "x.db")
    else:
        with temporary_schema() as url:
            yield open_file_storage(FileConfig(storage_dir=where, storage_url="database"), StoreConfig(), url)


@settings(max_examples=sampled(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=4_000), cuts=st.lists(st.integers(0, 4_000), max_size=4))
def test_any_bytes_come_back_equal_under_their_hash_whole_and_in_ranges(
    storage: FileStorage, tmp_path: Path, content: bytes, cuts: list[int]
) -> None:
    (tmp_path / "source").write_bytes(content)
    stored = storage.add(content)
    assert stored == storage.add_file(str(tmp_path / "source")) == storage.find(stored.content_id)
    assert stored.content_id == hashlib.sha256(content).hexdigest()
    assert stored.size_bytes == len(content)
    assert storage.read(stored.content_id) == content
    for cut in cuts:
        if cut <= len(content):
            page = read_page(stored, offset=cut)
            raw = content[page.offset : page.end]
            assert page.offset <= cut
            assert page.is_binary or raw.decode("latin-1").count("\n") == page.text.count("\n") or b"\0" in raw


def test_pages_by_cursor_are_the_whole_file_without_gap_or_overlap(storage: FileStorage) -> None:
    text = "".join(f"line {number} – äöü 𝄞\n" for number in range(500)) + "x" * 900 + "no end of line"
    for encoded in (
        text.encode(),
        b"\xff\xfe" + text.encode("utf-16-le"),
        text.encode("utf-32"),
        b"\xef\xbb\xbf" + text.encode(),
    ):
        stored = storage.add(encoded)
        cursor, pieces, end = None, [], None
        while True:
            page = read_page(stored, cursor=cursor, max_chars=333)
            assert end in (None, page.offset)
            assert page.first_line == "".join(pieces).count("\n") + 1
            pieces.append(page.text)
            cursor, end = page.next_cursor, page.end
            if cursor is None:
                break
        assert "".join(pieces) == text
        assert end == len(encoded)
        assert read_page(stored, line=123, max_lines=1).text == "line 122 – äöü 𝄞\n"


def test_bytes_that_are_no_text_do_not_move_what_follows(storage: FileStorage) -> None:
    good = "ä" * 40_000
    content = good.encode() + b"\xe4\n" + b"tail\n"
    stored = storage.add(content)
    page = read_page(stored, offset=len(good.encode()), max_lines=1)
    assert (page.text, page.end) == ("\ufffd\n", len(content) - 5)
    assert read_page(stored, cursor=page.next_cursor).text == "tail\n"


def test_bytes_that_no_text_can_hold_are_told_apart(storage: FileStorage) -> None:
    assert storage.add(b"\xff" * 4_000).content_id != storage.add(b"\xfe" * 4_000).content_id


def test_threads_may_store_the_same_bytes_at_once(storage: FileStorage) -> None:
    failures: list[BaseException] = []
    content = os.urandom(300_000)

    def store() -> None:
        try:
            for _ in range(3):
                assert storage.read(storage.add(content).content_id) == content
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=store) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert storage.check([storage.add(content).content_id]) == []


@pytest.mark.parametrize("size_bytes", [0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB + 7])
def test_content_of_any_size_is_stored_whole(storage: FileStorage, size_bytes: int) -> None:
    content = os.urandom(size_bytes)
    content_id = hashlib.sha256(content).hexdigest()
    assert not storage.has(content_id)
    stored = storage.add(content)
    assert (stored.content_id, stored.size_bytes) == (content_id, size_bytes)
    assert storage.has(content_id)
    assert storage.check([content_id]) == []
    assert storage.find_verified(content_id).size_bytes == size_bytes
    assert storage.remove(content_id) >= size_bytes
    assert storage.remove(content_id) == 0
    assert not storage.has(content_id)
    with pytest.raises(FileNotStoredError, match=content_id):
        storage.read(content_id)
    assert [finding.ids for finding in storage.check([content_id])] == [(content_id,)]


def test_content_that_cannot_be_read_to_its_end_is_not_stored(storage: FileStorage) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"beginning"
        raise RuntimeError("the source is gone")

    with pytest.raises(RuntimeError, match="is gone"):
        storage.add_chunks(chunks(), "x")
    assert not storage.has(hashlib.sha256(b"beginning").hexdigest())


def test_secrets_are_replaced_before_content_is_stored(storage: FileStorage) -> None:
    storage.redaction = Redaction()
    secret = "sk-ant-api03-" + "A1b2C3d4" * 12
    stored = storage.add(f"key = {secret}\n".encode() * 3)
    assert secret.encode() not in storage.read(stored.content_id)
