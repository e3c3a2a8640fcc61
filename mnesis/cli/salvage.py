"""`mnesis salvage`: copy all that is intact from a damaged database to a new one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mnesis.cli.app import PROBLEM_FOUND
from mnesis.cli.database_option import DatabaseOption, db_option, existing_database_path, json_option
from mnesis.cli.follow_progress import follow_progress
from mnesis.cli.output import clean_line, pluralize, print_json, print_note
from mnesis.display.progress_bar import progress

if TYPE_CHECKING:
    from mnesis.store.sqlite.salvage import SalvagedSession


@click.command(
    "salvage",
    short_help="Copy all that is intact from a damaged database.",
    epilog="Example: mnesis salvage sessions.db --to rescued.db",
)
@click.argument("database", metavar="[DB]", type=click.Path(), required=False)
@click.option("--to", "target", required=True, metavar="NEW", type=click.Path(path_type=Path), help="The new database.")
@json_option
@db_option
@click.pass_context
def command(ctx: click.Context, database: str | None, target: Path, as_json: bool, db: DatabaseOption) -> None:
    """Read around the damage in DB (or --db), copy every message whose hash is right to the database NEW, and list the gaps.

    DB is not changed and NEW must not exist. Messages keep their ids and times; each session notes its gaps in its
    metadata. Summaries, covers, pins, usage, cost and map runs are copied if their hashes are right. In the copy, all
    summaries belong to one compaction. The exit code is 1 if something could not be copied.
    """
    from mnesis.store.sqlite.salvage import salvage

    source = db if database is None else replace(db, path=database)
    path = existing_database_path(source)
    if not isinstance(path, Path):
        raise click.UsageError(
            "a database server is restored from its own backups; salvage reads the file of an SQLite database"
        )
    with progress("salvaging sessions") as bar:
        result = asyncio.run(salvage(path, target, follow_progress(bar), config=source.config().store))
    if as_json:
        print_json({**asdict(result), "is_complete": result.is_complete})
    else:
        for session in result.sessions:
            for line in _losses(session):
                print(clean_line(f"{session.session_id}: {line}"))
        for run in result.runs:
            if not run.is_copied:
                print(
                    clean_line(
                        f"map run {run.run_id}: its settings or inputs are damaged; run it again under another id"
                    )
                )
            elif run.pending_items:
                outcomes = pluralize(len(run.pending_items), "damaged outcome")
                print(clean_line(f"map run {run.run_id}: {outcomes}; these items are pending again"))
        if result.lost_messages:
            print(f"{pluralize(result.lost_messages, 'message')} of sessions whose name cannot be read")
        count = sum(session.message_count for session in result.sessions)
        print_note(f"{pluralize(count, 'message')} of {pluralize(len(result.sessions), 'session')} copied to {target}")
    if not result.is_complete:
        ctx.exit(PROBLEM_FOUND)


def _losses(session: SalvagedSession) -> Iterator[str]:
    """Yield a line for each part of a session that was not copied."""
    for first, last in session.gaps:
        span = f"message {first} is" if first == last else f"messages {first} to {last} are"
        yield f"{span} missing or damaged"
    if not session.settings_are_intact:
        yield "its settings are damaged; check model, title and system prompt"
    if session.lost_summaries:
        yield f"not copied: {', '.join(session.lost_summaries)}; their messages are shown instead"
    if session.damaged_records:
        yield f"damaged and not copied: {', '.join(session.damaged_records)}"
