"""Stored files in an object store, with verified copies in a local directory.

Reads use the copies, because explorers, pages and searches need a file. A copy is made when a file is stored or first
found on this machine, and is checked against the hash. The copy may be deleted at any time. Everything here blocks.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mnesis.config import FileConfig
from mnesis.encryption import SALT_BYTES, EncryptionKey
from mnesis.errors import DamagedFileError, FileError, FileNotStoredError
from mnesis.files.cipher import InvalidContentError
from mnesis.files.object_store import FsspecStore, ObjectStore
from mnesis.files.storage import FileStorage, StoredFile
from mnesis.models.finding import Finding
from mnesis.redaction import Redaction


def open_storage(
    config: FileConfig,
    *,
    redaction: Redaction | None = None,
    read_key: Callable[[], EncryptionKey | None] | None = None,
    objects: ObjectStore | None = None,
) -> FileStorage:
    """Return the storage of the settings: a directory, or an object store. Reads and writes nothing.

    `objects` is an object store that exists already, such as a database; it takes precedence over `storage_url`.
    """
    options: dict[str, Any] = {
        "max_file_bytes": config.max_file_bytes,
        "allowed_roots": config.allowed_roots,
        "redaction": redaction,
        "read_key": read_key,
    }
    if objects is not None:
        return ObjectStorage(config.storage_dir, objects, **options)
    if config.storage_url is None:
        return FileStorage(config.storage_dir, **options)
    return ObjectStorage(config.storage_dir, FsspecStore(config.storage_url), **options)


class ObjectStorage(FileStorage):
    """The stored files in an object store. Any number of machines may share it.

    All methods raise `FileError` if the object store does not answer.
    """

    def __init__(self, storage_dir: Path | str, objects: ObjectStore, **options: Any) -> None:
        """The copies are in a subdirectory of `storage_dir`, because a directory of stored files has no other
        copies.
        """
        url = objects.url
        copies = Path(storage_dir).expanduser() / "copies" / hashlib.sha256(url.encode()).hexdigest()[:16]
        super().__init__(copies, **options)
        self.url = url
        self.objects = objects

    @property
    def address(self) -> str:
        """The URL of the object store."""
        return self.url

    def find(self, content_id: str) -> StoredFile:
        """Find a stored file, and copy it to this machine if it is missing here. A copy of a file that was deleted is
        deleted, too.
        """
        path = self.path_of(content_id)
        size = self.objects.size_bytes(_object_name(path))
        if size is None:
            super().remove(content_id)
            raise self._not_stored_error(content_id)
        try:
            if path.stat().st_size == size:
                return super().find(content_id)
        except (FileNotFoundError, FileNotStoredError, DamagedFileError):
            pass  # the object may be intact
        return self._fetch(content_id)

    def has(self, content_id: str) -> bool:
        """Return whether a file with this id is stored, without copying it here."""
        return self.objects.size_bytes(_object_name(self.path_of(content_id))) is not None

    def find_verified(self, content_id: str) -> StoredFile:
        """Find a stored file and check all bytes of its copy against its hash. A damaged copy is replaced."""
        try:
            return super().find_verified(content_id)
        except DamagedFileError:
            return self._fetch(content_id)

    def read(self, content_id: str) -> bytes:
        """Read all bytes of a stored file and check them against its hash. A damaged copy is replaced."""
        try:
            return super().read(content_id)
        except DamagedFileError:
            self._fetch(content_id)
            return super().read(content_id)

    def check(self, content_ids: Iterable[str]) -> list[Finding]:
        """Check the objects, not the copies: each is read completely. Returns a finding for each missing or damaged one."""
        findings = []
        for content_id in content_ids:
            try:
                self._fetch(content_id)
            except (FileNotStoredError, DamagedFileError, OSError) as error:
                fix = "restore the file from a backup, or add it again from its source"
                findings.append(Finding("error", "files", str(error), fix, (content_id,)))
        return findings

    def remove(self, content_id: str) -> int:
        """Delete a file, its copy here and its cached explorations, and return the bytes freed in the object store.

        Copies on other machines are deleted when the file is next looked up there.
        """
        freed_bytes = self.objects.delete(_object_name(self.path_of(content_id)))
        super().remove(content_id)
        return freed_bytes

    def discard_copy(self, content_id: str) -> None:
        """Delete the copy on this machine."""
        super().remove(content_id)

    def note_database(self, location: str) -> None:
        """Remember that a database on this machine refers to files here."""
        path = self.database_note(location)
        content = os.fsencode(_with_machine(location))
        self.objects.create(f"databases/{path.name}", content if self.cipher is None else self.cipher.seal(content))

    def database_note(self, location: str) -> Path:
        """Return the path of the note about a database of this machine."""
        return super().database_note(_with_machine(location))

    def note_address(self, location: str) -> str:
        """Return the URL of the note about a database, as text for users."""
        return f"{self.url}/databases/{self.database_note(location).name}"

    def databases(self) -> list[str]:
        """Return the paths of the databases that store files here. Those on other machines begin with "MACHINE:"."""
        locations = []
        for name in self.objects.list_names("databases"):
            content = self.objects.read(f"databases/{name}")
            try:
                plain = content if content is None or self.cipher is None else self.cipher.unseal(content)
            except InvalidContentError:  # a note about a database with another key, which cannot refer to our files
                continue
            if plain is not None and b"\0" not in plain:
                locations.append(os.fsdecode(plain).removeprefix(f"{platform.node()}:"))
        return sorted(locations)

    def _publish(self, temporary: Path, content_id: str, size: int) -> StoredFile:
        """Upload a complete file, unless it is stored and this machine has a copy, which proves that it was intact."""
        path = self.path_of(content_id)
        if not path.exists() or self.objects.size_bytes(_object_name(path)) != temporary.stat().st_size:
            self.objects.put(_object_name(path), temporary)
        return super()._publish(temporary, content_id, size)

    def _fetch(self, content_id: str) -> StoredFile:
        """Copy a file from the object store and check it. Without an intact object, no copy remains."""
        path = self.path_of(content_id)
        name = _object_name(path)
        try:
            with self._incoming_file() as (_, temporary):
                if not self.objects.fetch(name, temporary):
                    raise self._not_stored_error(content_id)
                stored = self._verify(content_id, temporary, f"{self.url}/{name}")
                return super()._publish(temporary, content_id, stored.size_bytes)
        except (FileNotStoredError, DamagedFileError):
            super().remove(content_id)
            raise
        except FileError:
            raise
        except OSError as error:
            raise FileError(
                f"the stored file {content_id} cannot be copied to {str(self.directory)!r}: {error.strerror or error}. Free"
                " some space, or set FileConfig.storage_dir to a writable directory",
                path=path,
            ) from error

    def _read_salt(self) -> bytes:
        """Return the salt of this object store, which the first caller creates."""
        text = self.objects.read("salt")
        if text is None:
            self.objects.create("salt", os.urandom(SALT_BYTES).hex().encode())
            text = self.objects.read("salt")
        try:
            return bytes.fromhex((text or b"-").decode("ascii"))
        except ValueError:
            raise FileError(
                f"{self.url}/salt, which the keys of the stored files depend on, is damaged; restore it from a backup, or set"
                " FileConfig.storage_url to another URL",
                path=f"{self.url}/salt",
            ) from None

    def _not_stored_error(self, content_id: str) -> FileNotStoredError:
        return FileNotStoredError(content_id, location=self.url)


def _object_name(path: Path) -> str:
    return f"files/{path.name}"


def _with_machine(location: str) -> str:
    """Put the name of this machine before an absolute path, because another machine may have a different file at that
    path.
    """
    return f"{platform.node()}:{location}" if os.path.isabs(location) else location
