"""`mnesis ls`: the sessions of a database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import click

from mnesis.cli.database_option import Place, all_sessions, db_option, json_option, lines_option, reading
from mnesis.cli.output import clean, console, counted, cut, note, print_json, table, to_json, when
from mnesis.cli.time_option import MOMENT

if TYPE_CHECKING:
    from mnesis.models.session import SessionRecord
    from mnesis.store.base import Store

_TITLE_WIDTH = 48
_NUMBERS = ("messages", "context_tokens", "compactions")


@click.command("ls", short_help="List sessions.", epilog="Example: mnesis ls --since 7d --tree")
@click.option("--agent", metavar="NAME", help="Only sessions of this agent.")
@click.option("--since", type=MOMENT, metavar="WHEN", help="Only sessions used since: 2026-03-01, 12h, 7d.")
@click.option("--tree", is_flag=True, help="Sessions of sub-agents below the one they work for.")
@click.option("-n", "--limit", default=50, show_default=True, type=click.IntRange(min=1), help="At most so many.")
@lines_option
@json_option
@db_option
def command(
    agent: str | None, since: int | None, tree: bool, limit: int, as_lines: bool, as_json: bool, db: Place
) -> None:
    """List sessions, those used last first.

    With --tree only sessions that stand for themselves are counted for --limit and looked at by --agent and --since;
    those of their sub-agents follow them.
    """
    rows, more = asyncio.run(_rows(db, agent, since, tree, limit))
    if as_json:
        print_json(rows)
    elif as_lines:
        for row in rows:
            print(to_json(row))
    else:
        _print(rows)
    if not rows:
        note("no sessions" if agent or since else "no sessions yet")
    if more:
        note(f"{counted(limit, 'session')} shown; there are more (-n)")


def _print(rows: list[dict[str, Any]]) -> None:
    numbers = ("messages", "context", "folds")
    shown = table("id", "title", *numbers, "last used", right=numbers, shrinks="title")
    for row in rows:
        name = "  " * row["depth"] + ("└ " if row["depth"] else "") + clean(row["id"])
        figures = (f"{row[number]:,}" for number in _NUMBERS)
        shown.add_row(name, cut(row["title"], _TITLE_WIDTH), *figures, when(row["updated_at"]))
    console().print(shown)


async def _rows(
    db: Place, agent: str | None, since: int | None, tree: bool, limit: int
) -> tuple[list[dict[str, Any]], bool]:
    rows: list[dict[str, Any]] = []
    taken = 0
    async with reading(db) as store:
        ids = {session.id async for session in all_sessions(store)} if tree else set()
        async for session in all_sessions(store):
            unused = since is not None and session.updated_at < since
            if unused or (agent is not None and session.agent != agent) or (tree and session.parent_id in ids):
                continue
            if taken == limit:
                return rows, True
            taken += 1
            rows.append(await _row(store, session, 0))
            if tree:
                rows += [
                    await _row(store, child, depth) async for child, depth in _below(store, session, 1, {session.id})
                ]
    return rows, False


async def _below(
    store: Store, session: SessionRecord, depth: int, seen: set[str]
) -> AsyncIterator[tuple[SessionRecord, int]]:
    """The sessions of sub-agents, each before its own."""
    cursor: str | None = None
    while True:
        page = await store.sessions(cursor=cursor, parent_id=session.id)
        for child in page.sessions:
            if child.id not in seen:
                seen.add(child.id)
                yield child, depth
                async for each in _below(store, child, depth + 1, seen):
                    yield each
        cursor = page.next_cursor
        if cursor is None:
            return


async def _row(store: Store, session: SessionRecord, depth: int) -> dict[str, Any]:
    return {
        "id": session.id,
        "title": session.title or await _first_words(store, session.id),
        "model": session.model,
        "agent": session.agent,
        "parent_id": session.parent_id,
        "depth": depth,
        "messages": session.last_seq,
        "turns": session.turn_count,
        "context_tokens": session.context_tokens,
        "compactions": len(await store.compactions(session.id)),
        "created_at": session.created_at,
        "updated_at": session.updated_at,
    }


async def _first_words(store: Store, session_id: str) -> str:
    from mnesis.errors import CorruptStoreError

    try:
        first = await store.messages(session_id, limit=1)
    except CorruptStoreError:
        return "(damaged; see mnesis doctor)"
    return first[0].text_content()[: _TITLE_WIDTH * 8] if first else ""
