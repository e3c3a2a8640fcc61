"""Files that cannot be taken in: refused by name, quickly, in bounded memory, with nothing left behind."""

from __future__ import annotations

import asyncio
import importlib
import os
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mnesis import FileConfig
from mnesis.errors import ChangedFileError, FileError, MissingFileError, UnsuitableFileError
from mnesis.files import LargeFileHandler, source_file
from mnesis.files.source_file import read_chunks

ROOT = Path(__file__).parents[2]
SECONDS = 20.0


@pytest.fixture
def handler(tmp_path: Path) -> LargeFileHandler:
    return LargeFileHandler(config=FileConfig(inline_threshold=100, storage_dir=tmp_path / "kept"))


def a_loop(where: Path) -> Path:
    (where / "one").symlink_to(where / "two")
    (where / "two").symlink_to(where / "one")
    return where / "one"


def a_pipe(where: Path) -> Path:
    os.mkfifo(where / "pipe")
    return where / "pipe"


def a_link_to_a_pipe(where: Path) -> Path:
    (where / "link").symlink_to(a_pipe(where))
    return where / "link"


def a_socket(where: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.open(".", os.O_RDONLY)
        os.chdir(where)  # the whole path may be too long for a socket
        try:
            listening.bind("socket")
        finally:
            os.fchdir(here)
            os.close(here)
    return where / "socket"


def unreadable(where: Path) -> Path:
    path = where / "unreadable"
    path.write_text("secret")
    path.chmod(0)
    return path


def too_large(where: Path) -> Path:
    with (where / "sparse").open("wb") as file:
        file.truncate(1_000_000_000_000)
    return where / "sparse"


def file_as_directory(where: Path) -> Path:
    (where / "file").write_text("x")
    return where / "file" / "inside"


BAD: dict[str, tuple[Callable[[Path], Path | str], type[FileError], str]] = {
    "missing": (lambda where: where / "nowhere.csv", MissingFileError, "no file"),
    "a dangling link": (lambda where: dangling(where), MissingFileError, "no file"),
    "below a file": (file_as_directory, MissingFileError, "no file"),
    "a directory": (lambda where: where, UnsuitableFileError, "a directory"),
    "/dev/zero": (lambda where: "/dev/zero", UnsuitableFileError, "a device"),
    "a pipe": (a_pipe, UnsuitableFileError, "a named pipe"),
    "a link to a pipe": (a_link_to_a_pipe, UnsuitableFileError, "a named pipe"),
    "a socket": (a_socket, UnsuitableFileError, "a socket"),
    "links in a circle": (a_loop, UnsuitableFileError, "cannot be read"),
    "a NUL in its name": (lambda where: f"{where}/a\0b", UnsuitableFileError, "null"),
    "a name too long": (lambda where: where / ("n" * 4_000), UnsuitableFileError, "too long"),
    "no name": (lambda where: "", UnsuitableFileError, "not a path"),
    "a terabyte": (too_large, UnsuitableFileError, "1,000,000,000,000 bytes"),
    "endless proc file": (lambda where: "/proc/self/maps", ChangedFileError, "changed"),
}


def dangling(where: Path) -> Path:
    (where / "link").symlink_to(where / "gone")
    return where / "link"


@pytest.mark.parametrize("kind", BAD)
async def test_an_unsuitable_file_is_refused_by_name_and_nothing_is_stored(
    kind: str, tmp_path: Path, handler: LargeFileHandler
) -> None:
    make, expected, words = BAD[kind]
    path = make(tmp_path)
    async with asyncio.timeout(SECONDS):
        with pytest.raises(expected, match=words) as caught:
            await handler.handle_file(path)
    assert caught.value.path == str(path)
    assert isinstance(caught.value, OSError)
    assert not list(handler.storage.directory.rglob("*.size"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_a_file_without_permission_is_refused(tmp_path: Path, handler: LargeFileHandler) -> None:
    with pytest.raises(UnsuitableFileError, match="Permission denied"):
        await handler.handle_file(unreadable(tmp_path))


@pytest.mark.parametrize("name", ["two\nlines.txt", "a]b [File x: id y].txt", " ", "ünïcödé-𝄞.md", "x" * 200])
async def test_any_other_name_is_taken_and_stays_on_one_line_for_the_model(
    name: str, tmp_path: Path, handler: LargeFileHandler
) -> None:
    from mnesis.formats.text import file_reference

    (tmp_path / name).write_text("many words in here " * 500)
    result = await handler.handle_file(tmp_path / name)
    assert result.file_ref is not None
    assert result.file_ref.path == str(tmp_path / name)
    first_line = file_reference(result.file_ref).split("\n")[0]
    assert result.file_ref.content_id in first_line


async def test_a_link_to_a_regular_file_is_followed(tmp_path: Path, handler: LargeFileHandler) -> None:
    (tmp_path / "real").write_text("content")
    (tmp_path / "link").symlink_to("real")
    assert (await handler.handle_file(tmp_path / "link")).inline_content == "content"


def rewriting(path: Path, times: int) -> Callable[..., Iterator[bytes]]:
    """Reading that finds the file changed under it, so many times."""
    left = [times]

    def read(where: str, *limits: Any) -> Iterator[bytes]:
        reading = read_chunks(where, *limits)
        yield next(reading)
        if left[0] > 0:
            left[0] -= 1
            path.write_bytes(path.read_bytes() + b"one more line\n")
        yield from reading

    return read


@pytest.mark.parametrize("size", [10, 500_000])
async def test_a_file_that_keeps_changing_is_refused(
    size: int, tmp_path: Path, handler: LargeFileHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "growing.log"
    path.write_bytes(b"x" * size)
    for module in ("mnesis.files.storage", "mnesis.files.handler"):
        monkeypatch.setattr(f"{module}.read_chunks", rewriting(path, source_file.MAX_ATTEMPTS - 1))
    result = await handler.handle_file(path)
    taken = result.inline_content.encode() if result.is_inline else handler.storage.read(result.file_ref.content_id)  # type: ignore[union-attr]
    assert taken == path.read_bytes()
    before = len(list(handler.storage.directory.rglob("*.size")))
    for module in ("mnesis.files.storage", "mnesis.files.handler"):
        monkeypatch.setattr(f"{module}.read_chunks", rewriting(path, source_file.MAX_ATTEMPTS))
    with pytest.raises(ChangedFileError, match=r"growing\.log"):
        await handler.handle_file(path)
    assert len(list(handler.storage.directory.rglob("*.size"))) == before
    assert not handler.storage.directory.exists() or not list((handler.storage.directory / "incoming").iterdir())


@pytest.mark.parametrize("change", ["truncated", "same size"])
def test_a_file_that_changes_while_it_is_read_is_noticed(change: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a" * 3_000_000)
    os.utime(path, (1, 1))
    reading = read_chunks(str(path), 10**9)
    next(reading)
    with path.open("r+b") as file:
        if change == "truncated":
            file.truncate(100)
        else:
            file.write(b"b")
    with pytest.raises(ChangedFileError):
        list(reading)


def test_a_file_removed_while_it_is_read_is_still_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a" * 3_000_000)
    reading = read_chunks(str(path), 10**9)
    first = next(reading)
    path.unlink()
    assert len(first) + sum(map(len, reading)) == 3_000_000


def test_a_file_that_grows_without_end_is_not_read_without_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a" * 1_000)
    read: list[int] = []

    def growing() -> None:
        for chunk in read_chunks(str(path), 10**9):
            read.append(len(chunk))
            with path.open("ab") as file:
                file.write(b"b" * 100_000)

    with pytest.raises(ChangedFileError):
        growing()
    assert sum(read) <= 1_001


HANDLE = """
import asyncio, resource, sys, json
from mnesis import FileConfig
from mnesis.files import LargeFileHandler
from mnesis.files.grep import search_file
from mnesis.files.paging import read_page
async def main():
    handler = LargeFileHandler(config=FileConfig(storage_dir=sys.argv[1]))
    await handler.handle_file("warm.txt", content="warm " * 20_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ref = (await handler.handle_file(sys.argv[2])).file_ref
    stored = handler.storage.find(ref.content_id)
    end = read_page(stored, offset=stored.size_bytes - 10)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps([stored.size_bytes, ref.token_count, (after - before) // 1024, end.next_cursor, ref.file_type]))
asyncio.run(main())
"""


def handled_in_a_child(storage: Path, path: Path) -> list[object]:
    import json

    done = subprocess.run(
        [sys.executable, "-c", HANDLE, str(storage), str(path)], capture_output=True, text=True, cwd=ROOT, timeout=100
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    return list(json.loads(done.stdout))


def test_a_huge_file_is_imported_within_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "huge.bin"
    with path.open("wb") as file:
        file.write(b"\x7fELF" + os.urandom(1_000_000))
        file.truncate(5_000_000_000 if os.environ.get("MNESIS_LARGE_TESTS") else 300_000_000)
    size, _, grown_mb, cursor, _ = handled_in_a_child(tmp_path / "kept", path)
    assert size == path.stat().st_size
    assert int(str(grown_mb)) < 100
    assert cursor is None


def test_text_of_one_endless_line_is_taken_in_within_bounds(tmp_path: Path) -> None:
    path = tmp_path / "line.txt"
    path.write_bytes(b"word " * 8_000_000)
    size, tokens, grown_mb, _, kind = handled_in_a_child(tmp_path / "kept", path)
    assert (size, kind) == (40_000_000, "text")
    assert 7_000_000 < int(str(tokens)) < 9_000_000
    assert int(str(grown_mb)) < 150


async def test_taking_in_a_file_leaves_the_event_loop_free(
    tmp_path: Path, handler: LargeFileHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.txt"
    path.write_bytes(b"some words in a line\n" * 400_000)
    seen: set[int] = set()
    for module, name in (("storage", "read_chunks"), ("summary_cache", "explore"), ("handler", "estimate_file_tokens")):
        function = getattr(importlib.import_module(f"mnesis.files.{module}"), name)

        def noted(*given: Any, function: Callable[..., Any] = function, **named: Any) -> Any:
            seen.add(threading.get_ident())
            return function(*given, **named)

        monkeypatch.setattr(f"mnesis.files.{module}.{name}", noted)
    await handler.handle_file(path)
    assert seen
    assert threading.get_ident() not in seen


def test_no_file_is_left_open_by_refusals(tmp_path: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(min(limit, 50)):
        with pytest.raises(UnsuitableFileError):
            list(read_chunks(str(tmp_path), 10))
        with pytest.raises(UnsuitableFileError):
            list(read_chunks("/etc/passwd", 1))
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before + 1
