"""`mnesis backup`: a whole copy of the database, while others go on writing."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import click

from mnesis.cli.database_option import Place, db_option, existing_database, json_option, reading
from mnesis.cli.output import note, print_json
from mnesis.errors import StoreFullError


@click.command(
    "backup",
    short_help="Copy the database while it is in use.",
    epilog="Example: mnesis backup ~/backups/sessions-2026-03-01.db",
)
@click.argument("file", metavar="FILE", type=click.Path())
@json_option
@db_option
def command(file: str, as_json: bool, db: Place) -> None:
    """Write a consistent copy of the database to FILE, which must not be there yet; others may go on reading and writing.

    Copying the file by other means while it is in use can give a damaged copy. Large files kept beside the database are
    not part of it.
    """
    source, target = existing_database(db), Path(file).expanduser()
    if not _is_utf8(str(target.absolute())):
        raise click.UsageError(f"{target} is no UTF-8, which SQLite asks of a copy's name; choose another")
    if os.path.lexists(target):
        raise click.UsageError(f"{target} is there already; nothing is ever replaced, choose another name")
    if not target.parent.is_dir():
        raise click.UsageError(f"there is no directory {target.parent}; make it first")
    _refuse_if_no_room(source, target)
    asyncio.run(_copied(db, target))
    size = os.stat(target).st_size
    if as_json:
        print_json({"database": str(source), "file": str(target), "bytes": size})
    else:
        note(f"{size / 1e6:,.1f} MB written to {target}")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse_if_no_room(source: Path, target: Path) -> None:
    log = Path(f"{source}-wal")
    needed = os.stat(source).st_size + (os.stat(log).st_size if log.exists() else 0)
    free = shutil.disk_usage(target.parent).free
    if free < needed:
        raise StoreFullError(
            f"a copy may take {needed / 1e6:,.1f} MB and {target.parent} has {free / 1e6:,.1f} MB free; nothing was"
            " written, choose another place",
            db_path=target,
        )


async def _copied(db: Place, target: Path) -> None:
    async with reading(db) as store:
        await store.backup(target)
