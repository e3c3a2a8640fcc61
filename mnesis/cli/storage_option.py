"""Where the commands look for stored files."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from mnesis.files.storage import FileStorage

_Command = TypeVar("_Command", bound=Callable[..., Any])


def storage_option(function: _Command) -> _Command:
    """`--storage DIR`, as the argument `storage`."""
    where = "Where large files are stored; by default ~/.mnesis/files."
    return click.option("--storage", metavar="DIR", type=click.Path(), help=where)(function)


def file_storage(storage: str | None) -> FileStorage:
    """The storage a command was told to use."""
    from mnesis.config import FileConfig
    from mnesis.files.storage import FileStorage

    return FileStorage(storage or FileConfig().storage_dir)
