"""`mnesis expand`: the original messages behind a summary."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from mnesis.cli.database_option import DatabaseOption, db_option, json_option, jsonl_option, open_store
from mnesis.cli.export_format import message_dict
from mnesis.cli.id_lookup import ItemRef, find_item, select_sessions
from mnesis.cli.output import clean, clean_line, make_console, one_line, print_json, print_note, to_json
from mnesis.cli.show import message_lines

if TYPE_CHECKING:
    from rich.text import Text

    from mnesis.models.message import Message
    from mnesis.models.summary import Summary
    from mnesis.store.base import Store

_PREVIEW_CHARS = 200
_NO_LIMIT = 1 << 62


@dataclass
class _Expansion:
    """The expansion of an id: `limit` messages (0: all) from `first_seq` on, or summaries down to `max_depth` levels. A
    `max_depth` of 0 means messages. `next_seq` is the next message; it is set after `messages()` was read.
    """

    store: Store
    item: ItemRef
    max_depth: int
    limit: int
    first_seq: int
    next_seq: int | None = None

    async def messages(self) -> AsyncIterator[Message]:
        """Yield the messages, read in pages."""
        from mnesis.models.page_sizes import LOG_PAGE_MESSAGES
        from mnesis.recall.expand import expand

        remaining = self.limit or _NO_LIMIT
        cursor: str | None = str(self.first_seq - 1)
        while cursor is not None and remaining and not self.max_depth:
            limit = min(remaining, LOG_PAGE_MESSAGES)
            page = await expand(self.store, self.item.session_id, self.item.id, cursor=cursor, limit=limit)
            for message in page.messages:
                yield message
            remaining, cursor = remaining - len(page.messages), page.next_cursor
            self.next_seq = int(cursor) + 1 if cursor is not None else None

    async def summaries(self) -> AsyncIterator[tuple[int, Summary]]:
        """Yield the summaries, each with its depth below the expanded one."""
        if self.max_depth and self.item.kind == "summary":
            summary = await self.store.summary(self.item.session_id, self.item.id)
            async for each in _descendants(self.store, summary, 1, self.max_depth):
                yield each

    async def rows(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the messages and summaries as JSON objects."""
        async for message in self.messages():
            yield message_dict(message)
        async for depth, summary in self.summaries():
            yield summary.model_dump() | {"below": depth}


@click.command(
    "expand",
    short_help="Show the originals behind a summary.",
    epilog="Example: mnesis expand sum_3f --children",
)
@click.argument("id", metavar="ID")
@click.option("--session", "session_id", metavar="ID", help="Look only in this session, if several contain the id.")
@click.option("--children", is_flag=True, help="Show its child summaries instead.")
@click.option("--depth", type=click.IntRange(min=1), metavar="N", help="Show N levels of child summaries instead.")
@click.option(
    "-n", "count", default=50, show_default=True, type=click.IntRange(min=0), help="Number of messages; 0 for all."
)
@click.option("--from", "first_seq", type=click.IntRange(1, 2**62), metavar="SEQ", help="Start at this message.")
@click.option("--raw", is_flag=True, help="Do not truncate.")
@jsonl_option
@json_option
@db_option
def command(
    id: str, session_id: str | None, children: bool, depth: int | None, count: int, first_seq: int | None, raw: bool,
    as_jsonl: bool, as_json: bool, db: DatabaseOption,
) -> None:  # fmt: skip
    """Show the original messages behind a summary of any depth, or one message by its id.

    Ids can be shortened. Summaries are looked up before messages; with --session only in that session.
    """
    max_depth = depth or (1 if children else 0)
    print_rows = _print_json if as_json else _print_jsonl if as_jsonl else partial(_print, raw=raw)
    asyncio.run(_expand(db, id, session_id, max_depth, count, first_seq or 1, print_rows))


async def _expand(
    db: DatabaseOption,
    id: str,
    session_id: str | None,
    max_depth: int,
    limit: int,
    first_seq: int,
    print_rows: Callable[[_Expansion], Awaitable[int]],
) -> None:
    async with open_store(db) as store:
        item = await find_item(store, id, await select_sessions(store, session_id))
        expansion = _Expansion(store, item, max_depth, limit, first_seq)
        rows = await print_rows(expansion)
    if expansion.next_seq is not None:
        print_note(f"there is more; continue with --from {expansion.next_seq}")
    if expansion.max_depth and not rows:
        print_note(
            "the summary was made from messages, not from other summaries; omit --children and --depth to see them"
        )


async def _print_json(expansion: _Expansion) -> int:
    rows = [row async for row in expansion.rows()]
    header = {"session_id": expansion.item.session_id, "id": expansion.item.id}
    print_json(header | {"summaries" if expansion.max_depth else "messages": rows, "next_seq": expansion.next_seq})
    return len(rows)


async def _print_jsonl(expansion: _Expansion) -> int:
    rows = 0
    async for row in expansion.rows():
        print(to_json(row))
        rows += 1
    return rows


async def _print(expansion: _Expansion, *, raw: bool) -> int:
    console, rows = make_console(), 0
    async for message in expansion.messages():
        for line in message_lines(message, raw):
            console.print(line)
        rows += 1
    async for depth, summary in expansion.summaries():
        console.print(summary_lines(depth, summary, raw))
        rows += 1
    return rows


async def _descendants(
    store: Store, summary: Summary, depth: int, max_depth: int
) -> AsyncIterator[tuple[int, Summary]]:
    """Yield the descendants of a summary with their depth, each before its own children."""
    for child_id in summary.child_ids:
        child = await store.summary(summary.session_id, child_id)
        yield depth, child
        if depth < max_depth:
            async for each in _descendants(store, child, depth + 1, max_depth):
                yield each


def summary_lines(depth: int, summary: Summary, raw: bool) -> Text:
    """Format a summary for people, indented by its depth."""
    from rich.text import Text

    indent = "  " * (depth - 1)
    head = f"{indent}{clean_line(summary.id)}  {summary.kind}  #{summary.first_seq}–{summary.last_seq}"
    body_text = clean(summary.text) if raw else one_line(summary.text, _PREVIEW_CHARS)
    body = "\n".join(f"{indent}  {line}" for line in body_text.splitlines())
    return Text.assemble((f"{head}  level {summary.level}  {summary.token_count:,} tokens\n", "blue"), (body, "dim"))
