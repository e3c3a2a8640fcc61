"""`mnesis migrate` and `mnesis reindex`: maintenance of a database."""

from __future__ import annotations

import asyncio

import click

from mnesis.cli.database_option import DatabaseOption, db_option, existing_database_path, json_option, open_engine
from mnesis.cli.indexing import follow_indexing
from mnesis.cli.output import print_json, print_note
from mnesis.display.progress_bar import progress


@click.command(
    "migrate",
    short_help="Update a database written by an older mnesis.",
    epilog="Example: mnesis migrate --db old.db",
)
@json_option
@db_option
def migrate(as_json: bool, db: DatabaseOption) -> None:
    """Update the database schema to this release. A copy of the old database is kept next to it.

    Opening a session does the same. Commands that only read never do.
    """
    asyncio.run(_migrate(db))
    _print_outcome(db, "is up to date", as_json)


async def _migrate(db: DatabaseOption) -> None:
    async with open_engine(db):
        pass


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
            await engine.reindex(follow_indexing(bar))


def _print_outcome(db: DatabaseOption, outcome: str, as_json: bool) -> None:
    path = existing_database_path(db)
    if as_json:
        print_json({"database": str(path)})
    else:
        print_note(f"{path} {outcome}")
