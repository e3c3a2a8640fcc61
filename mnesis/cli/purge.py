"""`mnesis purge`: a session is erased, once what would go has been looked at."""

from __future__ import annotations

import asyncio
import shlex
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from mnesis.cli.database_option import Place, db_option, json_option, reading, writing
from mnesis.cli.id_lookup import find_session
from mnesis.cli.output import clean, counted, note, print_json
from mnesis.cli.storage_option import file_storage, storage_option
from mnesis.errors import FileNotStoredError

if TYPE_CHECKING:
    from mnesis.models.session import SessionRecord
    from mnesis.store.base import Store


@dataclass(frozen=True, slots=True)
class _Extent:
    """What a purge would take away, and what it would leave behind."""

    session: SessionRecord
    summaries: int
    children: list[str]
    own_files: list[str]

    def facts(self, applied: bool) -> dict[str, Any]:
        """For programs."""
        return {
            "session_id": self.session.id,
            "applied": applied,
            "messages": self.session.last_seq,
            "turns": self.session.turn_count,
            "summaries": self.summaries,
            "child_session_ids": self.children,
            "unreferenced_file_ids": self.own_files,
        }


@click.command(
    "purge", short_help="Erase a session; says first what would go.", epilog="Example: mnesis purge sess_1a --apply"
)
@click.argument("session_id", metavar="ID")
@click.option("--apply", "--yes", "applied", is_flag=True, help="Do it. There is no way back.")
@click.option(
    "--files", "with_files", is_flag=True, help="Also erase stored files that no other session here refers to."
)
@storage_option
@json_option
@db_option
def command(session_id: str, applied: bool, with_files: bool, storage: str | None, as_json: bool, db: Place) -> None:
    """Erase a session with everything that belongs to it; without --apply only say what would go.

    Sessions of its sub-agents stay, and are named. So do stored files, even if no other session of this database refers
    to them: other databases may use the same storage. Where none does, --files erases them too.
    """
    extent = asyncio.run(_purged(db, session_id) if applied else _looked_at(db, session_id))
    if applied and with_files:
        for content_id in extent.own_files:
            with suppress(FileNotStoredError):  # an odd id in the log never named a stored file
                file_storage(storage).remove(content_id)
    if as_json:
        print_json(extent.facts(applied) | {"files_erased": applied and with_files})
    else:
        _tell(extent, applied, with_files)


def _tell(extent: _Extent, applied: bool, with_files: bool) -> None:
    gone = "erased" if applied else "would be erased"
    state = extent.session
    figures = f"{counted(state.last_seq, 'message')}, {counted(state.turn_count, 'turn')}"
    print(f"session {clean(state.id)}: {figures}, {extent.summaries:,} summaries {gone}")
    for child in extent.children:
        print(f"  stays: session {clean(child)}, a sub-agent of it")
    for content_id in extent.own_files:
        print(f"  {gone if with_files else 'stays'}: file {clean(content_id)}, to which no other session here refers")
    if not applied:
        note(f"nothing was changed; to do it: mnesis purge {shlex.quote(state.id)} --apply")


async def _looked_at(db: Place, session_id: str) -> _Extent:
    async with reading(db) as store:
        return await _extent(store, await find_session(store, session_id))


async def _purged(db: Place, session_id: str) -> _Extent:
    async with writing(db) as engine:
        extent = await _extent(engine.store, await find_session(engine.store, session_id))
        await engine.purge(extent.session.id)
        return extent


async def _extent(store: Store, session: SessionRecord) -> _Extent:
    children: list[str] = []
    cursor: str | None = None
    while True:
        page = await store.sessions(cursor=cursor, parent_id=session.id)
        children += [child.id for child in page.sessions]
        cursor = page.next_cursor
        if cursor is None:
            break
    summaries = await store.summaries(session.id)
    return _Extent(session, len(summaries), children, await _own_files(store, session.id))


async def _own_files(store: Store, session_id: str) -> list[str]:
    """Files that no other session of this database refers to."""
    own = dict.fromkeys(each.content_id for each in await store.file_references(session_id=session_id))
    return [
        content_id
        for content_id in own
        if all(each.session_id == session_id for each in await store.file_references(content_id=content_id))
    ]
