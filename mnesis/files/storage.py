"""Stored files: kept once under the SHA-256 of their bytes, private to their user, checked when they are read.

    storage_dir/incoming/…          being written; nothing here has an id yet
    storage_dir/ab/ab12….           the bytes
    storage_dir/ab/ab12….size       how many there are
    storage_dir/ab/ab12….<key>.json what is known of them (`mnesis.files.summary_cache`)

A file gets its id when it is complete and on the disk, by one rename, so several processes may store at once and a
process that dies leaves nothing under an id that is not whole. Everything here blocks; call it off the event loop.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mnesis.config import FileConfig
from mnesis.errors import DamagedFileError, FileError, FileNotStoredError
from mnesis.files.source_file import CHUNK_BYTES, chunks_of, until_stable
from mnesis.models.finding import Finding

_ID = re.compile(r"[0-9a-f]{64}")
_ZEROS = bytes(CHUNK_BYTES)
LEFTOVER_SECONDS = 24 * 3600.0
"""An unfinished file of this age is nobody's any more: its process died."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A complete file: its id, its size in bytes, where it is."""

    content_id: str
    size_bytes: int
    path: Path


class FileStorage:
    """The files under one directory, which is made at the first file. Cheap to make; any number may use one directory."""

    def __init__(self, directory: Path | str, *, max_file_bytes: int | None = None) -> None:
        self.directory = Path(directory).expanduser()
        self.max_file_bytes = FileConfig().max_file_bytes if max_file_bytes is None else max_file_bytes

    def add(self, content: bytes, name: str = "content") -> StoredFile:
        """Store these bytes. Raises `FileError` if they cannot be written; `name` is for its message."""
        return self.add_pieces([content], name)

    def add_file(self, path: str) -> StoredFile:
        """Store a copy of a file, in bounded memory. Raises a `FileError`; then nothing was stored."""
        return until_stable(lambda: self.add_pieces(chunks_of(path, self.max_file_bytes), path))

    def add_pieces(self, pieces: Iterable[bytes], name: str) -> StoredFile:
        """Store content that comes in pieces. Raises as `add`, and what `pieces` raises; then nothing was stored."""
        try:
            with self._incoming() as (file, temporary):
                content_id, size = _copied(pieces, file)
                return self._settled(temporary, content_id, size)
        except FileError:
            raise
        except OSError as error:
            raise FileError(
                f"{name!r} cannot be stored in {str(self.directory)!r}: {error.strerror or error}; nothing was stored."
                " Free space, or set FileConfig.storage_dir to a directory that can be written",
                path=name,
            ) from error

    def find(self, content_id: str) -> StoredFile:
        """A stored file whose size is right. Raises `FileNotStoredError`, `DamagedFileError`."""
        path = self.path_of(content_id)
        try:
            size = path.stat().st_size
        except OSError as error:
            raise self._not_stored(content_id) from error
        expected = self._expected_size(path)
        if expected is None:
            self._check_bytes(content_id, path)
        elif expected != size:
            raise _damaged(content_id, path, f"it has {size:,} bytes instead of {expected:,}")
        return StoredFile(content_id, size, path)

    def verified(self, content_id: str) -> StoredFile:
        """A stored file, read whole and found to be what was stored. Raises as `find`."""
        stored = self.find(content_id)
        self._check_bytes(content_id, stored.path)
        return stored

    def read(self, content_id: str) -> bytes:
        """All bytes, which are what was stored. Raises as `find`."""
        content = self.find(content_id).path.read_bytes()
        if hashlib.sha256(content).hexdigest() != content_id:
            raise _damaged(content_id, self.path_of(content_id), "its bytes no longer give its id")
        return content

    def path_of(self, content_id: str) -> Path:
        """Where a file of this id is, if it is stored. Raises `FileNotStoredError` for what is no id."""
        if not isinstance(content_id, str) or not _ID.fullmatch(content_id):
            raise self._not_stored(str(content_id)[:80])
        return self.directory / content_id[:2] / content_id

    def check(self, content_ids: Iterable[str]) -> list[Finding]:
        """Read these files whole and say which are missing or damaged; empty if none is."""
        found = []
        for content_id in content_ids:
            try:
                self.verified(content_id)
            except (FileNotStoredError, DamagedFileError, OSError) as error:
                fix = "put the file back from a backup, or take it in again from where it came"
                found.append(Finding("error", "files", str(error), fix, (content_id,)))
        return found

    def remove(self, content_id: str) -> int:
        """Erase a file and what is known of it; the bytes that were freed. Quiet if it is not there. For purging."""
        path, freed = self.path_of(content_id), 0
        for each in [*path.parent.glob(f"{content_id}.*"), path]:
            with suppress(FileNotFoundError):
                freed += each.stat().st_size
                each.unlink()
        return freed

    def write_private(self, path: Path, content: bytes) -> None:
        """Put a small file of our own in place, at once or not at all."""
        with self._incoming() as (file, temporary):
            file.write(content)
            file.flush()
            os.replace(temporary, path)

    def _settled(self, temporary: Path, content_id: str, size: int) -> StoredFile:
        """Give a complete file its id. One that is there is replaced by the same bytes: if it was damaged, it is not now."""
        path = self.path_of(content_id)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        if self._expected_size(path) != size:
            self.write_private(path.with_name(f"{content_id}.size"), str(size).encode())
        os.replace(temporary, path)
        _sync_directory(path.parent)
        return StoredFile(content_id, size, path)

    @contextmanager
    def _incoming(self) -> Iterator[tuple[BinaryIO, Path]]:
        """A new private file, and its passing name; it is gone afterwards unless it was moved."""
        incoming = self.directory / "incoming"
        _make_private_directory(incoming)
        _remove_leftovers(incoming)
        descriptor, name = tempfile.mkstemp(dir=incoming)
        try:
            with open(descriptor, "wb") as file:
                yield file, Path(name)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(name)

    @staticmethod
    def _expected_size(path: Path) -> int | None:
        try:
            noted = path.with_name(f"{path.name}.size").read_bytes()
        except OSError:
            return None
        return int(noted) if noted.isdigit() and len(noted) < 20 else None

    @staticmethod
    def _check_bytes(content_id: str, path: Path) -> None:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != content_id:
                raise _damaged(content_id, path, "its bytes no longer give its id")

    def _not_stored(self, content_id: str) -> FileNotStoredError:
        return FileNotStoredError(content_id, where=str(self.directory / content_id[:2] / content_id))


def _copied(chunks: Iterable[bytes], file: BinaryIO) -> tuple[str, int]:
    """Write everything, onto the disk; its hash and size. Stretches of zeros become holes, which take no space."""
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
        if chunk == _ZEROS:
            file.seek(CHUNK_BYTES, os.SEEK_CUR)
        else:
            file.write(chunk)
    file.truncate(size)
    file.flush()
    os.fsync(file.fileno())
    return digest.hexdigest(), size


def _make_private_directory(directory: Path) -> None:
    """Whatever is missing of the path is made for its user alone; what is there stays as it is."""
    if not directory.is_dir():
        _make_private_directory(directory.parent)
        directory.mkdir(mode=0o700, exist_ok=True)


def _sync_directory(directory: Path) -> None:
    """A new name is on the disk once its directory is; where directories cannot be opened, the system sees to it."""
    with suppress(PermissionError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_leftovers(incoming: Path) -> None:
    with os.scandir(incoming) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                if entry.stat().st_mtime < time.time() - LEFTOVER_SECONDS:
                    os.unlink(entry.path)


def _damaged(content_id: str, path: Path, what: str) -> DamagedFileError:
    return DamagedFileError(
        f"the stored file {content_id} at {str(path)!r} is damaged: {what}; take the file in again, which repairs it",
        path=path,
    )
