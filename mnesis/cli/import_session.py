"""`mnesis import`: an exported session, restored in a database."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import IO, TYPE_CHECKING, Any

import click

from mnesis.cli.database_option import DatabaseOption, database_path, db_option, json_option, session_exists
from mnesis.cli.export_files import store_file
from mnesis.cli.export_format import FORMAT, FORMAT_VERSION, read_line
from mnesis.cli.output import clean, clean_line, one_line, pluralize, print_json, print_note
from mnesis.cli.storage_option import file_storage, storage_option
from mnesis.display.progress_bar import progress

if TYPE_CHECKING:
    from mnesis.files.storage import FileStorage

AGENT_FORMATS = ("claude-code", "codex", "gemini")
_BATCH_MESSAGES = 500
KINDS = ("session", "message", "summary", "cover", "prune", "turn", "compaction", "interruption")


@click.command(
    "import", short_help="Restore an exported session.", epilog="Example: mnesis import talk.jsonl --as talk-copy"
)
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@click.option(
    "--format",
    "form",
    type=click.Choice(("mnesis", *AGENT_FORMATS)),
    default="mnesis",
    show_default=True,
    help="What the file is: an export of mnesis, or the transcript of a coding agent.",
)
@click.option("--as", "new_id", metavar="NEW_ID", help="Give the session this id instead of its own.")
@storage_option
@json_option
@db_option
def command(file: str, form: str, new_id: str | None, storage: str | None, as_json: bool, db: DatabaseOption) -> None:
    """Restore an exported session, or import the transcript of a coding agent, so that it can be searched.

    The transcripts are those of Claude Code (~/.claude/projects), Codex CLI (~/.codex/sessions) and Gemini CLI
    (~/.gemini/tmp). The session is named after the agent and its own id. Importing a transcript again adds the new
    messages.

    Restored exactly from an export: every message (id, position, parts, token counts, reported usage, extra fields),
    the session's settings, summaries with their originals and children, the current context, lifetime usage and cost,
    interruptions, and stored files that the export includes. Not restored: the times of compactions and of last use,
    and the token counts of past turns, which are the stored counts without what providers reported. Pruned outputs
    inside folded spans are restored unpruned. The link to the parent session is kept if this database contains the
    parent. A fork shares messages again if the session that stores them is in this database; otherwise it becomes a
    session with all of its messages.

    The database must not contain a session with the same id, except that of a transcript.
    """
    if form != "mnesis":
        # A damaged byte costs one character, not the file.
        with _open_input(file, errors="replace") as lines:
            session_id, messages = asyncio.run(_import_transcript(list(lines), form, new_id, db))
        _print_outcome(session_id, messages, as_json)
        return
    with _open_input(file) as lines:
        export = _read_export(lines, file_storage(storage, db))
    session_id, messages = asyncio.run(_import(export, new_id, db))
    _print_outcome(session_id, messages, as_json)


def _print_outcome(session_id: str, messages: int, as_json: bool) -> None:
    if as_json:
        print_json({"session_id": session_id, "messages": messages})
    else:
        print_note(f"session {clean_line(session_id)}: {pluralize(messages, 'message')} imported")


async def _import_transcript(lines: list[str], form: str, new_id: str | None, db: DatabaseOption) -> tuple[str, int]:
    """Append the messages of a transcript that are not stored yet. Returns the session and the number of appended
    messages.
    """
    from mnesis.cli.agent_transcripts import FORMATS
    from mnesis.config import CompactionConfig
    from mnesis.session.session import MnesisSession

    transcript = FORMATS[form](lines)
    if not transcript.messages:
        raise click.UsageError(f"there are no messages in it; is it a transcript of {form}?")
    if not (new_id or transcript.session_id):
        raise click.UsageError("the transcript has no session id; choose one with --as NEW_ID")
    if count := transcript.unreadable_lines:
        print_note(f"note: {pluralize(count, 'line')} could not be read and {'was' if count == 1 else 'were'} left out")
    session_id = new_id or f"{form}/{transcript.session_id}"
    # An imported log is to be searched, so nothing is summarized.
    config = db.config(compaction=CompactionConfig(auto=False))
    async with MnesisSession.open(
        model=None, system_prompt="", session_id=session_id, agent=form, config=config, db_path=database_path(db)
    ) as session:
        stored = {message.id async for message in session.iter_messages()}
        new = [message for message in transcript.messages if message.id not in stored]
        for start in range(0, len(new), _BATCH_MESSAGES):
            await session.append(new[start : start + _BATCH_MESSAGES], ends_turn=True)
        if not stored:
            metadata = {"folder": transcript.folder} if transcript.folder else {}
            await session.engine.store.update_session(session_id, title=transcript.title, metadata=metadata)
    return session_id, len(new)


@contextmanager
def _open_input(file: str, errors: str = "strict") -> Iterator[IO[str]]:
    try:
        with click.open_file(file, encoding="utf-8", errors=errors) as lines:
            yield lines
    except OSError as error:
        raise click.UsageError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{file} is not an export of mnesis: it is not text") from error


def _read_export(lines: Iterable[str], storage: FileStorage) -> dict[str, list[dict[str, Any]]]:
    """Return the lines of an export by kind. Stored files are written to the storage as they are read."""
    lines_by_kind: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for file_id, values in groupby(_parse_lines(lines), _file_id):
        if file_id is not None:
            store_file(storage, file_id, values)
        else:
            for value in values:
                lines_by_kind[value["kind"]].append(value)
    if not lines_by_kind["session"]:
        raise click.UsageError("the file is empty; it is not an export of mnesis")
    return lines_by_kind


def _file_id(value: dict[str, Any]) -> str | None:
    return str(value.get("id")) if value["kind"] == "file" else None


def _parse_lines(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yield the decoded lines. Raises `click.UsageError` if one is invalid or the first is not a session."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = read_line(line)
        except (ValueError, RecursionError) as error:
            raise click.UsageError(f"line {number} cannot be read: {clean(str(error))}") from error
        if value["kind"] not in (*KINDS, "file"):
            raise click.UsageError(f"line {number} has the unknown kind {clean(value['kind'])!r}")
        if number == 1:
            _check_header(value)
        yield value


def _check_header(header: dict[str, Any]) -> None:
    if header["kind"] != "session" or header.get("format") != FORMAT:
        raise click.UsageError("the first line is not a session; this is not an export of mnesis")
    if header.get("version") != FORMAT_VERSION:
        version = clean(str(header.get("version")))
        raise click.UsageError(
            f"the export has version {version}, this mnesis reads version {FORMAT_VERSION}; upgrade mnesis"
        )


async def _import(export: dict[str, list[dict[str, Any]]], new_id: str | None, db: DatabaseOption) -> tuple[str, int]:
    from pydantic import ValidationError

    from mnesis.cli.import_replay import Replay, parse_export
    from mnesis.engine.engine import Engine

    try:
        parsed = parse_export(export, new_id)
    except (ValidationError, ValueError, TypeError, KeyError) as error:
        raise click.UsageError(f"the export is damaged: {one_line(str(error), 300)}") from error
    session_id = parsed.session.id
    async with Engine(database_path(db), config=db.config()) as engine:
        store = engine.store
        if await session_exists(store, session_id) and (await store.session(session_id)).unfinished != "import":
            raise click.UsageError(
                f"session {clean(session_id)!r} already exists in {store.location}; choose another id with --as NEW_ID"
            )
        with progress("messages", len(parsed.messages)) as bar:
            replay = Replay(store, parsed, bar.advance)
            await replay.run()
        if parsed.session.forked_from is not None and not replay.shared_seq:
            origin = clean_line(parsed.session.forked_from.session_id)
            print_note(
                f"note: the messages that it shares with {origin} were stored again: they are not in this database"
            )
    return session_id, len(parsed.messages)
