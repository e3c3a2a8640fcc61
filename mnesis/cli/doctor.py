"""`mnesis doctor`: what is wrong here, and what to do about it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from mnesis.cli.app import PROBLEM_FOUND, STORE_UNUSABLE
from mnesis.cli.database_option import (
    NoDatabaseError,
    Place,
    database_path,
    db_option,
    existing_database,
    json_option,
    reading,
)
from mnesis.cli.id_lookup import find_session
from mnesis.cli.output import clean, console, counted, print_json
from mnesis.cli.storage_option import file_storage, storage_option
from mnesis.display.progress_bar import progress
from mnesis.errors import (
    CorruptStoreError,
    MnesisStoreError,
    NotFoundError,
    ReadOnlyStoreError,
    SchemaTooNewError,
    StoreBusyError,
)

if TYPE_CHECKING:
    from rich.text import Text

    from mnesis.models.finding import Finding

_FIXES = {
    CorruptStoreError: "keep this file as it is and work on with your last good copy of it",
    SchemaTooNewError: "pip install --upgrade mnesis",
    ReadOnlyStoreError: "mnesis migrate, if the message names an update; else see to the permissions",
    StoreBusyError: "end the process that holds the database, or try again when it is done",
}
_MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "error": ("✗", "bold red")}


@click.command(
    "doctor", short_help="Look for what is wrong, and say what to do.", epilog="Example: mnesis doctor --deep"
)
@click.argument("session_id", metavar="[ID]", required=False)
@click.option("--deep", is_flag=True, help="Also read the stored files that messages refer to, whole.")
@storage_option
@json_option
@db_option
@click.pass_context
def command(
    ctx: click.Context, session_id: str | None, deep: bool, storage: str | None, as_json: bool, db: Place
) -> None:
    """Examine this environment and the database: versions, permissions, every stored hash, edge and count.

    With ID only that session is examined. --deep also reads every stored file that messages refer to. Nothing is
    changed. Every finding says what to do. Exit code 1 if there is an error (warnings alone are 0), 3 if the database
    cannot be used at all.
    """
    from mnesis.cli.doctor_environment import environment_findings

    findings = list(environment_findings())
    usable, found = _database_findings(db, session_id)
    if deep and usable:
        found += _stored_file_findings(db, session_id, storage)
    findings += found
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        _print(findings)
    if not usable:
        ctx.exit(STORE_UNUSABLE)
    if any(finding.severity == "error" for finding in findings):
        ctx.exit(PROBLEM_FOUND)


def _database_findings(db: Place, session_id: str | None) -> tuple[bool, list[Finding]]:
    """Whether the database can be used, and what was found."""
    from mnesis.cli.doctor_environment import file_findings
    from mnesis.models.finding import Finding

    try:
        path = existing_database(db)
    except NoDatabaseError as error:
        fix = "name the right one with --db or MNESIS_DB; it is made when the first session is opened"
        asked_for = db.path is not None or session_id is not None
        return not asked_for, [
            Finding("error" if asked_for else "ok", "database", str(error), fix if asked_for else "")
        ]
    found = list(file_findings(path))
    try:
        return True, [*found, *asyncio.run(_checked(db, session_id))]
    except NotFoundError:
        raise
    except MnesisStoreError as error:
        return False, [*found, Finding("error", "database", str(error), _fix(error))]


def _stored_file_findings(db: Place, session_id: str | None, storage: str | None) -> list[Finding]:
    """What is wrong with the files that messages refer to."""
    from mnesis.models.finding import Finding

    try:
        ids = asyncio.run(_referenced(db, session_id))
    except NoDatabaseError:
        return []
    store, found = file_storage(storage), []
    with progress("stored files", len(ids)) as bar:
        for content_id in ids:
            found += store.check([content_id])
            bar.advance()
    if found:
        return found
    return [Finding("ok", "files", f"{counted(len(ids), 'stored file')} referred to, all whole in {store.directory}")]


async def _referenced(db: Place, session_id: str | None) -> list[str]:
    async with reading(db) as store:
        chosen = (await find_session(store, session_id)).id if session_id is not None else None
        return list(dict.fromkeys(each.content_id for each in await store.file_references(session_id=chosen)))


def _fix(error: MnesisStoreError) -> str:
    """What to do about a database that does not open."""
    for kind, fix in _FIXES.items():
        if isinstance(error, kind):
            return fix
    return "see to the cause the message names, then run this again"


async def _checked(db: Place, session_id: str | None) -> list[Finding]:
    from mnesis.models.finding import Finding

    async with reading(db) as store:
        chosen = (await find_session(store, session_id)).id if session_id is not None else None
        with progress("checking"):
            found = await store.check(session_id=chosen)
        place = f"session {chosen}" if chosen is not None else str(database_path(db))
    if any(finding.severity != "ok" for finding in found):
        return found
    return [*found, Finding("ok", "content", f"{place}: hashes, edges, covers and counts agree")]


def _print(findings: Sequence[Finding]) -> None:
    from rich.text import Text

    screen = console()
    for finding in findings:
        screen.print(_line(finding))
    worst = {severity: sum(f.severity == severity for f in findings) for severity in ("error", "warning")}
    summary = f"{counted(worst['error'], 'error')}, {counted(worst['warning'], 'warning')}"
    screen.print(Text(summary, style="bold red" if worst["error"] else "bold"))


def _line(finding: Finding) -> Text:
    from rich.text import Text

    mark, style = _MARKS[finding.severity]
    fix = f"\n    fix: {clean(finding.fix)}" if finding.fix else ""
    return Text.assemble((mark, style), f" {finding.check}: {clean(finding.detail)}", (fix, "bold"))
