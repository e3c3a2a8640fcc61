"""`mnesis doctor`: what is wrong here, and what to do about it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from mnesis.cli.app import PROBLEM_FOUND, STORE_UNUSABLE
from mnesis.cli.database import NoDatabaseError, database_path, db_option, existing_database, find_session, json_option
from mnesis.cli.environment import environment_findings, file_findings
from mnesis.cli.screen import clean, console, counted, print_json
from mnesis.errors import CorruptStoreError, MnesisStoreError, NotFoundError, SchemaTooNewError, StoreBusyError
from mnesis.models.context import Finding

if TYPE_CHECKING:
    from rich.text import Text

_FIXES = {
    CorruptStoreError: "keep this file as it is and work on with your last good copy of it",
    SchemaTooNewError: "pip install --upgrade mnesis",
    StoreBusyError: "end the process that holds the database, or try again when it is done",
}
_MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "error": ("✗", "bold red")}


@click.command("doctor", short_help="Look for what is wrong, and say what to do.")
@click.argument("session_id", metavar="[ID]", required=False)
@json_option
@db_option
@click.pass_context
def command(ctx: click.Context, session_id: str | None, as_json: bool, db: str | None) -> None:
    """Examine this environment and the database: versions, permissions, every stored hash, edge and count.

    With ID only that session is examined. Nothing is changed. Every finding says what to do. Exit code 1 if there is
    an error (warnings alone are 0), 3 if the database cannot be used at all.
    """
    findings = list(environment_findings())
    usable, found = _database_findings(db, session_id)
    findings += found
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        _print(findings)
    if not usable:
        ctx.exit(STORE_UNUSABLE)
    if any(finding.severity == "error" for finding in findings):
        ctx.exit(PROBLEM_FOUND)


def _database_findings(db: str | None, session_id: str | None) -> tuple[bool, list[Finding]]:
    """Whether the database can be used, and what was found."""
    try:
        path = existing_database(db)
    except NoDatabaseError as error:
        fix = "name the right one with --db or MNESIS_DB; it is made when the first session is opened"
        asked_for = db is not None or session_id is not None
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


def _fix(error: MnesisStoreError) -> str:
    """What to do about a database that does not open."""
    for kind, fix in _FIXES.items():
        if isinstance(error, kind):
            return fix
    return "see to the cause the message names, then run this again"


async def _checked(db: str | None, session_id: str | None) -> list[Finding]:
    from mnesis.engine import Engine

    async with Engine(database_path(db)) as engine:
        chosen = (await find_session(engine.store, session_id)).id if session_id is not None else None
        found = await engine.store.check(session_id=chosen)
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
