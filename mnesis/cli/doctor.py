"""`mnesis doctor`: check the environment and the database, and suggest fixes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mnesis.cli.app import PROBLEM_FOUND, STORE_UNUSABLE
from mnesis.cli.database_option import (
    DatabaseOption,
    NoDatabaseError,
    database_path,
    db_option,
    existing_database_path,
    json_option,
    open_store,
)
from mnesis.cli.findings import count_findings, print_findings
from mnesis.cli.follow_progress import follow_progress
from mnesis.cli.id_lookup import find_session
from mnesis.cli.output import make_console, pluralize, print_json
from mnesis.cli.storage_option import file_storage, referenced_content_ids, storage_option
from mnesis.database_url import DatabaseURL
from mnesis.display.progress_bar import progress
from mnesis.errors import (
    CorruptStoreError,
    EncryptionKeyError,
    MnesisStoreError,
    NotFoundError,
    ReadOnlyStoreError,
    SchemaTooNewError,
    StoreBusyError,
    StoreIOError,
)

if TYPE_CHECKING:
    from mnesis.models.finding import Finding

_FIX_BY_ERROR = {
    EncryptionKeyError: "set MNESIS_ENCRYPTION_KEY or MNESIS_ENCRYPTION_KEY_FILE to the key of this database",
    CorruptStoreError: "copy all that can be read: mnesis salvage DB --to NEW; if nothing can, continue with your last backup",
    SchemaTooNewError: "pip install --upgrade mnesis",
    StoreIOError: "check the disk and the system log (dmesg), then run this command again",
    ReadOnlyStoreError: "run mnesis migrate if the message mentions an update; otherwise check the permissions",
    StoreBusyError: "end the process that has locked the database, or try again when it has finished",
}


@click.command("doctor", short_help="Check the environment and the database.", epilog="Example: mnesis doctor --deep")
@click.argument("session_id", metavar="[ID]", required=False)
@click.option("--deep", is_flag=True, help="Also read every stored file that messages refer to.")
@storage_option
@json_option
@db_option
@click.pass_context
def command(
    ctx: click.Context, session_id: str | None, deep: bool, storage: str | None, as_json: bool, db: DatabaseOption
) -> None:
    """Check this environment and the database: versions, permissions, every stored hash, edge and count.

    With ID only that session is checked. --deep also reads every stored file that messages refer to. Nothing is changed,
    and every problem comes with a fix. The exit code is 1 if there is an error (0 for warnings alone), 3 if the database
    cannot be used at all.
    """
    from mnesis.cli.doctor_environment import environment_findings

    findings = list(environment_findings(_sqlite_release(db)))
    usable, database_findings = _database_findings(db, session_id)
    if deep and usable:
        database_findings += _stored_file_findings(db, session_id, storage)
    findings += database_findings
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        _print(findings)
    if not usable:
        ctx.exit(STORE_UNUSABLE)
    if any(finding.severity == "error" for finding in findings):
        ctx.exit(PROBLEM_FOUND)


def _sqlite_release(db: DatabaseOption) -> tuple[int, ...] | None:
    """Return the release of SQLite that opens this database, or None if it is on a server."""
    if isinstance(database_path(db), DatabaseURL):
        return None
    from mnesis.store.sqlite.keyed_file import is_installed, sqlite_version

    key = db.config().store.read_encryption_key() if is_installed() else None
    return sqlite_version(key)


def _database_findings(db: DatabaseOption, session_id: str | None) -> tuple[bool, list[Finding]]:
    """Return whether the database can be used, and the findings about it."""
    from mnesis.cli.doctor_environment import file_findings
    from mnesis.models.finding import Finding

    try:
        path = existing_database_path(db)
    except NoDatabaseError as error:
        fix = "pass the right path with --db or MNESIS_DB; opening the first session creates the database"
        is_requested = db.path is not None or session_id is not None
        return not is_requested, [
            Finding("error" if is_requested else "ok", "database", str(error), fix if is_requested else "")
        ]
    findings = list(file_findings(path)) if isinstance(path, Path) else []
    try:
        return True, [*findings, *asyncio.run(_check_database(db, session_id))]
    except NotFoundError:
        raise
    except MnesisStoreError as error:
        return False, [*findings, Finding("error", "database", str(error), _suggest_fix(error))]


def _stored_file_findings(db: DatabaseOption, session_id: str | None, storage: str | None) -> list[Finding]:
    """Check the stored files that messages refer to."""
    from mnesis.models.finding import Finding

    try:
        ids = asyncio.run(referenced_content_ids(db, session_id))
    except NoDatabaseError:
        return []
    store, findings = file_storage(storage, db), []
    with progress("stored files", len(ids)) as bar:
        for content_id in ids:
            findings += store.check([content_id])
            bar.advance()
    if findings:
        return findings
    return [Finding("ok", "files", f"{pluralize(len(ids), 'stored file')} referenced, all intact in {store.address}")]


def _suggest_fix(error: MnesisStoreError) -> str:
    """Return advice for a database that cannot be opened."""
    for kind, fix in _FIX_BY_ERROR.items():
        if isinstance(error, kind):
            return fix
    return "fix the cause in the message, then run this command again"


async def _check_database(db: DatabaseOption, session_id: str | None) -> list[Finding]:
    from mnesis.models.finding import Finding

    async with open_store(db) as store:
        chosen_id = (await find_session(store, session_id)).id if session_id is not None else None
        with progress("checking sessions") as bar:
            findings = await store.check(session_id=chosen_id, on_progress=follow_progress(bar))
        subject = f"session {chosen_id}" if chosen_id is not None else str(database_path(db))
    if any(finding.severity != "ok" for finding in findings):
        return findings
    return [*findings, Finding("ok", "content", f"{subject}: hashes, edges, covers and counts agree")]


def _print(findings: Sequence[Finding]) -> None:
    from rich.text import Text

    console = make_console()
    print_findings(findings, console)
    has_errors = any(finding.severity == "error" for finding in findings)
    console.print(Text(count_findings(findings), style="bold red" if has_errors else "bold"))
