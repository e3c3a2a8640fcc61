"""`mnesis inspect`: the web inspector."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from mnesis.cli.database_option import DatabaseOption, db_option, existing_database_path, open_store
from mnesis.cli.id_lookup import find_session
from mnesis.cli.output import print_note
from mnesis.cli.storage_option import file_config, storage_option

if TYPE_CHECKING:
    from mnesis.inspect import Inspector


@click.command(
    "inspect", short_help="Look at a database in the browser.", epilog="Example: mnesis inspect sess_1a --port 8765"
)
@click.argument("session_id", metavar="[ID]", required=False)
@click.option("--port", type=click.IntRange(0, 65_535), default=0, help="Port to listen on; by default a free one.")
@click.option(
    "--host",
    metavar="ADDRESS",
    help="Address to listen on instead of 127.0.0.1; other machines may then read everything.",
)
@click.option("--allow-changes", is_flag=True, help="Offer to pin messages, compact, and purge sessions.")
@click.option("--no-browser", is_flag=True, help="Only print the URL.")
@storage_option
@db_option
def command(
    session_id: str | None,
    port: int,
    host: str | None,
    allow_changes: bool,
    no_browser: bool,
    storage: str | None,
    db: DatabaseOption,
) -> None:
    """Show sessions, logs, contexts, summaries, usage, files and map runs in a browser, live.

    Serves on this machine only, until Ctrl-C. The printed URL contains a token, without which nothing is shown. Nothing is
    changed without --allow-changes, except that a search updates the search index.
    """
    try:
        import mnesis.inspect  # noqa: F401  # first, so that a missing extra is reported before anything is opened
    except ImportError as error:
        raise click.UsageError(str(error)) from error
    asyncio.run(_serve(db, session_id, port, host, allow_changes, no_browser, storage))


async def _serve(
    db: DatabaseOption,
    session_id: str | None,
    port: int,
    host: str | None,
    allow_changes: bool,
    no_browser: bool,
    storage: str | None,
) -> None:
    from mnesis.engine.engine import Engine
    from mnesis.inspect import Inspector
    from mnesis.inspect.paths import session_path
    from mnesis.inspect.server import DEFAULT_HOST

    async with open_store(db) as store:
        path = "/" if session_id is None else session_path((await find_session(store, session_id)).id)
    files = file_config(storage)
    database = existing_database_path(db)
    engine = Engine(database, config=db.config(read_only=not allow_changes, file=files))
    inspector = Inspector(
        engine,
        host=host or DEFAULT_HOST,
        port=port,
        allow_changes=allow_changes,
        allow_remote=host is not None,
        search_engine=Engine(database, config=db.config()),
        owns_engines=True,
    )
    if host is not None:
        print_note("note: anyone who can reach this address and knows the URL can read every session, over plain HTTP")
    await inspector.run(lambda: _announce(inspector, path, no_browser))


def _announce(inspector: Inspector, path: str, no_browser: bool) -> None:
    print(inspector.url_of(path), flush=True)
    print_note("press Ctrl-C to stop")
    if not no_browser:
        inspector.open_browser(path)
