"""`mnesis backup`: a consistent copy of the database while it is in use."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import click

from mnesis.cli.database_option import DatabaseOption, db_option, existing_database_path, json_option, open_store
from mnesis.cli.output import print_json, print_note
from mnesis.errors import StoreFullError


@click.command(
    "backup",
    short_help="Copy the database while it is in use.",
    epilog="Example: mnesis backup ~/backups/sessions-2026-03-01.db",
)
@click.argument("file", metavar="FILE", type=click.Path())
@json_option
@db_option
def command(file: str, as_json: bool, db: DatabaseOption) -> None:
    """Write a consistent copy of the database to FILE, which must not exist. Other processes can keep reading and writing.

    Copying the file by other means while it is in use can produce a damaged copy. Stored large files are not included.
    """
    source, target = existing_database_path(db), Path(file).expanduser()
    if not _is_utf8(str(target.absolute())):
        raise click.UsageError(
            f"{target} is not UTF-8, which SQLite requires for the name of a copy; choose another name"
        )
    if os.path.lexists(target):
        raise click.UsageError(f"{target} already exists and is never overwritten; choose another name")
    if not target.parent.is_dir():
        raise click.UsageError(f"the directory {target.parent} does not exist; create it first")
    if isinstance(source, Path):
        _check_free_space(source, target)
    asyncio.run(_copy(db, target))
    size = os.stat(target).st_size
    if as_json:
        print_json({"database": str(source), "file": str(target), "bytes": size})
    else:
        print_note(f"{size / 1e6:,.1f} MB written to {target}")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_free_space(source: Path, target: Path) -> None:
    wal = Path(f"{source}-wal")
    needed_bytes = os.stat(source).st_size + (os.stat(wal).st_size if wal.exists() else 0)
    free_bytes = shutil.disk_usage(target.parent).free
    if free_bytes < needed_bytes:
        raise StoreFullError(
            f"a copy may take {needed_bytes / 1e6:,.1f} MB, but {target.parent} has {free_bytes / 1e6:,.1f} MB free; nothing"
            " was written, choose another directory",
            db_path=target,
        )


async def _copy(db: DatabaseOption, target: Path) -> None:
    async with open_store(db) as store:
        await store.backup(target)
