"""`mnesis expand`: what stands behind a summary."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from mnesis.cli.database import Place, db_option, json_option, lines_option, reading
from mnesis.cli.ids import chosen_sessions, find_item
from mnesis.cli.portable import message_dict
from mnesis.cli.screen import clean, console, note, one_line, print_json, to_json
from mnesis.cli.show import message_lines

if TYPE_CHECKING:
    from rich.text import Text

    from mnesis.models.message import Message
    from mnesis.models.summary import Summary
    from mnesis.store.base import Store

_PREVIEW_CHARS = 200


@dataclass
class _Opened:
    """What an id stands for: a page of messages, or summaries with how far below it they are."""

    session_id: str
    id: str
    messages: list[Message] = field(default_factory=list)
    summaries: list[tuple[int, Summary]] = field(default_factory=list)
    next_seq: int | None = None


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
    opened = asyncio.run(_read(db, id, session_id, below, count, first_seq or 1))
    rows = [message_dict(message) for message in opened.messages]
    rows += [summary.model_dump() | {"below": steps} for steps, summary in opened.summaries]
    if as_json:
        names = {"session_id": opened.session_id, "id": opened.id}
        print_json(names | {"summaries" if below else "messages": rows, "next_seq": opened.next_seq})
    elif as_lines:
        for row in rows:
            print(to_json(row))
    else:
        _print(opened, raw)
    if opened.next_seq is not None:
        note(f"there is more; continue with --from {opened.next_seq}")
    if below and not opened.summaries:
        note("it was made of messages, not of summaries; leave out --children and --depth to see them")


async def _read(db: Place, id: str, session_id: str | None, below: int, count: int, first_seq: int) -> _Opened:
    from mnesis.reading import LARGEST_PAGE, expand

    async with reading(db) as store:
        found = await find_item(store, id, await chosen_sessions(store, session_id))
        opened = _Opened(found.session_id, found.id)
        if below:
            if found.kind == "summary":
                summary = await store.summary(found.session_id, found.id)
                opened.summaries = [each async for each in _below(store, summary, 1, below)]
            return opened
        cursor: str | None = str(first_seq - 1)
        while cursor is not None and (not count or len(opened.messages) < count):
            limit = count - len(opened.messages) if count else LARGEST_PAGE
            page = await expand(store, found.session_id, found.id, cursor=cursor, limit=limit)
            opened.messages += page.messages
            cursor = page.next_cursor
        opened.next_seq = int(cursor) + 1 if cursor is not None else None
    return opened


async def _below(store: Store, summary: Summary, steps: int, most: int) -> AsyncIterator[tuple[int, Summary]]:
    """The summaries a summary was made of, each before those it was made of itself."""
    for child_id in summary.child_ids:
        child = await store.summary(summary.session_id, child_id)
        yield steps, child
        if steps < most:
            async for each in _below(store, child, steps + 1, most):
                yield each


def _print(opened: _Opened, raw: bool) -> None:
    screen = console()
    for message in opened.messages:
        for line in message_lines(message, raw):
            screen.print(line)
    for steps, summary in opened.summaries:
        screen.print(summary_lines(steps, summary, raw))


def summary_lines(steps: int, summary: Summary, raw: bool) -> Text:
    """A summary for people, indented by how far below it is."""
    from rich.text import Text

    indent = "  " * (steps - 1)
    head = f"{indent}{clean(summary.id)}  {summary.kind}  #{summary.first_seq}–{summary.last_seq}"
    said = clean(summary.text) if raw else one_line(summary.text, _PREVIEW_CHARS)
    body = "\n".join(f"{indent}  {line}" for line in said.splitlines())
    return Text.assemble((f"{head}  level {summary.level}  {summary.token_count:,} tokens\n", "blue"), (body, "dim"))
