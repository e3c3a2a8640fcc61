"""`mnesis timeline`: how large the context was after each turn, and where it was compacted."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from mnesis.cli.context import limited, session_budget
from mnesis.cli.database_option import Place, db_option, json_option, lines_option, reading
from mnesis.cli.id_lookup import find_session
from mnesis.cli.output import console, note, print_json, to_json

if TYPE_CHECKING:
    from mnesis.models.timeline import Timeline


@click.command(
    "timeline",
    short_help="Show context tokens per turn, compactions marked.",
    epilog="Example: mnesis timeline sess_1a --csv > tokens.csv",
)
@click.argument("session_id", metavar="ID")
@click.option("--csv", "as_csv", is_flag=True, help="Print one line per turn, with a head.")
@click.option(
    "--context-limit", type=click.IntRange(min=256), metavar="TOKENS", help="The model's window, if known better."
)
@lines_option
@json_option
@db_option
def command(session_id: str, as_csv: bool, context_limit: int | None, as_lines: bool, as_json: bool, db: Place) -> None:
    """Show the size of the context after each turn, and where it was compacted.

    Sizes are as providers reported them, at least what was counted. The marks are those of the default configuration.
    """
    timeline = asyncio.run(_read(db, session_id, context_limit))
    if as_csv:
        print(timeline.to_csv(), end="")
    elif as_lines:
        for turn in timeline:
            print(to_json(asdict(turn)))
    elif as_json:
        names = {"session_id": timeline.session_id, "budget": asdict(timeline.budget)}
        print_json(names | {"turns": [asdict(turn) for turn in timeline]})
    else:
        console().print(timeline)
        if not timeline:
            note("no turns yet")


async def _read(db: Place, session_id: str, context_limit: int | None) -> Timeline:
    from mnesis.models.timeline import Timeline

    async with reading(db) as store:
        session = await find_session(store, session_id)
        turns, compactions = store.turns(session.id), await store.compactions(session.id)
    budget, _ = session_budget(session, limited(db, context_limit))
    return Timeline.of(session.id, turns, compactions, budget)
