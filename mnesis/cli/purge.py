"""`mnesis purge`: erase a session, after showing what would be erased."""

from __future__ import annotations

import asyncio
import shlex
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from mnesis.cli.database_option import DatabaseOption, db_option, json_option, open_engine, open_store
from mnesis.cli.id_lookup import find_session
from mnesis.cli.output import clean_line, pluralize, print_json, print_note
from mnesis.cli.storage_option import file_storage, storage_option
from mnesis.errors import FileNotStoredError

if TYPE_CHECKING:
    from mnesis.models.session import SessionRecord
    from mnesis.store.base import Store


@dataclass(frozen=True, slots=True)
class _PurgePlan:
    """What a purge erases, and what it leaves."""

    session: SessionRecord
    summaries: int
    child_ids: list[str]
    unshared_file_ids: list[str]

    def to_dict(self, applied: bool) -> dict[str, Any]:
        """Return the plan as a JSON object."""
        return {
            "session_id": self.session.id,
            "applied": applied,
            "messages": self.session.last_seq,
            "turns": self.session.turn_count,
            "summaries": self.summaries,
            "child_session_ids": self.child_ids,
            "unreferenced_file_ids": self.unshared_file_ids,
        }


@click.command(
    "purge", short_help="Erase a session; a dry run without --apply.", epilog="Example: mnesis purge sess_1a --apply"
)
@click.argument("session_id", metavar="ID")
@click.option("--apply", "--yes", "applied", is_flag=True, help="Erase. This cannot be undone.")
@click.option(
    "--files", "with_files", is_flag=True, help="Also erase stored files that no other session in this database uses."
)
@storage_option
@json_option
@db_option
def command(
    session_id: str, applied: bool, with_files: bool, storage: str | None, as_json: bool, db: DatabaseOption
) -> None:
    """Erase a session and everything that belongs to it. Without --apply, only show what would be erased.

    Sessions of its sub-agents are kept and listed. Stored files are also kept, because other databases may use the same
    storage. If none does, --files erases those that no other session in this database uses.
    """
    plan = asyncio.run(_purge(db, session_id) if applied else _load_plan(db, session_id))
    if applied and with_files:
        for content_id in plan.unshared_file_ids:
            with suppress(FileNotStoredError):  # an odd id in the log never named a stored file
                file_storage(storage).remove(content_id)
    if as_json:
        print_json(plan.to_dict(applied) | {"files_erased": applied and with_files})
    else:
        _print_plan(plan, applied, with_files)


def _print_plan(plan: _PurgePlan, applied: bool, with_files: bool) -> None:
    outcome = "erased" if applied else "would be erased"
    session = plan.session
    figures = f"{pluralize(session.last_seq, 'message')}, {pluralize(session.turn_count, 'turn')}"
    print(f"session {clean_line(session.id)}: {figures}, {plan.summaries:,} summaries {outcome}")
    for child in plan.child_ids:
        print(f"  kept: session {clean_line(child)}, one of its sub-agents")
    for content_id in plan.unshared_file_ids:
        print(
            f"  {outcome if with_files else 'kept'}: file {clean_line(content_id)}, used by no other session in this database"
        )
    if not applied:
        print_note(f"nothing was changed; to erase: mnesis purge {clean_line(shlex.quote(session.id))} --apply")


async def _load_plan(db: DatabaseOption, session_id: str) -> _PurgePlan:
    async with open_store(db) as store:
        return await _make_plan(store, await find_session(store, session_id))


async def _purge(db: DatabaseOption, session_id: str) -> _PurgePlan:
    async with open_engine(db) as engine:
        plan = await _make_plan(engine.store, await find_session(engine.store, session_id))
        await engine.purge(plan.session.id)
        return plan


async def _make_plan(store: Store, session: SessionRecord) -> _PurgePlan:
    child_ids: list[str] = []
    cursor: str | None = None
    while True:
        page = await store.sessions(cursor=cursor, parent_id=session.id)
        child_ids += [child.id for child in page.sessions]
        cursor = page.next_cursor
        if cursor is None:
            break
    summaries = await store.summaries(session.id)
    return _PurgePlan(session, len(summaries), child_ids, await _unshared_file_ids(store, session.id))


async def _unshared_file_ids(store: Store, session_id: str) -> list[str]:
    """Return the files that no other session of this database refers to."""
    content_ids = dict.fromkeys(each.content_id for each in await store.file_references(session_id=session_id))
    return [
        content_id
        for content_id in content_ids
        if all(each.session_id == session_id for each in await store.file_references(content_id=content_id))
    ]
