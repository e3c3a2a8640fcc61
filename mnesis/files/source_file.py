"""Read a user's file in chunks: regular files only, with detection of changes during the read. Blocking; call it off
the event loop.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from mnesis.errors import ChangedFileError, FileError, MissingFileError, UnsuitableFileError
from mnesis.system.open_files import find_identity, open_descriptor, refuse_stored_file

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


def suitable_file_size(path: str, max_bytes: int, allowed_roots: Sequence[Path] | None = None) -> int:
    """Return the size in bytes of a suitable file. Raises a `FileError` if it is not suitable."""
    with _open_suitable_file(path, max_bytes, allowed_roots) as (_, status):
        return status.st_size


def read_chunks(path: str, max_bytes: int, allowed_roots: Sequence[Path] | None = None) -> Iterator[bytes]:
    """Yield a file in chunks of at most a megabyte.

    Raises `MissingFileError` if it does not exist. Raises `UnsuitableFileError` if it is not a readable regular file of at
    most `max_bytes`, if it belongs to a database that is open in this process, or if it is not below one of
    `allowed_roots` once all links are followed (None: it may be anywhere). Raises `ChangedFileError` after the last chunk
    if the file changed while it was read.
    """
    with _open_suitable_file(path, max_bytes, allowed_roots) as (descriptor, before):
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
def _open_suitable_file(
    path: str, max_bytes: int, allowed_roots: Sequence[Path] | None
) -> Iterator[tuple[int, os.stat_result]]:
    opened = ExitStack()
    with opened:
        try:
            # Opening a device may have effects, so check the path first.
            status = os.stat(path)
            _check_suitable(path, status, max_bytes)
            location = path if allowed_roots is None else _resolve_below(path, allowed_roots)
            refuse_stored_file(path, status)
            descriptor = opened.enter_context(open_descriptor(location, follow_symlinks=allowed_roots is None))
            status = os.fstat(descriptor)
            _check_suitable(path, status, max_bytes)
            if allowed_roots is not None and find_identity(_resolve_below(path, allowed_roots)) != (
                status.st_dev,
                status.st_ino,
            ):
                raise ChangedFileError(f"{path!r} was replaced while it was opened; nothing was read", path=path)
        except (OSError, ValueError) as error:
            raise file_error(path, error) from error
        yield descriptor, status


def _resolve_below(path: str, allowed_roots: Sequence[Path]) -> str:
    """Return the path without links. Raises `UnsuitableFileError` unless it is below one of the roots."""
    resolved = os.path.realpath(path)
    if any(Path(resolved).is_relative_to(os.path.realpath(root)) for root in allowed_roots):
        return resolved
    place = f"leads to {resolved!r}, which is" if resolved != os.path.abspath(path) else "is"
    roots = ", ".join(map(str, allowed_roots)) or "none"
    raise UnsuitableFileError(
        f"{path!r} {place} outside FileConfig.allowed_roots ({roots}); nothing was read. Copy the file there, or add its"
        " directory to that setting",
        path=path,
    )


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
