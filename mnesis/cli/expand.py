"""`mnesis expand`: what stands behind a summary."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from mnesis.cli.database_option import Place, db_option, json_option, lines_option, reading
from mnesis.cli.export_format import message_dict
from mnesis.cli.id_lookup import Found, chosen_sessions, find_item
from mnesis.cli.output import clean, console, note, one_line, print_json, to_json
from mnesis.cli.show import message_lines

if TYPE_CHECKING:
    from rich.text import Text

    from mnesis.models.message import Message
    from mnesis.models.summary import Summary
    from mnesis.store.base import Store

_PREVIEW_CHARS = 200
_EVERYTHING = 1 << 62


@dataclass
class _Opened:
    """What an id stands for: messages from `first_seq` on, `count` of them (0: all), or the summaries `below` it.

    `next_seq` is where the messages go on, known once they were read.
    """

    store: Store
    found: Found
    below: int
    count: int
    first_seq: int
    next_seq: int | None = None

    async def messages(self) -> AsyncIterator[Message]:
        """The messages, read a page at a time."""
        from mnesis.recall.expand import PAGE, expand

        left = self.count or _EVERYTHING
        cursor: str | None = str(self.first_seq - 1)
        while cursor is not None and left and not self.below:
            limit = min(left, PAGE)
            page = await expand(self.store, self.found.session_id, self.found.id, cursor=cursor, limit=limit)
            for message in page.messages:
                yield message
            left, cursor = left - len(page.messages), page.next_cursor
            self.next_seq = int(cursor) + 1 if cursor is not None else None

    async def summaries(self) -> AsyncIterator[tuple[int, Summary]]:
        """The summaries, each with how far below it is."""
        if self.below and self.found.kind == "summary":
            summary = await self.store.summary(self.found.session_id, self.found.id)
            async for each in _below(self.store, summary, 1, self.below):
                yield each

    async def rows(self) -> AsyncIterator[dict[str, Any]]:
        """For programs."""
        async for message in self.messages():
            yield message_dict(message)
        async for steps, summary in self.summaries():
            yield summary.model_dump() | {"below": steps}


@click.command(
    "expand",
    short_help="Show the originals behind a summary.",
    epilog="Example: mnesis expand sum_3f --children",
)
@click.argument("id", metavar="ID")
@click.option("--session", "session_id", metavar="ID", help="The session it is in, where several have such an id.")
@click.option("--children", is_flag=True, help="Show the summaries it was made of instead.")
@click.option("--depth", type=click.IntRange(min=1), metavar="N", help="Show N levels of summaries below it instead.")
@click.option("-n", "count", default=50, show_default=True, type=click.IntRange(min=0), help="Messages; 0 for all.")
@click.option("--from", "first_seq", type=click.IntRange(1, 2**62), metavar="SEQ", help="Go on from this place.")
@click.option("--raw", is_flag=True, help="Shorten nothing.")
@lines_option
@json_option
@db_option
def command(
    id: str, session_id: str | None, children: bool, depth: int | None, count: int, first_seq: int | None, raw: bool,
    as_lines: bool, as_json: bool, db: Place,
) -> None:  # fmt: skip
    """Show the messages behind a summary, however deep, exactly as they were said; for the id of a message that message.

    Ids may be shortened. Summaries are looked for first; with --session only in that session.
    """
    below = depth or (1 if children else 0)
    printed = _print_document if as_json else _print_lines if as_lines else partial(_print, raw=raw)
    asyncio.run(_expand(db, id, session_id, below, count, first_seq or 1, printed))


async def _expand(
    db: Place,
    id: str,
    session_id: str | None,
    below: int,
    count: int,
    first_seq: int,
    printed: Callable[[_Opened], Awaitable[int]],
) -> None:
    async with reading(db) as store:
        found = await find_item(store, id, await chosen_sessions(store, session_id))
        opened = _Opened(store, found, below, count, first_seq)
        rows = await printed(opened)
    if opened.next_seq is not None:
        note(f"there is more; continue with --from {opened.next_seq}")
    if opened.below and not rows:
        note("it was made of messages, not of summaries; leave out --children and --depth to see them")


async def _print_document(opened: _Opened) -> int:
    rows = [row async for row in opened.rows()]
    names = {"session_id": opened.found.session_id, "id": opened.found.id}
    print_json(names | {"summaries" if opened.below else "messages": rows, "next_seq": opened.next_seq})
    return len(rows)


async def _print_lines(opened: _Opened) -> int:
    rows = 0
    async for row in opened.rows():
        print(to_json(row))
        rows += 1
    return rows


async def _print(opened: _Opened, *, raw: bool) -> int:
    screen, rows = console(), 0
    async for message in opened.messages():
        for line in message_lines(message, raw):
            screen.print(line)
        rows += 1
    async for steps, summary in opened.summaries():
        screen.print(summary_lines(steps, summary, raw))
        rows += 1
    return rows


async def _below(store: Store, summary: Summary, steps: int, most: int) -> AsyncIterator[tuple[int, Summary]]:
    """The summaries a summary was made of, each before those it was made of itself."""
    for child_id in summary.child_ids:
        child = await store.summary(summary.session_id, child_id)
        yield steps, child
        if steps < most:
            async for each in _below(store, child, steps + 1, most):
                yield each


def summary_lines(steps: int, summary: Summary, raw: bool) -> Text:
    """A summary for people, indented by how far below it is."""
    from rich.text import Text

    indent = "  " * (steps - 1)
    head = f"{indent}{clean(summary.id)}  {summary.kind}  #{summary.first_seq}–{summary.last_seq}"
    said = clean(summary.text) if raw else one_line(summary.text, _PREVIEW_CHARS)
    body = "\n".join(f"{indent}  {line}" for line in said.splitlines())
    return Text.assemble((f"{head}  level {summary.level}  {summary.token_count:,} tokens\n", "blue"), (body, "dim"))
