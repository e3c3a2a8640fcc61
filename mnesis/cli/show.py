"""`mnesis show`: the conversation, message by message."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from mnesis.cli.database_option import Place, db_option, json_option, lines_option, reading
from mnesis.cli.export_format import message_dict
from mnesis.cli.id_lookup import find_message_seq, find_session
from mnesis.cli.output import ROLE_STYLES, clean, console, note, one_line, print_json, shortened, to_json, when
from mnesis.errors import CorruptStoreError

if TYPE_CHECKING:
    from rich.text import Text

    from mnesis.models.context import Cover
    from mnesis.models.message import Message, MessagePart, ToolPart
    from mnesis.models.session import Interruption, SessionRecord
    from mnesis.store.base import Store

_TEXT_CHARS, _OUTPUT_CHARS = 4_000, 1_200
_EVERYTHING = 1 << 62
_PAGE = 500


@dataclass(frozen=True)
class _Stretch:
    """The messages of a session's log from `after` + 1 to `until`, and what the context makes of them."""

    store: Store
    session: SessionRecord
    after: int
    until: int
    interruptions: list[Interruption]
    covers: tuple[Cover, ...]
    pruned: frozenset[tuple[int, int]]

    async def messages(self) -> AsyncIterator[Message]:
        """The messages, read a page at a time."""
        after = self.after
        while page := await self.store.messages(self.session.id, after_seq=after, until_seq=self.until, limit=_PAGE):
            after = page[-1].seq
            for message in page:
                yield message

    def stands_for(self, seq: int) -> str | None:
        """What the context shows in place of a message: "sum_…", "" for nothing; None where it shows the message."""
        cover = next((c for c in self.covers if c.first_seq <= seq <= c.last_seq), None)
        return None if cover is None else cover.summary_id or ""


@click.command(
    "show", short_help="Show a conversation.", epilog="Example: mnesis show sess_1a --from 1 -n 50 --raw | less"
)
@click.argument("session_id", metavar="ID")
@click.option("-n", "count", default=20, show_default=True, type=click.IntRange(min=0), help="Messages; 0 for all.")
@click.option(
    "--from", "first", metavar="SEQ|MESSAGE", help="Start at this place or message id instead of near the end."
)
@click.option("--raw", is_flag=True, help="Shorten nothing.")
@lines_option
@json_option
@db_option
def command(
    session_id: str, count: int, first: str | None, raw: bool, as_lines: bool, as_json: bool, db: Place
) -> None:
    """Show the newest messages of a session, or those from a place on.

    Each message says what the context has in its place, if not the message itself: a summary, a marker for a long
    output, or nothing. Turns that got no answer are marked where they happened.
    """
    printed = _print_lines if as_lines else _print_document if as_json else partial(_print, raw=raw)
    asyncio.run(_show(db, session_id, count, first, printed))


async def _show(
    db: Place, session_id: str, count: int, first: str | None, printed: Callable[[_Stretch], Awaitable[None]]
) -> None:
    async with reading(db) as store:
        await printed(await _stretch(store, await find_session(store, session_id), count, first))


async def _stretch(store: Store, session: SessionRecord, count: int, first: str | None) -> _Stretch:
    last_seq = session.last_seq
    wanted = min(count or last_seq, last_seq)
    after = last_seq - wanted if first is None else max(0, await find_message_seq(store, session, first) - 1)
    until = min(last_seq, after + wanted)
    noted = await store.interruptions(session.id)
    reach = until if until < last_seq else _EVERYTHING
    interruptions = sorted((i for i in noted if after <= i.after_seq <= reach), key=lambda each: each.after_seq)
    return _Stretch(store, session, after, until, interruptions, *await _standing(store, session.id))


async def _print_lines(shown: _Stretch) -> None:
    async for message in shown.messages():
        print(to_json(_message_facts(shown, message)))


async def _print_document(shown: _Stretch) -> None:
    print_json(
        {
            "session_id": shown.session.id,
            "messages": [_message_facts(shown, message) async for message in shown.messages()],
            "interruptions": [asdict(interruption) for interruption in shown.interruptions],
        }
    )


async def _print(shown: _Stretch, *, raw: bool) -> None:
    screen = console()
    async for text in _lines(shown, raw):
        screen.print(text)
    if shown.after >= shown.until:
        note("no messages here")
    elif shown.until < shown.session.last_seq:
        note(f"{shown.until} of {shown.session.last_seq} messages; continue with --from {shown.until + 1}")


async def _standing(store: Store, session_id: str) -> tuple[tuple[Cover, ...], frozenset[tuple[int, int]]]:
    """What the context shows otherwise. Damage elsewhere in it must not keep the rest of the log from being shown."""
    try:
        context = await store.active_context(session_id)
    except CorruptStoreError as error:
        note(f"note: what the context shows is not marked: {error}")
        return (), frozenset()
    return context.covers, frozenset(context.prunes)


def _message_facts(shown: _Stretch, message: Message) -> dict[str, Any]:
    covering = shown.stands_for(message.seq)
    return message_dict(message) | {
        "in_context": covering is None,
        "summary_id": covering or None,
        "pruned_parts": sorted(part for seq, part in shown.pruned if seq == message.seq),
    }


async def _lines(shown: _Stretch, raw: bool) -> AsyncIterator[Text]:
    waiting = list(shown.interruptions)
    async for message in shown.messages():
        while waiting and waiting[0].after_seq < message.seq:
            yield _interrupted(waiting.pop(0))
        covering = shown.stands_for(message.seq)
        pruned = {index for seq, index in shown.pruned if seq == message.seq} if covering is None else set()
        for text in message_lines(message, raw, covering, pruned):
            yield text
    for interruption in waiting:
        yield _interrupted(interruption)


def message_lines(
    message: Message, raw: bool, covering: str | None = None, pruned: Collection[int] = ()
) -> Iterator[Text]:
    """A message for people. `covering` is what the context shows in its place ("" for nothing), `pruned` which of its
    parts stand there as markers."""
    from rich.text import Text

    facts = [f"#{message.seq}", message.role, when(message.created_at), f"{message.token_count:,} tokens"]
    facts += [clean(message.model_id)] if message.model_id else []
    if covering is not None:
        facts.append(f"(in {clean(covering)})" if covering else "(out of the context)")
    yield Text("  ".join(facts), style=ROLE_STYLES.get(message.role, ""))
    for index, part in enumerate(message.parts):
        yield _part(part, raw)
        if index in pruned:
            yield Text("  (the context shows a marker in place of this output)", style="dim italic")
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
