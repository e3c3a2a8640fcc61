"""The option that names the directory of stored files."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from mnesis.cli.database_option import DatabaseOption
    from mnesis.files.storage import FileStorage

_Command = TypeVar("_Command", bound=Callable[..., Any])


def storage_option(function: _Command) -> _Command:
    """Add `--storage DIR`, passed as the argument `storage`."""
    help_text = "Directory of the stored large files; by default ~/.mnesis/files."
    return click.option("--storage", metavar="DIR", type=click.Path(), help=help_text)(function)


def file_storage(storage: str | None, db: DatabaseOption) -> FileStorage:
    """Return the file storage at this path, or the default one if it is None, with the key of the database."""
    from mnesis.config import FileConfig
    from mnesis.files.storage import FileStorage

    return FileStorage(storage or FileConfig().storage_dir, read_key=db.config().store.read_encryption_key)
