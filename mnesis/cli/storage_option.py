"""The option that names the directory or object store of stored files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from mnesis.cli.database_option import DatabaseOption
    from mnesis.config import FileConfig
    from mnesis.files.storage import FileStorage

_Command = TypeVar("_Command", bound=Callable[..., Any])


def storage_option(function: _Command) -> _Command:
    """Add `--storage DIR_OR_URL`, passed as the argument `storage`."""
    help_text = "Directory or object store (s3://…) of the stored large files; by default ~/.mnesis/files."
    return click.option("--storage", metavar="DIR_OR_URL", type=click.Path(), help=help_text)(function)


def file_config(storage: str | None) -> FileConfig:
    """Return the settings for files at this path or URL, or the default ones if it is None."""
    from mnesis.config import FileConfig, is_storage_url

    if not storage:
        return FileConfig()
    if not is_storage_url(storage):
        return FileConfig(storage_dir=Path(storage))
    try:
        return FileConfig(storage_url=storage)
    except ValueError as error:
        raise click.UsageError(f"--storage is not usable: {error}") from None


def file_storage(storage: str | None, db: DatabaseOption) -> FileStorage:
    """Return the file storage at this path or URL, or the default one if it is None, with the key of the database."""
    from mnesis.files.object_storage import open_storage

    return open_storage(file_config(storage), read_key=db.config().store.read_encryption_key)
