"""`mnesis ls`: the sessions of a database."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from mnesis.cli.database import all_sessions, db_option, json_option, reading
from mnesis.cli.screen import clean, console, counted, cut, note, print_json, table, when

if TYPE_CHECKING:
    from mnesis.models.session import SessionRecord
    from mnesis.store.base import Store

_TITLE_WIDTH = 48


@click.command("ls", short_help="List sessions.")
@click.option("-n", "limit", default=50, show_default=True, type=click.IntRange(min=1), help="At most so many.")
@json_option
@db_option
def command(limit: int, as_json: bool, db: str | None) -> None:
    """List sessions, those used last first."""
    rows, more = asyncio.run(_rows(db, limit))
    if as_json:
        print_json(rows)
        return
    shown = table(
        "id",
        "title",
        "messages",
        "turns",
        "context",
        "last used",
        right=("messages", "turns", "context"),
        shrinks="title",
    )
    for row in rows:
        counts = (f"{row[name]:,}" for name in ("messages", "turns", "context_tokens"))
        shown.add_row(clean(row["id"]), cut(row["title"], _TITLE_WIDTH), *counts, when(row["updated_at"]))
    console().print(shown)
    if not rows:
        note("no sessions yet")
    if more:
        note(f"{counted(len(rows), 'session')} shown; there are more (-n)")


async def _rows(db: str | None, limit: int) -> tuple[list[dict[str, Any]], bool]:
    rows: list[dict[str, Any]] = []
    async with reading(db) as store:
        async for session in all_sessions(store):
            if len(rows) == limit:
                return rows, True
            rows.append(await _row(store, session))
    return rows, False


async def _row(store: Store, session: SessionRecord) -> dict[str, Any]:
    return {
        "id": session.id,
        "title": session.title or await _first_words(store, session.id),
        "model": session.model,
        "agent": session.agent,
        "parent_id": session.parent_id,
        "messages": session.last_seq,
        "turns": session.turn_count,
        "context_tokens": session.context_tokens,
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
