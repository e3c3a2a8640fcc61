"""Stored files: kept once under the SHA-256 of their bytes, private to their user, checked when read.

    storage_dir/incoming/…          files being written; they have no id yet
    storage_dir/databases/…         the paths of the databases that store files here
    storage_dir/ab/ab12…            the bytes
    storage_dir/ab/ab12….size       their number
    storage_dir/ab/ab12….<key>.json explorations of the content (`mnesis.files.summary_cache`)

A file is renamed to its id once it is complete and synced to disk. Several processes may store at the same time, and a
process that dies leaves no incomplete file under an id. Everything here blocks; call it off the event loop.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mnesis.config import FileConfig
from mnesis.errors import DamagedFileError, FileError, FileNotStoredError
from mnesis.files.redact_chunks import redact_chunks
from mnesis.files.source_file import CHUNK_BYTES, read_chunks, retry_while_changing
from mnesis.models.finding import Finding
from mnesis.open_files import open_file, register_file_directory
from mnesis.redaction import Redaction

_ID = re.compile(r"[0-9a-f]{64}")
_ZEROS = bytes(CHUNK_BYTES)
LEFTOVER_SECONDS = 24 * 3600.0
"""Unfinished files of this age are deleted: their process has died."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A complete stored file: its id, its size in bytes, and its path."""

    content_id: str
    size_bytes: int
    path: Path


class FileStorage:
    """The stored files in one directory, which is created with the first file. Any number of instances may share it."""

    def __init__(
        self,
        directory: Path | str,
        *,
        max_file_bytes: int | None = None,
        allowed_roots: Sequence[Path] | None = None,
        redaction: Redaction | None = None,
    ) -> None:
        self.directory = Path(directory).expanduser()
        self.max_file_bytes = FileConfig().max_file_bytes if max_file_bytes is None else max_file_bytes
        self.allowed_roots = allowed_roots
        self.redaction = redaction
        register_file_directory(self, self.directory)

    def note_database(self, location: str) -> None:
        """Remember that a database refers to files here, so that purging another database keeps them."""
        path = self.database_note(location)
        if path.exists():
            return
        try:
            _make_private_directory(path.parent)
            self.write_private(path, os.fsencode(location))
        except OSError as error:
            raise FileError(
                f"the use of {str(self.directory)!r} by {location!r} cannot be noted: {error.strerror or error}. Free some"
                " space, or set FileConfig.storage_dir to a writable directory",
                path=path,
            ) from error

    def database_note(self, location: str) -> Path:
        """Return the path of the note about a database."""
        name = hashlib.sha256(location.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return self.directory / "databases" / name

    def databases(self) -> list[str]:
        """Return the paths of the databases that store files here."""
        try:
            return sorted(os.fsdecode(path.read_bytes()) for path in (self.directory / "databases").iterdir())
        except FileNotFoundError:
            return []

    def add(self, content: bytes, name: str = "content") -> StoredFile:
        """Store bytes. Raises `FileError` if they cannot be written; `name` is used in the error message."""
        return self.add_chunks([content], name)

    def add_file(self, path: str) -> StoredFile:
        """Store a copy of a file, in bounded memory. If it raises a `FileError`, nothing was stored."""
        return retry_while_changing(
            lambda: self.add_chunks(read_chunks(path, self.max_file_bytes, self.allowed_roots), path)
        )

    def add_chunks(self, chunks: Iterable[bytes], name: str) -> StoredFile:
        """Store content from an iterable. Raises like `add`, and what the iterable raises; nothing was stored then."""
        try:
            with self._incoming_file() as (file, temporary):
                content_id, size = _copy(redact_chunks(chunks, self.redaction) if self.redaction else chunks, file)
                return self._publish(temporary, content_id, size)
        except FileError:
            raise
        except OSError as error:
            raise FileError(
                f"{name!r} cannot be stored in {str(self.directory)!r}: {error.strerror or error}; nothing was stored."
                " Free some space, or set FileConfig.storage_dir to a writable directory",
                path=name,
            ) from error

    def find(self, content_id: str) -> StoredFile:
        """Find a stored file and check its size. Raises `FileNotStoredError` or `DamagedFileError`."""
        path = self.path_of(content_id)
        try:
            size = path.stat().st_size
        except OSError as error:
            raise self._not_stored_error(content_id) from error
        expected = self._expected_size(path)
        if expected is None:
            self._check_bytes(content_id, path)
        elif expected != size:
            raise _damaged_error(content_id, path, f"it has {size:,} bytes instead of {expected:,}")
        return StoredFile(content_id, size, path)

    def find_verified(self, content_id: str) -> StoredFile:
        """Find a stored file and check all of its bytes against its hash. Raises like `find`."""
        stored = self.find(content_id)
        self._check_bytes(content_id, stored.path)
        return stored

    def read(self, content_id: str) -> bytes:
        """Read all bytes of a stored file and check them against its hash. Raises like `find`."""
        with open_file(self.find(content_id).path) as file:
            content = file.read()
        if hashlib.sha256(content).hexdigest() != content_id:
            raise _damaged_error(content_id, self.path_of(content_id), "its bytes no longer match its id")
        return content

    def path_of(self, content_id: str) -> Path:
        """Return the path of a file with this id, stored or not. Raises `FileNotStoredError` for a malformed id."""
        if not isinstance(content_id, str) or not _ID.fullmatch(content_id):
            raise self._not_stored_error(str(content_id)[:80])
        return self.directory / content_id[:2] / content_id

    def check(self, content_ids: Iterable[str]) -> list[Finding]:
        """Check these files completely and return a finding for each that is missing or damaged."""
        findings = []
        for content_id in content_ids:
            try:
                self.find_verified(content_id)
            except (FileNotStoredError, DamagedFileError, OSError) as error:
                fix = "restore the file from a backup, or add it again from its source"
                findings.append(Finding("error", "files", str(error), fix, (content_id,)))
        return findings

    def remove(self, content_id: str) -> int:
        """Delete a file and its cached explorations, and return the bytes freed. Does nothing if it is not stored."""
        path, freed_bytes = self.path_of(content_id), 0
        for each in [*path.parent.glob(f"{content_id}.*"), path]:
            with suppress(FileNotFoundError):
                freed_bytes += each.stat().st_size
                each.unlink()
        return freed_bytes

    def write_private(self, path: Path, content: bytes) -> None:
        """Write a small file atomically, readable by its user only."""
        with self._incoming_file() as (file, temporary):
            file.write(content)
            file.flush()
            os.replace(temporary, path)

    def _publish(self, temporary: Path, content_id: str, size: int) -> StoredFile:
        """Rename a complete file to its id. Replaces an existing copy, which repairs it if it was damaged."""
        path = self.path_of(content_id)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        if self._expected_size(path) != size:
            self.write_private(path.with_name(f"{content_id}.size"), str(size).encode())
        os.replace(temporary, path)
        _sync_directory(path.parent)
        return StoredFile(content_id, size, path)

    @contextmanager
    def _incoming_file(self) -> Iterator[tuple[BinaryIO, Path]]:
        """Open a new private file and yield it with its temporary path. It is deleted afterwards unless it was renamed."""
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
            with open_file(path.with_name(f"{path.name}.size")) as file:
                recorded_size = file.read(20)
        except OSError:
            return None
        return int(recorded_size) if recorded_size.isdigit() and len(recorded_size) < 20 else None

    @staticmethod
    def _check_bytes(content_id: str, path: Path) -> None:
        with open_file(path) as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != content_id:
                raise _damaged_error(content_id, path, "its bytes no longer match its id")

    def _not_stored_error(self, content_id: str) -> FileNotStoredError:
        return FileNotStoredError(content_id, location=str(self.directory / content_id[:2] / content_id))


def _copy(chunks: Iterable[bytes], file: BinaryIO) -> tuple[str, int]:
    """Write and sync all chunks, and return their hash and size. Chunks of zeros become holes, which take no space."""
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
    """Create the missing directories of a path for its user only. Existing ones are not changed."""
    if not directory.is_dir():
        _make_private_directory(directory.parent)
        directory.mkdir(mode=0o700, exist_ok=True)


def _sync_directory(directory: Path) -> None:
    """Sync a directory, so that new names in it survive a crash. Skipped where directories cannot be opened."""
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


def _damaged_error(content_id: str, path: Path, what: str) -> DamagedFileError:
    return DamagedFileError(
        f"the stored file {content_id} at {str(path)!r} is damaged: {what}; add the file again to repair it",
        path=path,
    )
