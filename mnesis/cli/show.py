"""`mnesis show`: the conversation, message by message."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from mnesis.cli.database import db_option, find_session, json_option, reading
from mnesis.cli.portable import message_dict
from mnesis.cli.screen import ROLE_STYLES, clean, console, note, one_line, print_json, shortened, when

if TYPE_CHECKING:
    from rich.text import Text

    from mnesis.models.context import Interruption
    from mnesis.models.message import Message, MessagePart, ToolPart
    from mnesis.models.session import SessionRecord

_TEXT_CHARS, _OUTPUT_CHARS = 4_000, 1_200
_EVERYTHING = 1 << 62


@click.command("show", short_help="Show a conversation.")
@click.argument("session_id", metavar="ID")
@click.option("-n", "count", default=20, show_default=True, type=click.IntRange(min=0), help="Messages; 0 for all.")
@click.option("--from", "first_seq", type=click.IntRange(min=1), metavar="SEQ", help="Start here, not near the end.")
@click.option("--raw", is_flag=True, help="Shorten nothing.")
@json_option
@db_option
def command(session_id: str, count: int, first_seq: int | None, raw: bool, as_json: bool, db: str | None) -> None:
    """Show the newest messages of a session, or those from a place on."""
    session, messages, interruptions = asyncio.run(_read(db, session_id, count, first_seq))
    if as_json:
        shown = [asdict(interruption) for interruption in interruptions]
        print_json({"session_id": session.id, "messages": [message_dict(m) for m in messages], "interruptions": shown})
        return
    screen = console()
    for text in _lines(messages, interruptions, raw):
        screen.print(text)
    last = messages[-1].seq if messages else 0
    if last < session.last_seq and messages:
        note(f"{last} of {session.last_seq} messages; continue with --from {last + 1}")
    if not messages:
        note("no messages here")


async def _read(
    db: str | None, session_id: str, count: int, first_seq: int | None
) -> tuple[SessionRecord, list[Message], list[Interruption]]:
    async with reading(db) as store:
        session = await find_session(store, session_id)
        wanted = count or session.last_seq or 1
        after = max(0, session.last_seq - wanted) if first_seq is None else first_seq - 1
        messages = await store.messages(session.id, after_seq=after, limit=wanted)
        last = messages[-1].seq if messages and messages[-1].seq < session.last_seq else _EVERYTHING
        noted = await store.interruptions(session.id)
    return session, messages, [each for each in noted if after <= each.after_seq <= last]


def _lines(messages: list[Message], interruptions: list[Interruption], raw: bool) -> Iterator[Text]:
    waiting = sorted(interruptions, key=lambda each: each.after_seq)
    for message in messages:
        while waiting and waiting[0].after_seq < message.seq:
            yield _interrupted(waiting.pop(0))
        yield from _message(message, raw)
    yield from map(_interrupted, waiting)


def _message(message: Message, raw: bool) -> Iterator[Text]:
    from rich.text import Text

    facts = [f"#{message.seq}", message.role, when(message.created_at), f"{message.token_count:,} tokens"]
    facts += [clean(message.model_id)] if message.model_id else []
    yield Text("  ".join(facts), style=ROLE_STYLES.get(message.role, ""))
    for part in message.parts:
        yield _part(part, raw)
    yield Text("")


def _part(part: MessagePart, raw: bool) -> Text:
    from rich.text import Text

    def limited(text: str, max_chars: int) -> str:
        return shortened(text, _EVERYTHING if raw else max_chars)

    match part.type:
        case "text":
            return Text(limited(part.text, _TEXT_CHARS))
        case "reasoning":
            return Text(f"(thinking) {limited(part.text, _OUTPUT_CHARS)}", style="dim italic")
        case "tool":
            outcome = limited(part.result().output, _OUTPUT_CHARS) if part.has_result else "(no result recorded here)"
            failed = part.has_result and part.result().is_error
            return Text.assemble((_call(part, raw), "yellow"), "\n", (_indented(outcome), "red" if failed else "dim"))
        case "tool_result":
            head = f"← {clean(part.tool_name)} {clean(part.tool_call_id)}{'  failed' if part.is_error else ''}"
            body = _indented(limited(part.output, _OUTPUT_CHARS))
            return Text.assemble((head, "yellow"), "\n", (body, "red" if part.is_error else "dim"))
        case "file":
            content = limited(part.text, _TEXT_CHARS) if part.text is not None else f"{len(part.data or ''):,} base64"
            return Text(f"[file {clean(part.name)}, {clean(part.media_type)}]\n{content}")
        case "file_ref":
            return Text(f"[file {clean(part.path)}, {part.token_count:,} tokens, kept as {clean(part.content_id)}]")
        case "image":
            return Text(f"[image {one_line(part.url or part.media_type, 100)}]")
        case _:
            return Text(f"[{clean(part.kind)}] {limited(part.text, _TEXT_CHARS)}")


def _call(part: ToolPart, raw: bool) -> str:
    written = part.raw_input if part.raw_input is not None else json.dumps(part.input, ensure_ascii=False)
    shown = clean(written) if raw else one_line(written, 160)
    return f"→ {clean(part.tool_name)}({shown})"


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _interrupted(interruption: Interruption) -> Text:
    from rich.text import Text

    said = f"; it had begun: {one_line(interruption.partial_text, 200)}" if interruption.partial_text else ""
    why = f"{clean(interruption.error_type)}: {one_line(interruption.error, 300)}"
    return Text(f"✗ the turn after #{interruption.after_seq} was {interruption.kind}: {why}{said}\n", style="red")
