"""Reading a user's file: regular files only, in pieces, noticing when it changes meanwhile. Blocking; call it off the loop."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from mnesis.errors import ChangedFileError, FileError, MissingFileError, UnsuitableFileError

T = TypeVar("T")

CHUNK_BYTES = 1 << 20
ATTEMPTS = 3
_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
# A pipe or device that was put in the file's place after it was looked at must not hold up the opening.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def size_of(path: str, max_bytes: int) -> int:
    """Bytes of a file that can be taken in. Raises a `FileError` if it cannot."""
    with _opened(path, max_bytes) as (_, found):
        return found.st_size


def chunks_of(path: str, max_bytes: int) -> Iterator[bytes]:
    """The file in pieces of at most a megabyte.

    Raises `MissingFileError`, `UnsuitableFileError` (no regular file, not readable, more than `max_bytes`), and after the
    last piece `ChangedFileError` if the file is not what it was when it was opened.
    """
    with _opened(path, max_bytes) as (descriptor, before):
        # One byte more than there should be shows growth, and ends the reading of a file that grows without end.
        left = before.st_size + 1
        while left > 0 and (chunk := _read(descriptor, min(CHUNK_BYTES, left), path)):
            left -= len(chunk)
            yield chunk
        after = os.fstat(descriptor)
    if left != 1 or (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise ChangedFileError(
            f"the file {path!r} changed while it was read ({before.st_size:,} bytes at first); nothing was stored."
            " Take it in again once it rests",
            path=path,
        )


def until_stable(attempt: Callable[[], T]) -> T:
    """The outcome of `attempt`, made anew a few times while the file it reads changes. Raises `ChangedFileError`."""
    for _ in range(ATTEMPTS - 1):
        try:
            return attempt()
        except ChangedFileError:
            continue
    return attempt()


@contextmanager
def _opened(path: str, max_bytes: int) -> Iterator[tuple[int, os.stat_result]]:
    try:
        # Opening a device may already do something, so it is looked at first.
        _refuse_unsuitable(path, os.stat(path), max_bytes)
        descriptor = os.open(path, _FLAGS)
    except (OSError, ValueError) as error:
        raise refusal(path, error) from error
    try:
        found = os.fstat(descriptor)
        _refuse_unsuitable(path, found, max_bytes)
        yield descriptor, found
    finally:
        os.close(descriptor)


def _refuse_unsuitable(path: str, found: os.stat_result, max_bytes: int) -> None:
    kind = next((name for is_kind, name in _KINDS if is_kind(found.st_mode)), "")
    if kind:
        raise UnsuitableFileError(f"{path!r} is {kind}, no regular file; nothing was read", path=path)
    if found.st_size > max_bytes:
        raise UnsuitableFileError(
            f"the file {path!r} has {found.st_size:,} bytes, more than the {max_bytes:,} of FileConfig.max_file_bytes;"
            " raise that, or take in a part of it",
            path=path,
        )


def _read(descriptor: int, length: int, path: str) -> bytes:
    try:
        return os.read(descriptor, length)
    except OSError as error:
        raise refusal(path, error) from error


def refusal(path: str, error: OSError | ValueError) -> FileError:
    """What is raised for a file that cannot be opened or read."""
    if isinstance(error, FileError):
        return error
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return MissingFileError(f"there is no file {path!r}; check the name, or give the content itself", path=path)
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return UnsuitableFileError(f"the file {path!r} cannot be read: {reason}", path=path)
