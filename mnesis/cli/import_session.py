"""`mnesis import`: an exported session, back in a database."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import IO, TYPE_CHECKING, Any

import click

from mnesis.cli.database_option import Place, database_path, db_option, is_stored, json_option
from mnesis.cli.export_files import keep
from mnesis.cli.export_format import FORMAT, FORMAT_VERSION, read_line
from mnesis.cli.output import clean, counted, note, one_line, print_json
from mnesis.cli.storage_option import file_storage, storage_option
from mnesis.display.progress_bar import progress

if TYPE_CHECKING:
    from mnesis.files.storage import FileStorage

KINDS = ("session", "message", "summary", "cover", "prune", "turn", "compaction", "interruption")


@click.command(
    "import", short_help="Bring an exported session back.", epilog="Example: mnesis import talk.jsonl --as talk-copy"
)
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--as", "new_id", metavar="NEW_ID", help="Give the session this id instead of its own.")
@storage_option
@json_option
@db_option
def command(file: str, new_id: str | None, storage: str | None, as_json: bool, db: Place) -> None:
    """Bring an exported session back.

    Restored exactly: every message (id, place, parts, token counts, reported usage, extra fields), the session's
    settings, summaries with their originals and children, what stands in the context now, lifetime usage and cost,
    interruptions, stored files that were exported with it. Taken anew: the times of compactions and of last use, and
    the token figures of past turns, which are the stored counts without what providers reported. Pruned outputs inside
    folded spans come back unpruned. The link to a parent session is kept where the parent is there.

    A session of the same id must not be there.
    """
    with _opened(file) as lines:
        export = _parsed(lines, file_storage(storage))
    session_id, messages = asyncio.run(_import(export, new_id, db))
    if as_json:
        print_json({"session_id": session_id, "messages": messages})
    else:
        note(f"session {session_id}: {counted(messages, 'message')} imported")


@contextmanager
def _opened(file: str) -> Iterator[IO[str]]:
    try:
        with click.open_file(file, encoding="utf-8") as lines:
            yield lines
    except OSError as error:
        raise click.UsageError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{file} is no export of mnesis: it is not text") from error


def _parsed(lines: Iterable[str], storage: FileStorage) -> dict[str, list[dict[str, Any]]]:
    """The lines by kind; stored files among them are stored here as they come."""
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for file_id, values in groupby(_values(lines), _file_id):
        if file_id is not None:
            keep(storage, file_id, values)
        else:
            for value in values:
                found[value["kind"]].append(value)
    if not found["session"]:
        raise click.UsageError("this file is empty; it is no export of mnesis")
    return found


def _file_id(value: dict[str, Any]) -> str | None:
    return str(value.get("id")) if value["kind"] == "file" else None


def _values(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """What the lines hold; the first is that of a session."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = read_line(line)
        except (ValueError, RecursionError) as error:
            raise click.UsageError(f"line {number} cannot be read: {clean(str(error))}") from error
        if value["kind"] not in (*KINDS, "file"):
            raise click.UsageError(f"line {number} is of the unknown kind {clean(value['kind'])!r}")
        if number == 1:
            _check_head(value)
        yield value


def _check_head(head: dict[str, Any]) -> None:
    if head["kind"] != "session" or head.get("format") != FORMAT:
        raise click.UsageError("the first line names no session; this is no export of mnesis")
    if head.get("version") != FORMAT_VERSION:
        found = clean(str(head.get("version")))
        raise click.UsageError(f"the export has version {found}, this mnesis reads {FORMAT_VERSION}; upgrade mnesis")


async def _import(export: dict[str, list[dict[str, Any]]], new_id: str | None, db: Place) -> tuple[str, int]:
    from pydantic import ValidationError

    from mnesis.cli.import_replay import Replay, parsed_export
    from mnesis.engine.engine import Engine

    try:
        parsed = parsed_export(export, new_id)
    except (ValidationError, ValueError, TypeError, KeyError) as error:
        raise click.UsageError(f"the export is damaged: {one_line(str(error), 300)}") from error
    session_id = parsed.session.id
    async with Engine(database_path(db), config=db.config()) as engine:
        store = engine.store
        if await is_stored(store, session_id):
            raise click.UsageError(
                f"session {clean(session_id)!r} is in {store.location} already; give it another id with --as NEW_ID"
            )
        with progress("messages", len(parsed.messages)) as bar:
            await Replay(store, parsed, bar.advance).run()
    return session_id, len(parsed.messages)
