"""`mnesis export`: a session as lines of JSON, nothing lost."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, TextIO

import click

from mnesis import __version__
from mnesis.cli.database_option import Place, db_option, reading
from mnesis.cli.export_files import file_lines
from mnesis.cli.export_format import FORMAT, FORMAT_VERSION, message_dict, write_line
from mnesis.cli.id_lookup import find_session
from mnesis.cli.output import note, to_json
from mnesis.cli.storage_option import file_storage, storage_option
from mnesis.cli.transcripts import html, markdown, redacted

if TYPE_CHECKING:
    from mnesis.files.storage import FileStorage
    from mnesis.models.session import SessionRecord
    from mnesis.models.summary import Summary
    from mnesis.store.base import Store

_PAGE = 500


@click.command(
    "export",
    short_help="Write a session to a file.",
    epilog="Example: mnesis export sess_1a --format html -o talk.html",
)
@click.argument("session_id", metavar="ID")
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "openai", "md", "html"]),
    default="jsonl",
    show_default=True,
    help="All there is to bring back; messages for a provider; for reading; for reading, one file.",
)
@click.option("--redact", is_flag=True, help="Blank what looks like a key, token or password.")
@click.option("--with-files", is_flag=True, help="Carry the stored large files along, whole; for jsonl.")
@storage_option
@click.option(
    "-o", "--output", metavar="FILE", help="Write here, readable by you alone, instead of to standard output."
)
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@db_option
def command(
    session_id: str,
    form: str,
    redact: bool,
    with_files: bool,
    storage: str | None,
    output: str | None,
    force: bool,
    db: Place,
) -> None:
    """Write a session. As jsonl: its settings, every message with all fields, summaries and what they cover, pruned
    outputs, turns, compactions, interruptions; `mnesis import` brings it back. The other formats hold the messages
    alone: openai as a JSON list for chat completions, md and html for reading. Stored large files stay where they are;
    --with-files puts them into jsonl, so that `mnesis import` stores them where it runs.
    """
    if with_files and (redact or form != "jsonl"):
        raise click.UsageError("--with-files is for --format jsonl without --redact: files are carried as they are")
    files = file_storage(storage) if with_files else None
    written = asyncio.run(_export(session_id, form, redact, files, output, force, db))
    if output is not None:
        note(f"{written:,} bytes written to {output}")


async def _export(
    session_id: str, form: str, redact: bool, files: FileStorage | None, output: str | None, force: bool, db: Place
) -> int:
    written = 0
    async with reading(db) as store:
        session = await find_session(store, session_id)
        with _opened(output, force) as file:
            pieces = _transcript(store, session, form, redact)
            if form == "jsonl":
                pieces = _jsonl(store, session, redact, files)
            async for piece in pieces:
                file.write(piece)
                written += len(piece.encode(errors="replace"))
    return written


async def _jsonl(store: Store, session: SessionRecord, redact: bool, files: FileStorage | None) -> AsyncIterator[str]:
    async for line in _lines(store, session):
        yield f"{write_line(redacted(line) if redact else line)}\n"
    if files is not None:
        named = dict.fromkeys(found.content_id for found in await store.file_references(session_id=session.id))
        for line in file_lines(files, named):
            yield f"{write_line(line)}\n"


async def _transcript(store: Store, session: SessionRecord, form: str, redact: bool) -> AsyncIterator[str]:
    from mnesis.models.message import Message
    from mnesis.recall.expand import every_message

    messages = [message async for message in every_message(store, session.id)]
    if redact:
        session = replace(session, title=redacted(session.title), system_prompt=redacted(session.system_prompt))
        messages = [Message.model_validate(redacted(message.model_dump())) for message in messages]
    if form == "openai":
        from mnesis.formats.openai import chat_messages

        yield f"{to_json(chat_messages(messages, session.system_prompt), indent=2)}\n"
    else:
        for piece in markdown(session, messages) if form == "md" else html(session, messages):
            yield piece


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
        with open(descriptor, "w", encoding="utf-8", errors="replace", newline="\n") as file:
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
