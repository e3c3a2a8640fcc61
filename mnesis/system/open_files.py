"""The files of databases that are open in this process, and a safe way to open any other file.

On POSIX systems, closing *any* descriptor of a file drops all locks that the process holds on it
(https://sqlite.org/howtocorrupt.html, section 2.2). SQLite's locks on an open database would vanish, and another process
could delete the write-ahead log under it. So the files of an open database are recognized by device and inode, whatever
name or link leads to them, and no other code opens them. Blocking; call it off the event loop.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader

from mnesis.errors import ConfigurationError, UnsuitableFileError

FileIdentity = tuple[int, int]
"""Device and inode number."""

_NAMES_BY_SUFFIX = {
    "": "the database {}",
    "-wal": "the write-ahead log of the database {}",
    "-shm": "the shared memory of the database {}",
    "-journal": "the rollback journal of the database {}",
}

# O_NONBLOCK, because opening must not block if the file was replaced with a pipe or device after a check.
_READ_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)

_lock = threading.RLock()  # reentrant, because a finalizer of a weak key may run while the lock is held


class _OpenDatabase:
    """The real path of an open database, and the identities that its files have had while it was open."""

    def __init__(self, path: str, is_encrypted: bool) -> None:
        self.path = os.path.realpath(path)
        self.is_encrypted = is_encrypted
        self._suffixes: dict[FileIdentity, str] = {}

    def note_identities(self) -> None:
        """Store the current identities of the files."""
        for suffix in ("", "-wal", "-shm"):
            identity = find_identity(self.path + suffix)
            if identity is not None:
                self._suffixes[identity] = suffix

    def suffix_of(self, identity: FileIdentity) -> str | None:
        """Describe one of the database's files; None for other files. A file that was renamed or unlinked while open
        still counts.
        """
        self.note_identities()
        if identity == find_identity(f"{self.path}-journal"):
            return "-journal"  # not stored, because it is deleted after each transaction, and another file may get its inode
        return self._suffixes.get(identity)


_databases: weakref.WeakKeyDictionary[object, _OpenDatabase] = weakref.WeakKeyDictionary()
_file_directories: weakref.WeakKeyDictionary[object, str] = weakref.WeakKeyDictionary()
_kept_descriptors: list[int] = []
"""Descriptors of files that became part of an open database while they were read. Closing them would drop its locks."""


def refuse_second_name(path: str | os.PathLike[str], *, is_encrypted: bool = False) -> None:
    """Raise `ConfigurationError` if a path must not be opened as a database, because another database has its file open.

    A hard link to an open database would get a second write-ahead log, and a `-wal` or `-shm` file is not a database.
    Encrypted databases are opened by another copy of SQLite, and two copies drop each other's locks
    (https://sqlite.org/howtocorrupt.html, section 2.2.1), so a file is open either with a key or without.
    """
    identity = find_identity(path)
    with _lock:
        databases = list(_databases.values())
    for database in databases:
        suffix = database.suffix_of(identity) if identity else None
        if suffix or (suffix == "" and database.path != os.path.realpath(path)):
            raise ConfigurationError(
                f"{os.fspath(path)!r} is {_NAMES_BY_SUFFIX[suffix].format(repr(database.path))}, which is open in this"
                " process; open the database by that path"
            )
        if suffix == "" and database.is_encrypted != is_encrypted:
            raise ConfigurationError(
                f"{os.fspath(path)!r} is open in this process {'with' if database.is_encrypted else 'without'} an encryption"
                f" key, and another connection requests it {'with' if is_encrypted else 'without'} one; use the same settings"
            )


def register_database(owner: object, path: str | os.PathLike[str], *, is_encrypted: bool = False) -> None:
    """Protect the files of a database while `owner` exists, or until `unregister_database(owner)`."""
    database = _OpenDatabase(os.fspath(path), is_encrypted)
    database.note_identities()
    with _lock:
        _databases[owner] = database


def unregister_database(owner: object) -> None:
    """Stop protecting the files of a database. Does nothing if `owner` registered none."""
    with _lock:
        _databases.pop(owner, None)


def register_file_directory(owner: object, path: str | os.PathLike[str]) -> None:
    """Protect a directory of stored files while `owner` exists. The directory may not exist yet."""
    with _lock:
        # An absolute path does not read the working directory, which would block an event loop.
        _file_directories[owner] = os.path.normpath(path) if os.path.isabs(path) else os.path.abspath(path)


def find_identity(path: str | os.PathLike[str]) -> FileIdentity | None:
    """Return device and inode of the file that a path leads to, or None if there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def describe_open_file(identity: FileIdentity) -> str | None:
    """Describe a file of an open database, such as "the write-ahead log of the database x.db"; None for other files."""
    with _lock:
        databases = list(_databases.values())
    for database in databases:
        suffix = database.suffix_of(identity)
        if suffix is not None:
            return _NAMES_BY_SUFFIX[suffix].format(repr(database.path))
    return None


def refuse_database_file(path: str | os.PathLike[str], identity: FileIdentity) -> None:
    """Raise `UnsuitableFileError` if the file belongs to a database that is open in this process."""
    description = describe_open_file(identity)
    if description is not None:
        raise UnsuitableFileError(
            f"{os.fspath(path)!r} is {description}, which is open in this process. Reading it as a file would drop the"
            " locks that protect it, so nothing was read; use `mnesis backup` or `mnesis export`, and pass their output",
            path=os.fspath(path),
        )


def refuse_stored_file(path: str | os.PathLike[str], status: os.stat_result) -> None:
    """Raise `UnsuitableFileError` if the file lies in a directory of stored files, or is a hard link to a file in one."""
    with _lock:
        directories = set(_file_directories.values())
    identities = {identity: directory for directory in directories if (identity := find_identity(directory))}
    if not identities:
        return
    parent = os.path.dirname(os.path.realpath(path))
    directory = next((identities[i] for i in map(find_identity, _ancestors(parent)) if i in identities), None)
    if directory is None and status.st_nlink > 1:
        directory = next((each for each in identities.values() if _has_inode(each, status)), None)
    if directory is not None:
        raise UnsuitableFileError(
            f"{os.fspath(path)!r} is in {directory!r}, where stored files are kept; nothing was read. Refer to a stored file"
            " by its id",
            path=os.fspath(path),
        )


def refuse_output_path(path: str | os.PathLike[str]) -> None:
    """Raise `ConfigurationError` if writing a file of this name would replace or become a file of an open database.

    Also refuses names inside a directory of stored files.
    """
    given = os.fspath(path)
    name = os.path.join(os.path.realpath(os.path.dirname(os.path.abspath(given))), os.path.basename(given))
    identity = find_identity(given)
    description = describe_open_file(identity) if identity else None
    with _lock:
        databases, directories = list(_databases.values()), set(_file_directories.values())
    for database in databases:
        for suffix, text in _NAMES_BY_SUFFIX.items():
            if name == database.path + suffix:
                description = text.format(repr(database.path))
    identities = {found for directory in directories if (found := find_identity(directory))}
    if description is None and any(find_identity(each) in identities for each in _ancestors(os.path.dirname(name))):
        description = "in a directory of stored files"
    if description is not None:
        raise ConfigurationError(f"{given!r} is {description}, which is open in this process; write to another file")


@contextmanager
def open_descriptor(path: str | os.PathLike[str], *, follow_symlinks: bool = True) -> Iterator[int]:
    """Open a file for reading and yield its descriptor.

    Raises `UnsuitableFileError`, without opening it, if the file belongs to a database that is open in this process, and
    `OSError` if it cannot be opened.
    """
    status = os.stat(path, follow_symlinks=follow_symlinks)
    refuse_database_file(path, (status.st_dev, status.st_ino))
    descriptor = os.open(path, _READ_FLAGS | (0 if follow_symlinks else getattr(os, "O_NOFOLLOW", 0)))
    try:
        status = os.fstat(descriptor)
        refuse_database_file(path, (status.st_dev, status.st_ino))  # a link may have changed since the first check
        yield descriptor
    finally:
        _close(descriptor)


@contextmanager
def open_file(path: str | os.PathLike[str]) -> Iterator[BufferedReader]:
    """Open a file for reading in binary mode. Raises like `open_descriptor`."""
    with open_descriptor(path) as descriptor, open(descriptor, "rb", closefd=False) as file:
        yield file


def _close(descriptor: int) -> None:
    """Close a descriptor, unless its file was opened as a database in the meantime; in that case it remains open until
    the process ends.
    """
    status = os.fstat(descriptor)
    if describe_open_file((status.st_dev, status.st_ino)) is None:
        os.close(descriptor)
    else:
        _kept_descriptors.append(descriptor)


def _ancestors(directory: str) -> Iterator[str]:
    """Yield a directory and all directories above it."""
    while True:
        yield directory
        parent = os.path.dirname(directory)
        if parent == directory:
            return
        directory = parent


def _has_inode(directory: str, status: os.stat_result) -> bool:
    """Return whether any file below a directory has this device and inode."""
    try:
        entries = list(os.scandir(directory))
    except OSError:
        return False
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            if _has_inode(entry.path, status):
                return True
        elif entry.inode() == status.st_ino and find_identity(entry.path) == (status.st_dev, status.st_ino):
            return True
    return False
