"""`mnesis migrate` and `mnesis reindex`: maintenance of a database."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mnesis.cli.database_option import (
    DatabaseOption,
    database_path,
    db_option,
    existing_database_path,
    json_option,
    open_engine,
    open_store,
)
from mnesis.cli.follow_progress import follow_progress
from mnesis.cli.output import print_json, print_note
from mnesis.database_url import is_same_database
from mnesis.display.progress_bar import progress
from mnesis.unfinished_files import remove_leftovers

if TYPE_CHECKING:
    from mnesis.cli.copy_database import CopyReport


@click.command(
    "migrate",
    short_help="Update a database written by an older mnesis, or copy it to another one.",
    epilog="Example: mnesis migrate --db chat.db --to postgresql://user@host/name",
)
@click.option("--to", "target", metavar="PATH|URL", help="Copy every session and map run to this database.")
@json_option
@db_option
def migrate(target: str | None, as_json: bool, db: DatabaseOption) -> None:
    """Update the database schema to this release. A copy of the old database is kept next to it.

    Opening a session does the same. Commands that only read never do. Unfinished copies that killed processes left next to the
    database are removed.

    With --to, everything is copied to another database, of either kind, and compared. The source is not changed. Repeat the
    command after an interruption, or to copy what was added since: what was copied already is only compared. Stored files
    are not copied; keep their directory, or share it.
    """
    if target is None:
        asyncio.run(_migrate(db))
        _print_outcome(db, "is up to date", as_json)
        return
    destination = DatabaseOption(target, db.timeout_seconds)
    report = asyncio.run(_copy(db, destination))
    location = database_path(destination)
    if as_json:
        print_json({"database": str(existing_database_path(db)), "to": str(location), **asdict(report)})
        return
    print_note(
        f"{report.sessions} sessions with {report.messages} messages and {report.runs} runs copied to {location};"
        f" {report.sessions_present} sessions and {report.runs_present} runs were there already. All logs agree"
    )


async def _copy(db: DatabaseOption, destination: DatabaseOption) -> CopyReport:
    from mnesis.cli.copy_database import copy_database
    from mnesis.engine.engine import Engine

    source_path, target_path = existing_database_path(db), database_path(destination)
    if is_same_database(source_path, target_path):
        raise click.UsageError("--to is the database itself; pass another path or URL")
    async with open_store(db) as source, Engine(target_path, config=destination.config()) as target:
        with progress("copying sessions") as bar:
            return await copy_database(source, target.store, follow_progress(bar))


async def _migrate(db: DatabaseOption) -> None:
    from mnesis.store.sqlite import SqliteStore

    path = existing_database_path(db)
    if not isinstance(path, Path):
        with progress("updating"):
            async with open_engine(db):
                return
    store = SqliteStore(path, db.config().store)
    with progress("updating sessions and runs") as bar:
        await store.open(follow_progress(bar))
    await store.close()
    remove_leftovers(path.parent)


@click.command("reindex", short_help="Rebuild the search index.", epilog="Example: mnesis reindex --db memory.db")
@json_option
@db_option
def reindex(as_json: bool, db: DatabaseOption) -> None:
    """Delete the search index and rebuild it from the logs. Searches index new messages by themselves."""
    asyncio.run(_rebuild_index(db))
    _print_outcome(db, "has a new search index", as_json)


async def _rebuild_index(db: DatabaseOption) -> None:
    async with open_engine(db) as engine:
        with progress("indexing") as bar:
            await engine.reindex(follow_progress(bar))


def _print_outcome(db: DatabaseOption, outcome: str, as_json: bool) -> None:
    path = existing_database_path(db)
    if as_json:
        print_json({"database": str(path)})
    else:
        print_note(f"{path} {outcome}")
