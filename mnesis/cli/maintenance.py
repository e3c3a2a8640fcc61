"""`mnesis migrate` and `mnesis reindex`: upkeep of a database."""

from __future__ import annotations

import asyncio

import click

from mnesis.cli.database_option import Place, db_option, existing_database, json_option, writing
from mnesis.cli.output import note, print_json
from mnesis.display.progress_bar import progress


@click.command(
    "migrate",
    short_help="Update a database that an older mnesis wrote.",
    epilog="Example: mnesis migrate --db old.db",
)
@json_option
@db_option
def migrate(as_json: bool, db: Place) -> None:
    """Update the database to this release; a copy of it as it was stays beside it.

    Opening a session does the same. Commands that only look never do.
    """
    asyncio.run(_opened(db))
    _told(db, "is up to date", as_json)


async def _opened(db: Place) -> None:
    async with writing(db):
        pass


@click.command("reindex", short_help="Make the search index anew.", epilog="Example: mnesis reindex --db memory.db")
@json_option
@db_option
def reindex(as_json: bool, db: Place) -> None:
    """Throw the search index away and make it anew from the logs. Searches do what is missing by themselves."""
    asyncio.run(_reindexed(db))
    _told(db, "has a new search index", as_json)


async def _reindexed(db: Place) -> None:
    async with writing(db) as engine:
        with progress("indexing"):
            await engine.reindex()


def _told(db: Place, outcome: str, as_json: bool) -> None:
    path = existing_database(db)
    if as_json:
        print_json({"database": str(path)})
    else:
        note(f"{path} {outcome}")
