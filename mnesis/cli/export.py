"""`mnesis export`: a session as lines of JSON, nothing lost."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TextIO

import click

from mnesis import __version__
from mnesis.cli.database import db_option, find_session, reading
from mnesis.cli.portable import FORMAT, FORMAT_VERSION, message_dict, write_line
from mnesis.cli.screen import counted, note

if TYPE_CHECKING:
    from mnesis.models.session import SessionRecord
    from mnesis.models.summary import Summary
    from mnesis.store.base import Store

_PAGE = 500


@click.command("export", short_help="Write a session as JSON Lines.")
@click.argument("session_id", metavar="ID")
@click.option(
    "-o", "--output", metavar="FILE", help="Write here, readable by you alone, instead of to standard output."
)
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@db_option
def command(session_id: str, output: str | None, force: bool, db: str | None) -> None:
    """Write a session as JSON Lines: its settings, every message with all fields, summaries and what they cover,
    pruned outputs, turns, compactions, interruptions. `mnesis import` brings it back.
    """
    written = asyncio.run(_export(session_id, output, force, db))
    if output is not None:
        note(f"{counted(written, 'line')} written to {output}")


async def _export(session_id: str, output: str | None, force: bool, db: str | None) -> int:
    written = 0
    async with reading(db) as store:
        session = await find_session(store, session_id)
        with _opened(output, force) as file:
            async for line in _lines(store, session):
                file.write(f"{write_line(line)}\n")
                written += 1
    return written


@contextmanager
def _opened(output: str | None, force: bool) -> Iterator[TextIO]:
    """Standard output, or a new file of mode 0600 that appears under its name only when it is whole."""
    if output is None or output == "-":
        yield sys.stdout
        return
    if os.path.lexists(output) and not force:
        raise click.UsageError(f"{output} is there already; choose another name, or replace it with --force")
    partial = f"{output}.{os.getpid()}.partial"
    try:
        descriptor = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except (OSError, ValueError) as error:
        raise click.UsageError(f"{output} cannot be written: {error}") from error
    try:
        with open(descriptor, "w", encoding="ascii", newline="\n") as file:
            yield file
        os.replace(partial, output)
    except BaseException as error:
        os.unlink(partial)
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            raise click.UsageError(f"{output} cannot be written: {error}") from error
        raise


async def _lines(store: Store, session: SessionRecord) -> AsyncIterator[dict[str, Any]]:
    context = await store.active_context(session.id)
    session = context.session
    yield {
        "kind": "session",
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "written_by": __version__,
        "value": asdict(session) | {"usage": session.usage.model_dump()},
    }
    after = 0
    while page := await store.messages(session.id, after_seq=after, until_seq=session.last_seq, limit=_PAGE):
        after = page[-1].seq
        for message in page:
            yield {"kind": "message", "value": message_dict(message)}
    for summary in await store.summaries(session.id):
        value = summary.model_dump(exclude={"session_id"})
        yield {"kind": "summary", "value": value, "hidden": await _hidden_spans(store, summary)}
    for cover in context.covers:
        yield {"kind": "cover", "value": asdict(cover)}
    for prune in context.prunes.values():
        yield {"kind": "prune", "value": asdict(prune)}
    for turn in store.turns(session.id):
        if turn.seq <= session.last_seq:
            yield {"kind": "turn", "value": turn.model_dump(exclude={"compact_result"})}
    for compaction in await store.compactions(session.id):
        yield {"kind": "compaction", "value": compaction.model_dump(exclude={"session_id"})}
    for interruption in await store.interruptions(session.id):
        yield {"kind": "interruption", "value": asdict(interruption)}


async def _hidden_spans(store: Store, summary: Summary) -> list[list[int]]:
    """The spans between a summary's first and last message that it does not stand for: they were out of view before."""
    if summary.message_count == summary.last_seq - summary.first_seq + 1:
        return []
    behind = {message.seq for message in await store.covered_messages(summary.session_id, summary.id)}
    spans: list[list[int]] = []
    for seq in range(summary.first_seq, summary.last_seq + 1):
        if seq in behind:
            continue
        if spans and spans[-1][1] == seq - 1:
            spans[-1][1] = seq
        else:
            spans.append([seq, seq])
    return spans
