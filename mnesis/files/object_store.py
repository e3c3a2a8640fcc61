"""The port to object stores, and its implementation with fsspec (`pip install "mnesis-context[object-storage]"`).

    URL/files/<name>         the bytes of a stored file
    URL/databases/<name>     a note about a database that stores files there
    URL/salt                 the salt of a passphrase
    URL/incoming/<upload>    uploads that are not complete

Everything here blocks; call it off the event loop.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from mnesis.errors import ConfigurationError, FileError
from mnesis.system.process_ids import is_process_dead, process_id
from mnesis.system.unfinished_files import LEFTOVER_SECONDS

INSTALL_COMMAND = 'pip install "mnesis-context[object-storage]"'
_UPLOAD = re.compile(r"(?P<seconds>\d{1,12})\.(?P<process>[0-9a-f]{16}-\d+-\d+)\.[0-9a-f]{16}")


class ObjectStore(Protocol):
    """The operations that stored files need from an object store. Names have the form "directory/name"; all methods
    raise `FileError`.
    """

    @property
    def url(self) -> str:
        """The name of the store in messages, without credentials."""

    def put(self, name: str, source: Path) -> None:
        """Store a copy of a local file, which appears completely or not at all and replaces an object of that name."""

    def create(self, name: str, content: bytes) -> None:
        """Store a few bytes, unless there is an object of that name."""

    def size_bytes(self, name: str) -> int | None:
        """Return the size of an object, or None if there is none."""

    def fetch(self, name: str, target: Path) -> bool:
        """Copy an object to a local file. Returns whether there was one."""

    def read(self, name: str) -> bytes | None:
        """Return the bytes of a small object, or None if there is none."""

    def delete(self, name: str) -> int:
        """Delete an object, and return the bytes freed: 0 if there was none."""

    def list_names(self, directory: str) -> list[str]:
        """Return the names of the objects in a directory, without the directory's name."""


class FsspecStore:
    """The object store at a URL that fsspec can open. It connects at the first use."""

    def __init__(self, url: str) -> None:
        """`url` has no credentials; fsspec and its file systems find them in the environment and in their own files."""
        self.url = url
        self._opened: tuple[Any, str] | None = None

    def put(self, name: str, source: Path) -> None:
        """See `ObjectStore.put`."""
        fs, root = self._open()
        with self._translate(f"store {name!r}"):
            self._delete_leftovers(fs, root)
            upload = f"{root}/incoming/{int(time.time())}.{process_id()}.{secrets.token_hex(8)}"
            try:
                # The object gets its name when it is complete: not every file system writes atomically.
                _write(fs, root, upload, partial(fs.put_file, os.fspath(source), upload))
                _write(fs, root, f"{root}/{name}", partial(fs.mv, upload, f"{root}/{name}"))
            except BaseException:
                with suppress(Exception):
                    fs.rm_file(upload)
                raise

    def create(self, name: str, content: bytes) -> None:
        """See `ObjectStore.create`."""
        fs, root = self._open()
        with self._translate(f"store {name!r}"), suppress(FileExistsError):
            # S3 and Google Cloud Storage check mode="create" on the server; others check before they write
            # (fsspec.spec.AbstractFileSystem.pipe_file).
            path = f"{root}/{name}"
            _write(fs, root, path, partial(fs.pipe_file, path, content, mode="create"))

    def size_bytes(self, name: str) -> int | None:
        """See `ObjectStore.size_bytes`."""
        fs, root = self._open()
        with self._translate(f"look up {name!r}"):
            fs.invalidate_cache()  # file systems cache listings, and other machines change them
            try:
                return int(fs.info(f"{root}/{name}")["size"])
            except FileNotFoundError:
                return None

    def fetch(self, name: str, target: Path) -> bool:
        """See `ObjectStore.fetch`."""
        fs, root = self._open()
        with self._translate(f"read {name!r}"):
            try:
                fs.get_file(f"{root}/{name}", os.fspath(target))
            except FileNotFoundError:
                return False
            return True

    def read(self, name: str) -> bytes | None:
        """See `ObjectStore.read`."""
        fs, root = self._open()
        with self._translate(f"read {name!r}"):
            fs.invalidate_cache()
            try:
                return bytes(fs.cat_file(f"{root}/{name}"))
            except FileNotFoundError:
                return None

    def delete(self, name: str) -> int:
        """See `ObjectStore.delete`."""
        freed_bytes = self.size_bytes(name)
        if freed_bytes is None:
            return 0
        fs, root = self._open()
        with self._translate(f"delete {name!r}"), suppress(FileNotFoundError):
            fs.rm_file(f"{root}/{name}")
        return freed_bytes

    def list_names(self, directory: str) -> list[str]:
        """See `ObjectStore.list_names`."""
        fs, root = self._open()
        with self._translate(f"list {directory!r}"):
            return _list_names(fs, f"{root}/{directory}")

    @staticmethod
    def _delete_leftovers(fs: Any, root: str) -> None:
        """Delete the uploads of processes that have ended, and those that are older than a day."""
        for name in _list_names(fs, f"{root}/incoming"):
            match = _UPLOAD.fullmatch(name)
            if match is None:
                continue
            if is_process_dead(match["process"]) or int(match["seconds"]) < time.time() - LEFTOVER_SECONDS:
                with suppress(FileNotFoundError):  # another process deleted it in the meantime
                    fs.rm_file(f"{root}/incoming/{name}")

    def _open(self) -> tuple[Any, str]:
        """Return the file system and the path of the URL in it. Raises `ConfigurationError` if a library is missing."""
        if self._opened is None:
            try:
                from fsspec.core import url_to_fs
            except ImportError:
                raise ConfigurationError(
                    f"FileConfig.storage_url {self.url!r} needs fsspec; run {INSTALL_COMMAND}"
                ) from None
            try:
                fs, root = url_to_fs(self.url)
            except (ImportError, ValueError) as error:  # such as "Install s3fs to access S3", "Protocol not known: x"
                scheme = self.url.partition(":")[0]
                raise ConfigurationError(
                    f"fsspec cannot open FileConfig.storage_url {self.url!r} ({type(error).__name__}); install the library of"
                    f" its file system {scheme!r}, such as s3fs, gcsfs or adlfs, or use another URL"
                ) from None
            except Exception as error:
                raise self._error("connect", error) from None
            self._opened = fs, root.rstrip("/")
        return self._opened

    @contextmanager
    def _translate(self, action: str) -> Iterator[None]:
        """Raise `FileError` for any error of the file system, because each file system has its own classes."""
        try:
            yield
        except Exception as error:
            raise self._error(action, error) from None

    def _error(self, action: str, error: Exception) -> FileError:
        # The texts of these errors may contain signed URLs and keys, so only class and number are shown.
        number = getattr(error, "errno", None)
        reason = type(error).__name__ + (f", {os.strerror(number)}" if isinstance(number, int) else "")
        return FileError(
            f"the object store {self.url!r} cannot {action}: {reason}. Check the URL, the credentials of fsspec and the"
            " network, and try again",
            path=self.url,
        )


def _write(fs: Any, root: str, path: str, write: Callable[[], object]) -> None:
    """Write a file, after creating its directory if the file system has directories and this one is missing."""
    try:
        write()
    except FileNotFoundError:
        for directory in (root, path.rpartition("/")[0]):
            with suppress(FileExistsError):
                fs.mkdir(directory, create_parents=False)  # with parents, s3fs would create a bucket
        write()


def _list_names(fs: Any, directory: str) -> list[str]:
    fs.invalidate_cache()
    try:
        paths = fs.ls(directory, detail=False)
    except FileNotFoundError:
        return []
    return sorted(name for path in paths if (name := str(path).rstrip("/").rpartition("/")[2]))
