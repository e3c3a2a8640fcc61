"""`mnesis timeline`: the size of the context after each turn, and where it was compacted."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from mnesis.cli.context import budget_and_counter, config_with_context_limit
from mnesis.cli.database_option import DatabaseOption, db_option, json_option, jsonl_option, open_store
from mnesis.cli.id_lookup import find_session
from mnesis.cli.output import make_console, print_json, print_note, to_json

if TYPE_CHECKING:
    from mnesis.models.timeline import Timeline


@click.command(
    "timeline",
    short_help="Show context tokens per turn and compactions.",
    epilog="Example: mnesis timeline sess_1a --csv > tokens.csv",
)
@click.argument("session_id", metavar="ID")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV with a header and one line per turn.")
@click.option(
    "--context-limit",
    type=click.IntRange(min=256),
    metavar="TOKENS",
    help="The model's context window, if the built-in value is wrong.",
)
@jsonl_option
@json_option
@db_option
def command(
    session_id: str, as_csv: bool, context_limit: int | None, as_jsonl: bool, as_json: bool, db: DatabaseOption
) -> None:
    """Show the size of the context after each turn, and where it was compacted.

    A size is the larger of the provider's report and mnesis's own count. The thresholds are those of the default
    configuration.
    """
    timeline = asyncio.run(_read(db, session_id, context_limit))
    if as_csv:
        print(timeline.to_csv(), end="")
    elif as_jsonl:
        for turn in timeline:
            print(to_json(asdict(turn)))
    elif as_json:
        names = {"session_id": timeline.session_id, "budget": asdict(timeline.budget)}
        print_json(names | {"turns": [asdict(turn) for turn in timeline]})
    else:
        make_console().print(timeline)
        if not timeline:
            print_note("no turns yet")


async def _read(db: DatabaseOption, session_id: str, context_limit: int | None) -> Timeline:
    from mnesis.models.timeline import Timeline

    async with open_store(db) as store:
        session = await find_session(store, session_id)
        turns, compactions = store.turns(session.id), await store.compactions(session.id)
    budget, _ = budget_and_counter(session, config_with_context_limit(db, context_limit))
    return Timeline.of(session.id, turns, compactions, budget)
