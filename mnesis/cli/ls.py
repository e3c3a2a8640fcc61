"""`mnesis ls`: the sessions of a database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from mnesis.cli.database_option import DatabaseOption, all_sessions, db_option, json_option, jsonl_option, open_store
from mnesis.cli.output import (
    clean_line,
    line_cell,
    make_console,
    make_table,
    pluralize,
    print_json,
    print_note,
    relative_time,
    shortest_unique_prefixes,
    to_json,
)
from mnesis.cli.time_option import TIME_PARAM

if TYPE_CHECKING:
    from mnesis.models.session import SessionRecord
    from mnesis.store.base import Store

_TITLE_WIDTH_CHARS = 48
_MIN_ID_CHARS = 8
_NUMBER_KEYS = ("messages", "context_tokens", "compactions")


@click.command("ls", short_help="List sessions.", epilog="Example: mnesis ls --since 7d --tree")
@click.option("--agent", metavar="NAME", help="Only sessions of this agent.")
@click.option("--since", type=TIME_PARAM, metavar="WHEN", help="Only sessions used since: 2026-03-01, 12h, 7d.")
@click.option("--tree", is_flag=True, help="Show sessions of sub-agents below their parent.")
@click.option(
    "-n", "--limit", default=50, show_default=True, type=click.IntRange(min=1), help="Maximum number of sessions."
)
@jsonl_option
@json_option
@db_option
def command(
    agent: str | None, since: int | None, tree: bool, limit: int, as_jsonl: bool, as_json: bool, db: DatabaseOption
) -> None:
    """List sessions, most recently used first.

    The ids are shortened to unique prefixes; --json prints complete ids. With --tree, --limit, --agent and --since
    apply only to top-level sessions; the sessions of their sub-agents follow them. ⑂ marks a fork, a session that
    shares its first messages with another one.
    """
    rows, more, short_ids = asyncio.run(_rows(db, agent, since, tree, limit))
    if as_json:
        print_json(rows)
    elif as_jsonl:
        for row in rows:
            print(to_json(row))
    else:
        _print(rows, short_ids)
    if not rows:
        print_note("no sessions" if agent or since else "no sessions yet")
    if more:
        print_note(f"{pluralize(limit, 'session')} shown; there are more (-n)")


def _print(rows: list[dict[str, Any]], short_ids: Mapping[str, str]) -> None:
    from rich.text import Text

    from mnesis.ids import now_ms

    numbers, now = ("messages", "context", "folds"), now_ms()
    rows_table = make_table("title", "id", *numbers, "last used", right=numbers, shrinking="title")
    for row in rows:
        branch = "  " * row["depth"] + ("└ " if row["depth"] else "")
        if row["forked_from"] is not None:
            branch += "⑂ "
        title = line_cell(row["title"] or "(empty)", _TITLE_WIDTH_CHARS - len(branch))
        title = Text.assemble(branch, title, no_wrap=True, overflow="ellipsis")
        figures = (f"{row[number]:,}" for number in _NUMBER_KEYS)
        rows_table.add_row(title, clean_line(short_ids[row["id"]]), *figures, relative_time(row["updated_at"], now))
    make_console().print(rows_table)


async def _rows(
    db: DatabaseOption, agent: str | None, since: int | None, tree: bool, limit: int
) -> tuple[list[dict[str, Any]], bool, Mapping[str, str]]:
    """Return the rows, whether there are more, and the shortest unique beginning of every id."""
    rows: list[dict[str, Any]] = []
    top_level_count = 0
    async with open_store(db) as store:
        ids = {session.id async for session in all_sessions(store)}
        short_ids = shortest_unique_prefixes(ids, _MIN_ID_CHARS)
        async for session in all_sessions(store):
            is_too_old = since is not None and session.updated_at < since
            if is_too_old or (agent is not None and session.agent != agent) or (tree and session.parent_id in ids):
                continue
            if top_level_count == limit:
                return rows, True, short_ids
            top_level_count += 1
            rows.append(await _row(store, session, 0))
            if tree:
                rows += [
                    await _row(store, child, depth)
                    async for child, depth in _descendants(store, session, 1, {session.id})
                ]
    return rows, False, short_ids


async def _descendants(
    store: Store, session: SessionRecord, depth: int, seen: set[str]
) -> AsyncIterator[tuple[SessionRecord, int]]:
    """Yield the sessions of sub-agents with their depth, each before its own sub-agents."""
    cursor: str | None = None
    while True:
        page = await store.sessions(cursor=cursor, parent_id=session.id)
        for child in page.sessions:
            if child.id not in seen:
                seen.add(child.id)
                yield child, depth
                async for each in _descendants(store, child, depth + 1, seen):
                    yield each
        cursor = page.next_cursor
        if cursor is None:
            return


async def _row(store: Store, session: SessionRecord, depth: int) -> dict[str, Any]:
    from mnesis.errors import CorruptStoreError

    try:
        return await _describe(store, session, depth)
    except CorruptStoreError:
        return await _describe(store, replace(session, damage="it is damaged; run mnesis doctor"), depth)


async def _title(store: Store, session: SessionRecord) -> str:
    if session.damage is not None:
        return f"[{session.damage}]"
    title = session.title or await _first_words(store, session.id)
    return title if session.unfinished is None else f"[unfinished {session.unfinished}] {title}"


async def _describe(store: Store, session: SessionRecord, depth: int) -> dict[str, Any]:
    return {
        "id": session.id,
        "title": await _title(store, session),
        "model": session.model,
        "agent": session.agent,
        "parent_id": session.parent_id,
        "depth": depth,
        "messages": session.last_seq,
        "turns": session.turn_count,
        "context_tokens": session.context_tokens,
        "compactions": 0 if session.damage else len(await store.compactions(session.id)),
        "created_at": session.created_at,
        "updated_at": session.updated_at,
        "damage": session.damage,
        "forked_from": session.origin_id,
        "shared_messages": session.inherited_seq,
    }


async def _first_words(store: Store, session_id: str) -> str:
    from mnesis.errors import CorruptStoreError

    try:
        first_messages = await store.messages(session_id, limit=1)
    except CorruptStoreError:
        return "(damaged; see mnesis doctor)"
    return first_messages[0].text_content()[: _TITLE_WIDTH_CHARS * 8] if first_messages else ""
