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
from mnesis.cli.output import pluralize, print_json, print_note
from mnesis.cli.storage_option import file_storage, referenced_content_ids, storage_option
from mnesis.database_url import DatabaseURL, is_same_database
from mnesis.display.progress_bar import progress
from mnesis.system.unfinished_files import remove_leftovers

if TYPE_CHECKING:
    from mnesis.cli.copy_database import CopyReport
    from mnesis.files.copy_files import CopiedFiles


@click.command(
    "migrate",
    short_help="Update a database written by an older mnesis, or copy it to another one.",
    epilog="Example: mnesis migrate --db chat.db --to postgresql://user@host/name",
)
@click.option(
    "--to", "target", metavar="PATH|URL", help="Copy every session, map run and stored file to this database."
)
@click.option(
    "--to-storage",
    metavar="DIR_OR_URL",
    type=click.Path(),
    help="Where the other database keeps its stored files, like --storage.",
)
@storage_option
@json_option
@db_option
def migrate(target: str | None, to_storage: str | None, storage: str | None, as_json: bool, db: DatabaseOption) -> None:
    """Update the database schema to this release. A copy of the old database remains next to it.

    Opening a session does the same. Commands that only read never update it. Unfinished copies that killed processes
    left next to the database are removed.

    With --to, everything is copied to another database, of either kind, and compared. The source is not changed. Repeat
    the command after an interruption, or to copy what was added since: data that was copied before is only compared.
    Stored files are copied to where the other database keeps them, unless both keep them in the same place.
    """
    if target is None:
        if storage or to_storage:
            raise click.UsageError("--storage and --to-storage need --to; an update changes no stored file")
        asyncio.run(_migrate(db))
        _print_outcome(db, "is up to date", as_json)
        return
    destination = DatabaseOption(target, db.timeout_seconds)
    if is_same_database(existing_database_path(db), database_path(destination)):
        raise click.UsageError("--to is the database itself; pass another path or URL")
    # Files first, so that the target never has a message without its file.
    files = _copy_files(db, storage, destination, to_storage)
    report = asyncio.run(_copy(db, destination))
    location = database_path(destination)
    if as_json:
        counts = asdict(report) | {"files": files.copied, "files_present": files.present}
        document = {"database": str(existing_database_path(db)), "to": str(location), **counts}
        print_json(document | {"files_unreadable": files.unreadable_ids})
        return
    print_note(
        f"{report.sessions} sessions with {report.messages} messages and {report.runs} runs copied to {location};"
        f" {report.sessions_present} sessions and {report.runs_present} runs were there already. All logs agree"
    )
    if files.copied or files.present:
        print_note(f"{pluralize(files.copied, 'stored file')} copied; {files.present} were there already")
    if files.unreadable_ids:
        count = len(files.unreadable_ids)
        verbs = ("is", "was") if count == 1 else ("are", "were")
        print_note(
            f"{pluralize(count, 'stored file')} {verbs[0]} missing or damaged in the source and {verbs[1]} not copied;"
            f" run `mnesis doctor --deep` there: {', '.join(files.unreadable_ids[:5])}"
        )


def _copy_files(
    db: DatabaseOption, storage: str | None, destination: DatabaseOption, to_storage: str | None
) -> CopiedFiles:
    """Copy the stored files that the messages of the source refer to."""
    from mnesis.files.copy_files import CopiedFiles, copy_files

    ids = asyncio.run(referenced_content_ids(db))
    source, target = file_storage(storage, db), file_storage(to_storage, destination)
    if not ids:
        return CopiedFiles()
    location = database_path(destination)
    if not isinstance(location, DatabaseURL):
        target.note_database(str(location.absolute()))
    if source.address == target.address:
        return CopiedFiles()
    with progress("stored files", len(ids)) as bar:
        return copy_files(source, target, ids, lambda done, total: bar.advance(), skip_present=True)


async def _copy(db: DatabaseOption, destination: DatabaseOption) -> CopyReport:
    from mnesis.cli.copy_database import copy_database
    from mnesis.engine.engine import Engine

    config = destination.config()
    async with open_store(db) as source, Engine(database_path(destination), config=config) as target:
        with progress("copying sessions") as bar:
            return await copy_database(source, target.store, follow_progress(bar))


async def _migrate(db: DatabaseOption) -> None:
    from mnesis.store.sqlite import SqliteStore

    path = existing_database_path(db)
    config = db.config().store
    with progress("updating sessions and runs") as bar:
        if isinstance(path, Path):
            store = SqliteStore(path, config)
            await store.open(follow_progress(bar))
            await store.close()
            remove_leftovers(path.parent)
        else:
            from mnesis.store.postgres import PostgresStore

            database = PostgresStore(path, config)
            await database.open(follow_progress(bar))
            await database.close()


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
