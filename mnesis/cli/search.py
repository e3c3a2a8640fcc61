"""`mnesis search`: originals that a question asks for."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from mnesis.cli.database_option import Place, db_option, json_option, lines_option, reading, writing
from mnesis.cli.id_lookup import find_session
from mnesis.cli.output import ROLE_STYLES, clean, console, note, one_line, print_json, to_json, when
from mnesis.cli.time_option import MOMENT

if TYPE_CHECKING:
    from rich.text import Text

    from mnesis.models.search import SearchHit, SearchPage

# Written out, so that showing the help loads no models.
MODES, ROLES = ("words", "substring"), ("system", "user", "assistant", "tool")
_EXCERPT_CHARS = 480


@click.command(
    "search",
    short_help="Find originals by what they say, best first.",
    epilog='Example: mnesis search "which valve leaked" sess_1a --role assistant -n 5',
)
@click.argument("query")
@click.argument("session_id", metavar="[ID]", required=False)
@click.option(
    "--mode",
    type=click.Choice(MODES),
    default="words",
    show_default=True,
    help="By the weight of its words, or QUERY as it stands, newest first.",
)
@click.option("--role", type=click.Choice(ROLES), help="Only messages of this role.")
@click.option("--tool", metavar="NAME", help="Only messages that call this tool or have its results.")
@click.option("--after", type=MOMENT, metavar="WHEN", help="Said since: 2026-03-01, 12h, 7d.")
@click.option("--before", type=MOMENT, metavar="WHEN", help="Said before.")
@click.option("-n", "--limit", default=10, show_default=True, type=click.IntRange(min=1), help="At most so many.")
@click.option("--cursor", metavar="CURSOR", help="Go on where a page ended.")
@lines_option
@json_option
@db_option
def command(session_id: str | None, as_lines: bool, as_json: bool, db: Place, **wanted: Any) -> None:
    """Find messages of one session, or of all, whether or not their context still shows them.

    The search index is brought up to the log first; it is the one thing this command writes. Where the database cannot
    be written, what is indexed already is searched.
    """
    page = asyncio.run(_found(db, session_id, wanted))
    if as_json:
        print_json({"hits": [_facts(hit) for hit in page], "next_cursor": page.next_cursor})
    elif as_lines:
        for hit in page:
            print(to_json(_facts(hit)))
    else:
        screen = console()
        for hit in page:
            screen.print(hit_line(hit))
    if not page:
        note("nothing found")
    if page.next_cursor is not None:
        note(f"there is more; go on with --cursor {page.next_cursor}")


async def _found(db: Place, session_id: str | None, wanted: dict[str, Any]) -> SearchPage:
    from mnesis.models.search import Search

    async with reading(db) as store:
        if session_id is not None:
            session_id = (await find_session(store, session_id)).id
    async with writing(db) as engine:
        return await engine.store.search(Search(session_id=session_id, **wanted))


def _facts(hit: SearchHit) -> dict[str, Any]:
    return {name: value for name, value in asdict(hit).items() if name != "neighbours"}


def hit_line(hit: SearchHit) -> Text:
    """A hit for people: where it is, and what it says."""
    from rich.text import Text

    place = f"{clean(hit.session_id)} #{hit.seq}"
    behind = f"  in {clean(hit.summary_id)}" if hit.summary_id else ""
    head = f"{place}  {hit.role}  {when(hit.created_at)}{behind}  {clean(hit.message_id)}"
    return Text.assemble((head, ROLE_STYLES.get(hit.role, "")), f"\n  {one_line(hit.excerpt, _EXCERPT_CHARS)}\n")
