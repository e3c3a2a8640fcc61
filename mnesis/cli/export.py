"""`mnesis export`: a session written to a file, as lossless JSONL or as a transcript."""

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
from mnesis.cli.database_option import DatabaseOption, db_option, open_store
from mnesis.cli.export_files import file_lines
from mnesis.cli.export_format import FORMAT, FORMAT_VERSION, message_dict, write_line
from mnesis.cli.id_lookup import find_session
from mnesis.cli.output import print_note, to_json
from mnesis.cli.storage_option import file_storage, storage_option
from mnesis.cli.transcripts import render_html, render_markdown
from mnesis.redaction import redact_data
from mnesis.system.open_files import refuse_output_path

if TYPE_CHECKING:
    from mnesis.files.storage import FileStorage
    from mnesis.models.session import SessionRecord
    from mnesis.models.summary import Summary
    from mnesis.store.base import Store

_PAGE_SIZE = 500
_PAGE_TURNS = 10_000


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
    help="jsonl: complete, for mnesis import; openai: messages for a provider; md, html: for reading.",
)
@click.option("--redact", is_flag=True, help="Redact what looks like a key, token or password.")
@click.option("--with-files", is_flag=True, help="Include the stored large files; only for jsonl.")
@storage_option
@click.option(
    "-o", "--output", metavar="FILE", help="Write to FILE, readable only by you, instead of to standard output."
)
@click.option("--force", is_flag=True, help="Overwrite FILE if it exists.")
@db_option
def command(
    session_id: str,
    form: str,
    redact: bool,
    with_files: bool,
    storage: str | None,
    output: str | None,
    force: bool,
    db: DatabaseOption,
) -> None:
    """Export a session.

    jsonl holds everything: settings, every message with all fields, summaries and what they cover, pruned outputs, turns,
    compactions, interruptions. `mnesis import` restores it. The other formats hold only the messages: openai is a JSON list
    for chat completions, md and html are for reading. Stored large files are not included; --with-files adds them to
    jsonl, and `mnesis import` stores them again. A fork is exported with the messages that it shares.
    """
    if with_files and (redact or form != "jsonl"):
        raise click.UsageError("--with-files requires --format jsonl without --redact: files are exported unchanged")
    files = file_storage(storage, db) if with_files else None
    written_bytes = asyncio.run(_export(session_id, form, redact, files, output, force, db))
    if output is not None:
        print_note(f"{written_bytes:,} bytes written to {output}")


async def _export(
    session_id: str,
    form: str,
    redact: bool,
    files: FileStorage | None,
    output: str | None,
    force: bool,
    db: DatabaseOption,
) -> int:
    written_bytes = 0
    async with open_store(db) as store:
        session = await find_session(store, session_id)
        with _open_output(output, force) as file:
            pieces = _transcript(store, session, form, redact)
            if form == "jsonl":
                pieces = _jsonl(store, session, redact, files)
            async for piece in pieces:
                file.write(piece)
                written_bytes += len(piece.encode(errors="replace"))
    return written_bytes


async def _jsonl(store: Store, session: SessionRecord, redact: bool, files: FileStorage | None) -> AsyncIterator[str]:
    async for line in export_lines(store, session):
        yield f"{write_line(redact_data(line) if redact else line)}\n"
    if files is not None:
        content_ids = dict.fromkeys(
            reference.content_id for reference in await store.file_references(session_id=session.id)
        )
        for line in file_lines(files, content_ids):
            yield f"{write_line(line)}\n"


async def _transcript(store: Store, session: SessionRecord, form: str, redact: bool) -> AsyncIterator[str]:
    from mnesis.models.message import Message
    from mnesis.recall.expand import read_log

    messages = [message async for message in read_log(store, session.id)]
    if redact:
        session = replace(session, title=redact_data(session.title), system_prompt=redact_data(session.system_prompt))
        messages = [Message.model_validate(redact_data(message.model_dump())) for message in messages]
    if form == "openai":
        from mnesis.formats.openai import chat_messages

        yield f"{to_json(chat_messages(messages, session.system_prompt), indent=2)}\n"
    else:
        for piece in render_markdown(session, messages) if form == "md" else render_html(session, messages):
            yield piece


@contextmanager
def _open_output(output: str | None, force: bool) -> Iterator[TextIO]:
    """Open standard output, or a new file with mode 0600 that gets its name only when it is complete."""
    if output is None or output == "-":
        yield sys.stdout
        return
    refuse_output_path(output)
    if os.path.lexists(output) and not force:
        raise click.UsageError(f"{output} already exists; choose another name, or overwrite it with --force")
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


async def export_lines(store: Store, session: SessionRecord) -> AsyncIterator[dict[str, Any]]:
    """Yield the lines of the export of one session."""
    context = await store.active_context(session.id)
    session = context.session
    yield {
        "kind": "session",
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "written_by": __version__,
        "value": _session_value(session),
    }
    after = 0
    while page := await store.messages(session.id, after_seq=after, until_seq=session.last_seq, limit=_PAGE_SIZE):
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
    after_turn = -1
    while turns := store.turns(session.id, after_turn=after_turn, limit=_PAGE_TURNS):
        after_turn = turns[-1].turn_index
        for turn in turns:
            if turn.seq <= session.last_seq:
                yield {"kind": "turn", "value": turn.model_dump(exclude={"compact_result"})}
    for compaction in await store.compactions(session.id):
        yield {"kind": "compaction", "value": compaction.model_dump(exclude={"session_id"})}
    for interruption in await store.interruptions(session.id):
        yield {"kind": "interruption", "value": asdict(interruption)}


def _session_value(session: SessionRecord) -> dict[str, Any]:
    """Return the fields of a session. Older releases do not know `forked_from`, so only forks contain it."""
    value = asdict(session) | {"usage": session.usage.model_dump()}
    if session.forked_from is None:
        del value["forked_from"]
    return value


async def _hidden_spans(store: Store, summary: Summary) -> list[list[int]]:
    """Return the spans between a summary's first and last message that it does not cover.

    These messages were already hidden when the summary was written.
    """
    if summary.message_count == summary.last_seq - summary.first_seq + 1:
        return []
    covered_seqs = {message.seq for message in await store.covered_messages(summary.session_id, summary.id)}
    spans: list[list[int]] = []
    for seq in range(summary.first_seq, summary.last_seq + 1):
        if seq in covered_seqs:
            continue
        if spans and spans[-1][1] == seq - 1:
            spans[-1][1] = seq
        else:
            spans.append([seq, seq])
    return spans
