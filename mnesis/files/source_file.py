"""Read a user's file in chunks: regular files only, detecting changes meanwhile. Blocking; call it off the event loop."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from mnesis.errors import ChangedFileError, FileError, MissingFileError, UnsuitableFileError

T = TypeVar("T")

CHUNK_BYTES = 1 << 20
MAX_ATTEMPTS = 3
_UNSUITABLE_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
# O_NONBLOCK: opening must not block if the file was replaced with a pipe or device after the check.
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def suitable_file_size(path: str, max_bytes: int) -> int:
    """Return the size in bytes of a suitable file. Raises a `FileError` if it is not suitable."""
    with _open_suitable_file(path, max_bytes) as (_, status):
        return status.st_size


def read_chunks(path: str, max_bytes: int) -> Iterator[bytes]:
    """Yield a file in chunks of at most a megabyte.

    Raises `MissingFileError` if it does not exist, and `UnsuitableFileError` if it is not a readable regular file of at
    most `max_bytes`. Raises `ChangedFileError` after the last chunk if the file changed while it was read.
    """
    with _open_suitable_file(path, max_bytes) as (descriptor, before):
        # Reading one extra byte detects growth, and ends the reading of a file that grows without end.
        remaining_bytes = before.st_size + 1
        while remaining_bytes > 0 and (chunk := _read_chunk(descriptor, min(CHUNK_BYTES, remaining_bytes), path)):
            remaining_bytes -= len(chunk)
            yield chunk
        after = os.fstat(descriptor)
    if remaining_bytes != 1 or (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise ChangedFileError(
            f"the file {path!r} changed while it was read ({before.st_size:,} bytes at first); nothing was stored."
            " Add it again when it no longer changes",
            path=path,
        )


def retry_while_changing(attempt: Callable[[], T]) -> T:
    """Call `attempt`, and retry a few times while it raises `ChangedFileError`. Raises the last such error."""
    for _ in range(MAX_ATTEMPTS - 1):
        try:
            return attempt()
        except ChangedFileError:
            continue
    return attempt()


@contextmanager
def _open_suitable_file(path: str, max_bytes: int) -> Iterator[tuple[int, os.stat_result]]:
    try:
        # Opening a device may have effects, so check the path first.
        _check_suitable(path, os.stat(path), max_bytes)
        descriptor = os.open(path, _OPEN_FLAGS)
    except (OSError, ValueError) as error:
        raise file_error(path, error) from error
    try:
        status = os.fstat(descriptor)
        _check_suitable(path, status, max_bytes)
        yield descriptor, status
    finally:
        os.close(descriptor)


def _check_suitable(path: str, status: os.stat_result, max_bytes: int) -> None:
    kind = next((name for is_kind, name in _UNSUITABLE_KINDS if is_kind(status.st_mode)), "")
    if kind:
        raise UnsuitableFileError(f"{path!r} is {kind}, not a regular file; nothing was read", path=path)
    if status.st_size > max_bytes:
        raise UnsuitableFileError(
            f"the file {path!r} has {status.st_size:,} bytes, more than the {max_bytes:,} of FileConfig.max_file_bytes;"
            " raise that limit, or add a part of the file",
            path=path,
        )


def _read_chunk(descriptor: int, length: int, path: str) -> bytes:
    try:
        return os.read(descriptor, length)
    except OSError as error:
        raise file_error(path, error) from error


def file_error(path: str, error: OSError | ValueError) -> FileError:
    """Return the error to raise for a file that cannot be opened or read."""
    if isinstance(error, FileError):
        return error
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return MissingFileError(f"there is no file {path!r}; check the path, or pass the content itself", path=path)
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return UnsuitableFileError(f"the file {path!r} cannot be read: {reason}", path=path)
