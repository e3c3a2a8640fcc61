"""The option that names the directory or object store of stored files, and which files a database refers to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mnesis.cli.database_option import DatabaseOption, database_path, open_store
from mnesis.cli.id_lookup import find_session

if TYPE_CHECKING:
    from mnesis.config import FileConfig
    from mnesis.files.storage import FileStorage

_Command = TypeVar("_Command", bound=Callable[..., Any])


def storage_option(function: _Command) -> _Command:
    """Add `--storage DIR_OR_URL`, passed as the argument `storage`."""
    help_text = (
        "Directory or object store (s3://…) of the stored large files, or `database`; by default ~/.mnesis/files, or the"
        " PostgreSQL database."
    )
    return click.option("--storage", metavar="DIR_OR_URL", type=click.Path(), help=help_text)(function)


def file_config(storage: str | None) -> FileConfig:
    """Return the settings for files at this path or URL, or the default ones if it is None."""
    from mnesis.config import DATABASE_STORAGE, FileConfig, is_storage_url

    if not storage:
        return FileConfig()
    if not is_storage_url(storage) and storage != DATABASE_STORAGE:
        return FileConfig(storage_dir=Path(storage))
    try:
        return FileConfig(storage_url=storage)
    except ValueError as error:
        raise click.UsageError(f"--storage is not usable: {error}") from None


def file_storage(storage: str | None, db: DatabaseOption) -> FileStorage:
    """Return the file storage at this path or URL, or the default one if it is None, with the key of the database."""
    from mnesis.store.file_storage import open_file_storage

    return open_file_storage(file_config(storage), db.config().store, database_path(db))


async def referenced_content_ids(db: DatabaseOption, session_id: str | None = None) -> list[str]:
    """Return the ids of the stored files that the messages of one session, or of all, refer to."""
    async with open_store(db) as store:
        chosen_id = (await find_session(store, session_id)).id if session_id is not None else None
        return list(dict.fromkeys(each.content_id for each in await store.file_references(session_id=chosen_id)))
