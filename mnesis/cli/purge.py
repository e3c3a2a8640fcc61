"""`mnesis purge`: erase a session, or sessions by rule, after showing what would be erased."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from mnesis.cli.database_option import DatabaseOption, db_option, json_option, open_engine, open_store
from mnesis.cli.id_lookup import find_session
from mnesis.cli.output import clean_line, pluralize, print_json, print_note
from mnesis.cli.storage_option import file_config, file_storage, storage_option
from mnesis.cli.time_option import TIME_PARAM
from mnesis.display.progress_bar import progress
from mnesis.errors import FileNotStoredError
from mnesis.ids import now_ms
from mnesis.models.retention import DAY_MS, PurgePlan

if TYPE_CHECKING:
    from mnesis.config import RetentionConfig
    from mnesis.engine.engine import Engine
    from mnesis.models.session import SessionRecord
    from mnesis.store.base import Store


@dataclass(frozen=True, slots=True)
class _PurgePlan:
    """The records that a purge erases, and those that it keeps."""

    session: SessionRecord
    summaries: int
    child_ids: list[str]
    fork_ids: list[str]
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
            "fork_ids": self.fork_ids,
            "unreferenced_file_ids": self.unshared_file_ids,
        }


@click.command(
    "purge",
    short_help="Erase sessions; a dry run without --apply.",
    epilog="Example: mnesis purge --older-than 90d --keep-last 100 --apply",
)
@click.argument("session_id", metavar="[ID]", required=False)
@click.option("--older-than", type=TIME_PARAM, metavar="AGE", help="Sessions not used since: an age (90d) or a date.")
@click.option("--keep-last", type=click.IntRange(min=0), metavar="N", help="Keep the N most recently used that match.")
@click.option("--match", metavar="PATTERN", help="Sessions whose id, title or agent matches: 'test-*'.")
@click.option("--apply", "--yes", "applied", is_flag=True, help="Erase. This cannot be undone.")
@click.option(
    "--files/--keep-files",
    "with_files",
    default=None,
    help="Erase or keep stored files that no remaining session uses; with ID they are kept by default, with a rule erased.",
)
@click.option("--with-forks", is_flag=True, help="With ID: erase its forks too, which need its messages.")
@storage_option
@json_option
@db_option
def command(
    session_id: str | None,
    older_than: int | None,
    keep_last: int | None,
    match: str | None,
    applied: bool,
    with_files: bool | None,
    with_forks: bool,
    storage: str | None,
    as_json: bool,
    db: DatabaseOption,
) -> None:
    """Erase a session and everything that belongs to it, or all sessions that a rule selects. Without --apply, only show what
    would be erased.

    With ID, sessions of its sub-agents are kept and listed. Stored files are also kept, because other databases may use
    the same storage. --files erases those that no other session in this database uses; pass it if no other database
    does. A session with forks, which share its messages, is erased only with --with-forks, and its forks with it.

    With a rule, all given conditions must hold. A session is kept if one of its sub-agents or forks is kept. Files are
    erased if no session of any database that uses the storage refers to them.
    """
    has_rule = (older_than, keep_last, match) != (None, None, None)
    if has_rule == (session_id is not None):
        raise click.UsageError("pass the ID of a session, or a rule: --older-than, --keep-last, --match")
    if with_forks and session_id is None:
        raise click.UsageError("--with-forks needs the ID of a session; a rule erases forks that it selects")
    if session_id is None:
        # Loaded here, because pydantic takes a while and help needs none of it.
        from mnesis.config import RetentionConfig

        rule = RetentionConfig(
            older_than_days=None if older_than is None else max((now_ms() - older_than) / DAY_MS, 1e-9),
            keep_last=keep_last,
            match=match,
            purge_files=with_files is not False,
        )
        result = asyncio.run(_purge_by_rule(db, rule, storage, applied))
        print_json(_rule_document(result, applied)) if as_json else _print_rule_result(result, applied)
        return
    plan = asyncio.run(_purge(db, session_id, with_forks) if applied else _load_plan(db, session_id))
    with_files = bool(with_files)
    if applied and with_files:
        for content_id in plan.unshared_file_ids:
            with suppress(FileNotStoredError):  # an id of another form in the log never named a stored file
                file_storage(storage, db).remove(content_id)
    if as_json:
        print_json(plan.to_dict(applied) | {"files_erased": applied and with_files})
    else:
        _print_plan(plan, applied, with_files, with_forks)


async def _purge_by_rule(db: DatabaseOption, rule: RetentionConfig, storage: str | None, applied: bool) -> PurgePlan:
    async with open_engine(db, file=file_config(storage)) as engine:
        plan = await engine.plan_purge(rule)
        if not applied:
            return plan
        with _follow_purge(engine, len(plan.sessions)):
            return await engine.apply_purge(plan)


@contextmanager
def _follow_purge(engine: Engine, session_count: int) -> Iterator[None]:
    from mnesis.events.bus import MnesisEvent

    with progress("erasing sessions", session_count) as bar:
        engine.events.subscribe(MnesisEvent.SESSION_DELETED, lambda event, payload: bar.advance())
        yield


def _rule_document(plan: PurgePlan, applied: bool) -> dict[str, Any]:
    return {
        "applied": applied,
        "session_ids": [session.id for session in plan.sessions],
        "messages": plan.message_count,
        "kept": plan.kept,
        "file_ids": list(plan.file_ids),
    }


def _print_rule_result(plan: PurgePlan, applied: bool) -> None:
    outcome = "erased" if applied else "would be erased"
    for session in plan.sessions:
        print(f"  {outcome}: session {clean_line(session.id)}, {pluralize(session.last_seq, 'message')}")
    for parent, child in plan.kept.items():
        print(
            f"  kept: session {clean_line(parent)}, because session {clean_line(child)} is one of its sub-agents or forks and is kept"
        )
    for content_id in plan.file_ids:
        print(f"  {outcome}: file {clean_line(content_id)}, used by no other session")
    figures = f"{pluralize(len(plan.sessions), 'session')}, {pluralize(plan.message_count, 'message')}"
    print(f"{figures}, {pluralize(len(plan.file_ids), 'file')} {outcome}")
    if not applied:
        print_note("nothing was changed; to erase, repeat the command with --apply")


def _print_plan(plan: _PurgePlan, applied: bool, with_files: bool, with_forks: bool) -> None:
    outcome = "erased" if applied else "would be erased"
    session = plan.session
    figures = f"{pluralize(session.last_seq, 'message')}, {pluralize(session.turn_count, 'turn')}"
    print(f"session {clean_line(session.id)}: {figures}, {plan.summaries:,} summaries {outcome}")
    for child in plan.child_ids:
        print(f"  kept: session {clean_line(child)}, one of its sub-agents")
    for fork in plan.fork_ids:
        print(f"  {outcome if with_forks else 'needs it'}: session {clean_line(fork)}, one of its forks")
    for content_id in plan.unshared_file_ids:
        print(
            f"  {outcome if with_files else 'kept'}: file {clean_line(content_id)}, used by no other session in this database"
        )
    if not applied:
        options = "--with-forks --apply" if plan.fork_ids else "--apply"
        print_note(f"nothing was changed; to erase: mnesis purge {clean_line(shlex.quote(session.id))} {options}")


async def _load_plan(db: DatabaseOption, session_id: str) -> _PurgePlan:
    async with open_store(db) as store:
        return await _make_plan(store, await find_session(store, session_id))


async def _purge(db: DatabaseOption, session_id: str, with_forks: bool) -> _PurgePlan:
    from mnesis.engine.retention import find_unused_files

    async with open_engine(db) as engine:
        plan = await _make_plan(engine.store, await find_session(engine.store, session_id))
        with _follow_purge(engine, 1 + (len(plan.fork_ids) if with_forks else 0)):
            await engine.purge(plan.session.id, with_forks=with_forks)
        # In the meantime another process may have started to use one of them.
        return replace(plan, unshared_file_ids=await find_unused_files(engine.store, plan.unshared_file_ids))


async def _make_plan(store: Store, session: SessionRecord) -> _PurgePlan:
    from mnesis.engine.retention import find_unused_files

    child_ids: list[str] = []
    cursor: str | None = None
    while True:
        page = await store.sessions(cursor=cursor, parent_id=session.id)
        child_ids += [child.id for child in page.sessions]
        cursor = page.next_cursor
        if cursor is None:
            break
    summaries = await store.summaries(session.id)
    fork_ids = await store.forks(session.id)
    content_ids = dict.fromkeys(each.content_id for each in await store.file_references(session_id=session.id))
    unshared_file_ids = await find_unused_files(store, content_ids, {session.id})
    return _PurgePlan(session, len(summaries), child_ids, fork_ids, unshared_file_ids)
