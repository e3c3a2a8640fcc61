"""Stored files: kept once under the SHA-256 of their bytes, private to their user, checked when read.

    storage_dir/incoming/…          files being written; they have no id yet
    storage_dir/databases/…         the paths of the databases that store files here
    storage_dir/ab/ab12…            the bytes
    storage_dir/ab/ab12….size       their number
    storage_dir/ab/ab12….<key>.json explorations of the content (`mnesis.files.summary_cache`)

With an encryption key, all of these are encrypted (`mnesis.files.cipher`), names are keyed hashes, the size needs no file,
and `storage_dir/salt` makes a passphrase yield different keys for different directories.

A file is renamed to its id once it is complete and synced to disk. Several processes may store at the same time, and a
process that dies leaves no incomplete file under an id. Everything here blocks; call it off the event loop.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from mnesis.config import FileConfig
from mnesis.encryption import SALT_BYTES, EncryptionKey
from mnesis.errors import DamagedFileError, FileError, FileNotStoredError
from mnesis.files.cipher import FileCipher, InvalidContentError, content_size
from mnesis.files.redact_chunks import redact_chunks
from mnesis.files.source_file import CHUNK_BYTES, read_chunks, retry_while_changing
from mnesis.models.finding import Finding
from mnesis.redaction import Redaction
from mnesis.system.open_files import open_file, register_file_directory
from mnesis.system.unfinished_files import remove_leftovers, unfinished_path

_ID = re.compile(r"[0-9a-f]{64}")
_ZEROS = bytes(CHUNK_BYTES)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A complete stored file: its id, its size in bytes, its path, and the cipher if it is encrypted."""

    content_id: str
    size_bytes: int
    path: Path
    cipher: FileCipher | None = None

    @property
    def plain_path(self) -> Path | None:
        """The path of a file with exactly this content, or None if it is encrypted."""
        return self.path if self.cipher is None else None

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open the content for reading. Raises `OSError`, and `DamagedFileError` where an encrypted file was changed."""
        with open_file(self.path) as file:
            if self.cipher is None:
                yield file
                return
            try:
                yield self.cipher.open(file, os.fstat(file.fileno()).st_size)
            except InvalidContentError as error:
                raise _damaged_error(self.content_id, self.path, str(error)) from None


class FileStorage:
    """The stored files in one directory, which is created with the first file. Any number of instances may share it."""

    def __init__(
        self,
        directory: Path | str,
        *,
        max_file_bytes: int | None = None,
        allowed_roots: Sequence[Path] | None = None,
        redaction: Redaction | None = None,
        read_key: Callable[[], EncryptionKey | None] | None = None,
    ) -> None:
        """`read_key` returns the key of encrypted files, such as `StoreConfig.read_encryption_key`. It is called once."""
        self.directory = Path(directory).expanduser()
        self.max_file_bytes = FileConfig().max_file_bytes if max_file_bytes is None else max_file_bytes
        self.allowed_roots = allowed_roots
        self.redaction = redaction
        self._read_key = read_key
        register_file_directory(self, self.directory)

    @property
    def address(self) -> str:
        """The location of the files, as text for users."""
        return str(self.directory)

    @cached_property
    def cipher(self) -> FileCipher | None:
        """The cipher of the files here, or None if they are not encrypted. Blocking at the first use.

        Raises `FileError` if the salt cannot be read or written.
        """
        key = self._read_key() if self._read_key is not None else None
        return None if key is None else FileCipher(key.derive(self._read_salt() if key.is_passphrase else b""))

    def _read_salt(self) -> bytes:
        """Return the salt of this directory, which the first caller creates."""
        path = self.directory / "salt"
        try:
            while True:
                with suppress(FileNotFoundError):
                    return bytes.fromhex(path.read_text("ascii"))
                with self._incoming_file() as (file, temporary), suppress(FileExistsError):
                    file.write(os.urandom(SALT_BYTES).hex().encode())
                    file.flush()
                    os.fsync(file.fileno())
                    os.link(temporary, path)
        except (OSError, ValueError) as error:
            raise FileError(
                f"{str(path)!r}, which the keys of the stored files depend on, cannot be used: {error}; restore it from a"
                " backup, or set FileConfig.storage_dir to another directory",
                path=path,
            ) from error

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
        name = hashlib.sha256(location.encode("utf-8", "surrogatepass")).hexdigest()
        return self.directory / "databases" / (self.cipher.name(name) if self.cipher is not None else name)[:16]

    def note_address(self, location: str) -> str:
        """Return the location of the note about a database, as text for users."""
        return str(self.database_note(location))

    def databases(self) -> list[str]:
        """Return the paths of the databases that store files here with the same key, or without one."""
        try:
            notes = list((self.directory / "databases").iterdir())
        except FileNotFoundError:
            return []
        locations = []
        for path in notes:
            with suppress(InvalidContentError):  # the note of a database with another key, which cannot name our files
                locations.append(os.fsdecode(self.read_private(path)))
        return sorted(location for location in locations if "\0" not in location)

    def add(self, content: bytes, name: str = "content") -> StoredFile:
        """Store bytes. Raises `FileError` if they cannot be written; `name` is used in the error message."""
        return self.add_chunks([content], name)

    def add_file(self, path: str) -> StoredFile:
        """Store a copy of a file, in bounded memory. If it raises a `FileError`, nothing was stored."""
        return retry_while_changing(
            lambda: self.add_chunks(read_chunks(path, self.max_file_bytes, self.allowed_roots), path)
        )

    def add_chunks(self, chunks: Iterable[bytes], name: str) -> StoredFile:
        """Store content from an iterable. Raises the errors of `add` and of the iterable; nothing is stored in that
        case.
        """
        try:
            with self._incoming_file() as (file, temporary):
                content = redact_chunks(chunks, self.redaction) if self.redaction else chunks
                content_id, size = _copy(content, file, self.cipher)
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
        if self.cipher is not None:
            return self._find_encrypted(content_id, path, size)
        stored = StoredFile(content_id, size, path)
        expected = self._expected_size(path)
        if expected is None:
            _check_bytes(stored)
        elif expected != size:
            raise _damaged_error(content_id, path, f"it has {size:,} bytes instead of {expected:,}")
        return stored

    def has(self, content_id: str) -> bool:
        """Return whether a file with this id is stored, without reading its content."""
        try:
            self.find(content_id)
        except (FileNotStoredError, DamagedFileError):
            return False
        return True

    def _verify(self, content_id: str, path: Path, address: str) -> StoredFile:
        """Return the content of a file that is not under its id, if it is intact. `address` names it in the error."""
        try:
            size = path.stat().st_size
            size = size if self.cipher is None else content_size(size)
            stored = StoredFile(content_id, size, path, self.cipher)
            _check_bytes(stored)
        except (InvalidContentError, DamagedFileError):
            raise _damaged_error(content_id, address, "its bytes no longer match its id") from None
        return stored

    def _find_encrypted(self, content_id: str, path: Path, encrypted_bytes: int) -> StoredFile:
        """Return an encrypted file whose end is authentic."""
        try:
            stored = StoredFile(content_id, content_size(encrypted_bytes), path, self.cipher)
        except InvalidContentError as error:
            raise _damaged_error(content_id, path, str(error)) from None
        with stored.open():
            return stored

    def find_verified(self, content_id: str) -> StoredFile:
        """Find a stored file and check all of its bytes against its hash. Raises like `find`."""
        stored = self.find(content_id)
        _check_bytes(stored)
        return stored

    def read(self, content_id: str) -> bytes:
        """Read all bytes of a stored file and check them against its hash. Raises like `find`."""
        with self.find(content_id).open() as file:
            content = file.read()
        if hashlib.sha256(content).hexdigest() != content_id:
            raise _damaged_error(content_id, self.path_of(content_id), "its bytes no longer match its id")
        return content

    def path_of(self, content_id: str) -> Path:
        """Return the path of a file with this id, stored or not. Raises `FileNotStoredError` for a malformed id."""
        if not isinstance(content_id, str) or not _ID.fullmatch(content_id):
            raise self._not_stored_error(str(content_id)[:80])
        name = content_id if self.cipher is None else self.cipher.name(content_id)
        return self.directory / name[:2] / name

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

    def discard_copy(self, content_id: str) -> None:
        """Delete the copy on this machine of a file in an object store. Does nothing in a directory storage, which has
        no other copy.
        """

    def remove(self, content_id: str) -> int:
        """Delete a file and its cached explorations, and return the bytes freed. Does nothing if it is not stored.

        Raises `FileError` if a file cannot be deleted.
        """
        path, freed_bytes = self.path_of(content_id), 0
        try:
            for each in [*path.parent.glob(f"{path.name}.*"), path]:
                with suppress(FileNotFoundError):
                    freed_bytes += each.stat().st_size
                    each.unlink()
        except OSError as error:
            raise FileError(
                f"the stored file {content_id} cannot be deleted from {str(self.directory)!r}: {error.strerror or error}; check"
                " the permissions of the directory and the disk, and try again",
                path=path,
            ) from error
        return freed_bytes

    def write_private(self, path: Path, content: bytes) -> None:
        """Write a small file atomically, readable by its user only, and encrypted if the files here are."""
        self.replace_file(path, content if self.cipher is None else self.cipher.seal(content))

    def replace_file(self, path: Path, content: bytes) -> None:
        """Write a small file atomically and unencrypted, readable by its user only."""
        with self._incoming_file() as (file, temporary):
            file.write(content)
            file.flush()
            os.replace(temporary, path)

    def read_private(self, path: Path) -> bytes:
        """Read a file that `write_private` wrote. Raises `OSError`, and `InvalidContentError` if it was changed."""
        with open_file(path) as file:
            content = file.read()
        return content if self.cipher is None else self.cipher.unseal(content)

    def _publish(self, temporary: Path, content_id: str, size: int) -> StoredFile:
        """Rename a complete file to its id. Replaces an existing copy, which repairs it if it was damaged."""
        path = self.path_of(content_id)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        if self.cipher is None and self._expected_size(path) != size:
            self.write_private(path.with_name(f"{content_id}.size"), str(size).encode())
        os.replace(temporary, path)
        _sync_directory(path.parent)
        return StoredFile(content_id, size, path, self.cipher)

    @contextmanager
    def _incoming_file(self) -> Iterator[tuple[BinaryIO, Path]]:
        """Open a new private file and yield it with its temporary path. It is deleted afterwards unless it was renamed."""
        incoming = self.directory / "incoming"
        _make_private_directory(incoming)
        remove_leftovers(incoming)
        name = os.fspath(unfinished_path(incoming / "file"))
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
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

    def _not_stored_error(self, content_id: str) -> FileNotStoredError:
        return FileNotStoredError(content_id, location=str(self.directory / content_id[:2] / content_id))


def _check_bytes(stored: StoredFile) -> None:
    """Raise `DamagedFileError` unless the content of a file matches its id."""
    digest = hashlib.sha256()
    with stored.open() as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    if digest.hexdigest() != stored.content_id:
        raise _damaged_error(stored.content_id, stored.path, "its bytes no longer match its id")


def _copy(chunks: Iterable[bytes], file: BinaryIO, cipher: FileCipher | None) -> tuple[str, int]:
    """Write and sync all chunks, encrypted if there is a cipher, and return the hash and size of the content.

    Chunks of zeros become holes, which take no space, unless they are encrypted.
    """
    digest, size = hashlib.sha256(), 0

    def measure() -> Iterator[bytes]:
        nonlocal size
        for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
            yield chunk

    for chunk in measure() if cipher is None else cipher.encrypt(measure()):
        if chunk == _ZEROS:
            file.seek(CHUNK_BYTES, os.SEEK_CUR)
        else:
            file.write(chunk)
    file.truncate(file.tell())
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


def _damaged_error(content_id: str, path: Path | str, what: str) -> DamagedFileError:
    return DamagedFileError(
        f"the stored file {content_id} at {str(path)!r} is damaged: {what}; add the file again to repair it",
        path=path,
    )
