"""`mnesis verify` and `mnesis seal`: prove that stored sessions are unchanged."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mnesis.cli.app import PROBLEM_FOUND
from mnesis.cli.database_option import DatabaseOption, db_option, json_option, open_engine, open_store
from mnesis.cli.findings import count_findings, print_findings
from mnesis.cli.follow_progress import follow_progress
from mnesis.cli.id_lookup import find_session
from mnesis.cli.output import clean_line, make_console, print_json, print_note
from mnesis.display.progress_bar import progress

if TYPE_CHECKING:
    from mnesis.models.finding import Verification

_KEY_FILE = click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File with the key that seals the database [env: MNESIS_INTEGRITY_KEY_FILE].",
)


@click.command(
    "verify",
    short_help="Prove that nothing was changed, and print the heads.",
    epilog="Example: mnesis verify --heads-file heads.txt",
)
@click.argument("session_id", metavar="[ID]", required=False)
@click.option("--head", "heads", multiple=True, metavar="SESSION=HASH", help="An earlier head; may be repeated.")
@click.option(
    "--heads-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Earlier heads, one per line, as this command prints them.",
)
@_KEY_FILE
@json_option
@db_option
@click.pass_context
def verify(
    ctx: click.Context,
    session_id: str | None,
    heads: Sequence[str],
    heads_file: Path | None,
    key_file: Path | None,
    as_json: bool,
    db: DatabaseOption,
) -> None:
    """Check every hash of the database and print the head of each session as SESSION=HASH.

    Keep the heads somewhere else. With an earlier head, the command proves that the messages it covers were not changed,
    removed or reordered since. With the key that seals the database, it proves that nobody without the key changed
    anything. The exit code is 1 if something does not agree.
    """
    earlier = _parse_heads([*heads, *(_read_lines(heads_file) if heads_file is not None else ())])
    verification = asyncio.run(_verify(db.with_key_file(key_file), session_id, earlier))
    findings = verification.findings
    if as_json:
        print_json(
            {"heads": [asdict(head) for head in verification.heads], "findings": [asdict(each) for each in findings]}
        )
    else:
        for head in verification.heads:
            print(clean_line(str(head)))
        print_findings(findings, make_console(sys.stderr))
        print_note(count_findings(findings))
    if not verification.is_intact:
        ctx.exit(PROBLEM_FOUND)


async def _verify(db: DatabaseOption, session_id: str | None, heads: dict[str, list[str]]) -> Verification:
    async with open_store(db) as store:
        chosen_id = (await find_session(store, session_id)).id if session_id is not None else None
        with progress("verifying sessions") as bar:
            return await store.verify(session_id=chosen_id, heads=heads, on_progress=follow_progress(bar))


def _read_lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{path} cannot be read: {error}; pass a file that `mnesis verify` printed") from error
    return [line for line in lines if line.strip()]


def _parse_heads(texts: Iterable[str]) -> dict[str, list[str]]:
    heads: dict[str, list[str]] = {}
    for text in texts:
        session_id, separator, head = text.strip().rpartition("=")
        if not separator:
            raise click.UsageError(f"{text!r} is not a head; write SESSION=HASH, as `mnesis verify` prints it")
        heads.setdefault(session_id, []).append(head)
    return heads


@click.command(
    "seal", short_help="Seal the database with a key.", epilog="Example: mnesis seal --key-file ~/.mnesis/integrity.key"
)
@_KEY_FILE
@json_option
@db_option
def seal(key_file: Path | None, as_json: bool, db: DatabaseOption) -> None:
    """Seal every session and map run with a key, after checking that all hashes agree.

    From then on, processes need the key to write (StoreConfig.integrity_key, or MNESIS_INTEGRITY_KEY_FILE for commands),
    and `mnesis verify --key-file` proves that nobody without it changed anything. Reading needs no key.
    """
    count = asyncio.run(_seal(db.with_key_file(key_file)))
    if as_json:
        print_json({"sealed": count})
    else:
        print_note(f"{count} sessions and runs are sealed with the key")


async def _seal(db: DatabaseOption) -> int:
    async with open_engine(db) as engine:
        with progress("checking and sealing sessions") as bar:
            return await engine.store.seal(follow_progress(bar))
