"""`mnesis search`: original messages that match a query."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from mnesis.cli.database_option import DatabaseOption, db_option, json_option, jsonl_option, open_engine, open_store
from mnesis.cli.follow_progress import follow_progress
from mnesis.cli.id_lookup import find_session
from mnesis.cli.output import (
    ROLE_STYLES,
    clean_line,
    format_time,
    make_console,
    one_line,
    print_json,
    print_note,
    to_json,
)
from mnesis.display.progress_bar import progress

if TYPE_CHECKING:
    from rich.text import Text

    from mnesis.models.search import SearchHit, SearchPage

# Repeated here so that showing the help does not import the models.
MODES, ROLES = ("words", "substring"), ("system", "user", "assistant", "tool")
VECTORS = ("wordllama",)
_MAX_EXCERPT_CHARS = 480


@click.command(
    "search",
    short_help="Find original messages by content, best first.",
    epilog='Example: mnesis search "which valve leaked" sess_1a --role assistant -n 5',
)
@click.argument("query")
@click.argument("session_id", metavar="[ID]", required=False)
@click.option(
    "--mode",
    type=click.Choice(MODES),
    default="words",
    show_default=True,
    help="words: ranked by the query's words; substring: QUERY as literal text, newest first.",
)
@click.option("--role", type=click.Choice(ROLES), help="Only messages of this role.")
@click.option("--tool", metavar="NAME", help="Only messages that call this tool or have its results.")
@click.option("--after", metavar="WHEN", help="Only messages since: 2026-03-01, 12h, 7d, 'last week'.")
@click.option("--before", metavar="WHEN", help="Only messages before.")
@click.option("--when", metavar="WHEN", help="Only messages of this time: 2026-03-01, yesterday, 'am Dienstagabend'.")
@click.option(
    "-n", "--limit", default=10, show_default=True, type=click.IntRange(min=1), help="Maximum number of hits."
)
@click.option(
    "--vectors",
    type=click.Choice(VECTORS),
    help="Also search by meaning, with this embedding model (extra vectors). Missing vectors are computed first.",
)
@click.option("--cursor", metavar="CURSOR", help="Continue after an earlier page.")
@jsonl_option
@json_option
@db_option
def command(
    session_id: str | None, as_jsonl: bool, as_json: bool, db: DatabaseOption, vectors: str | None, **filters: Any
) -> None:
    """Find messages of one session, or of all, whether or not they are still in the context.

    The search index is updated first; this command writes nothing else. If the database cannot be written, only messages
    that are already indexed are searched.
    """
    page = asyncio.run(_search(db, session_id, vectors, filters))
    if as_json:
        print_json({"hits": [_to_dict(hit) for hit in page], "next_cursor": page.next_cursor})
    elif as_jsonl:
        for hit in page:
            print(to_json(_to_dict(hit)))
    else:
        console = make_console()
        for hit in page:
            console.print(hit_line(hit))
    if not page:
        print_note("nothing found")
    if page.next_cursor is not None:
        print_note(f"there is more; continue with --cursor {page.next_cursor}")


async def _search(
    db: DatabaseOption, session_id: str | None, vectors: str | None, filters: dict[str, Any]
) -> SearchPage:
    from mnesis.search.time_parameters import time_of_cursor

    async with open_store(db) as store:
        if session_id is not None:
            session_id = (await find_session(store, session_id)).id
    now = (time_of_cursor(filters["cursor"]) or datetime.now(UTC)).astimezone()
    async with open_engine(db, recall={"vectors": vectors}) as engine:
        with progress("indexing") as bar:
            return await engine.search(session_id=session_id, now=now, on_progress=follow_progress(bar), **filters)


def _to_dict(hit: SearchHit) -> dict[str, Any]:
    return {name: value for name, value in asdict(hit).items() if name != "neighbours"}


def hit_line(hit: SearchHit) -> Text:
    """Format a hit for people: its location and an excerpt."""
    from rich.text import Text

    location = f"{clean_line(hit.session_id)} #{hit.seq}"
    covering = f"  in {clean_line(hit.summary_id)}" if hit.summary_id else ""
    header = f"{location}  {hit.role}  {format_time(hit.created_at)}{covering}  {clean_line(hit.message_id)}"
    return Text.assemble((header, ROLE_STYLES.get(hit.role, "")), f"\n  {one_line(hit.excerpt, _MAX_EXCERPT_CHARS)}\n")
