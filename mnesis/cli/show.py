"""`mnesis show`: the messages of a conversation."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from mnesis.cli.damage import note_damage
from mnesis.cli.database_option import DatabaseOption, db_option, json_option, jsonl_option, open_store
from mnesis.cli.export_format import message_dict
from mnesis.cli.id_lookup import find_message_seq, find_session
from mnesis.cli.output import (
    ROLE_STYLES,
    clean,
    clean_line,
    format_time,
    make_console,
    one_line,
    print_json,
    print_note,
    to_json,
    truncate,
)
from mnesis.errors import CorruptStoreError

if TYPE_CHECKING:
    from rich.text import Text

    from mnesis.models.context import Cover
    from mnesis.models.message import Message, MessagePart, ToolPart
    from mnesis.models.session import Interruption, SessionRecord
    from mnesis.store.base import Store

_MAX_TEXT_CHARS, _MAX_OUTPUT_CHARS = 4_000, 1_200
_NO_LIMIT = 1 << 62
_PAGE_SIZE = 500


@dataclass(frozen=True)
class _LogSlice:
    """The messages of a log from `after` + 1 to `until`, and how the context shows them."""

    store: Store
    session: SessionRecord
    after: int
    until: int
    interruptions: list[Interruption]
    covers: tuple[Cover, ...]
    pruned: frozenset[tuple[int, int]]

    async def messages(self) -> AsyncIterator[Message]:
        """Yield the messages, read in pages."""
        after = self.after
        while page := await self.store.messages(
            self.session.id, after_seq=after, until_seq=self.until, limit=_PAGE_SIZE
        ):
            after = page[-1].seq
            for message in page:
                yield message

    def replacement_of(self, seq: int) -> str | None:
        """Return the replacement of a message in the context: a summary id, or "" for nothing.

        None if the context shows the message itself.
        """
        from mnesis.models.context import find_cover

        cover = find_cover(self.covers, seq)
        return None if cover is None else cover.summary_id or ""


@click.command(
    "show", short_help="Show a conversation.", epilog="Example: mnesis show sess_1a --from 1 -n 50 --raw | less"
)
@click.argument("session_id", metavar="ID")
@click.option(
    "-n", "count", default=20, show_default=True, type=click.IntRange(min=0), help="Number of messages; 0 for all."
)
@click.option("--from", "first", metavar="SEQ|MESSAGE", help="Start at this seq or message id instead of near the end.")
@click.option("--raw", is_flag=True, help="Do not truncate.")
@jsonl_option
@json_option
@db_option
def command(
    session_id: str, count: int, first: str | None, raw: bool, as_jsonl: bool, as_json: bool, db: DatabaseOption
) -> None:
    """Show the newest messages of a session, or those from --from on.

    A message that is not in the context is marked with its replacement: a summary, a marker for a long output, or
    nothing. Turns without an answer are marked where they happened.
    """
    print_slice = _print_jsonl if as_jsonl else _print_json if as_json else partial(_print, raw=raw)
    asyncio.run(_show(db, session_id, count, first, print_slice))


async def _show(
    db: DatabaseOption,
    session_id: str,
    count: int,
    first: str | None,
    print_slice: Callable[[_LogSlice], Awaitable[None]],
) -> None:
    async with open_store(db) as store:
        await print_slice(await _load_slice(store, await find_session(store, session_id), count, first))


async def _load_slice(store: Store, session: SessionRecord, count: int, first: str | None) -> _LogSlice:
    last_seq = session.last_seq
    count_shown = min(count or last_seq, last_seq)
    after = last_seq - count_shown if first is None else max(0, await find_message_seq(store, session, first) - 1)
    until = min(last_seq, after + count_shown)
    all_interruptions: list[Interruption] = []
    with note_damage(session.id, "interruptions are not shown"):
        all_interruptions = await store.interruptions(session.id)
    last_interruption_seq = until if until < last_seq else _NO_LIMIT
    interruptions = sorted(
        (i for i in all_interruptions if after <= i.after_seq <= last_interruption_seq), key=lambda each: each.after_seq
    )
    return _LogSlice(store, session, after, until, interruptions, *await _load_context(store, session.id))


async def _print_jsonl(log_slice: _LogSlice) -> None:
    async for message in log_slice.messages():
        print(to_json(_message_to_dict(log_slice, message)))


async def _print_json(log_slice: _LogSlice) -> None:
    print_json(
        {
            "session_id": log_slice.session.id,
            "messages": [_message_to_dict(log_slice, message) async for message in log_slice.messages()],
            "interruptions": [asdict(interruption) for interruption in log_slice.interruptions],
        }
    )


async def _print(log_slice: _LogSlice, *, raw: bool) -> None:
    console, session = make_console(), log_slice.session
    if session.forked_from is not None and log_slice.after < session.inherited_seq:
        print_note(
            f"messages up to #{session.inherited_seq} are shared with {clean_line(session.forked_from.session_id)}"
        )
    async for text in _text_lines(log_slice, raw):
        console.print(text)
    if log_slice.after >= log_slice.until:
        print_note("no messages here")
    elif log_slice.until < log_slice.session.last_seq:
        print_note(
            f"{log_slice.until} of {log_slice.session.last_seq} messages; continue with --from {log_slice.until + 1}"
        )


async def _load_context(store: Store, session_id: str) -> tuple[tuple[Cover, ...], frozenset[tuple[int, int]]]:
    """Return the covers and prunes of the context.

    If the context is damaged, returns neither and prints a note, so that the log can still be shown.
    """
    try:
        context = await store.active_context(session_id)
    except CorruptStoreError as error:
        print_note(f"note: messages that are not in the context are not marked: {error}")
        return (), frozenset()
    return context.covers, frozenset(context.prunes)


def _message_to_dict(log_slice: _LogSlice, message: Message) -> dict[str, Any]:
    replacement = log_slice.replacement_of(message.seq)
    return message_dict(message) | {
        "in_context": replacement is None,
        "summary_id": replacement or None,
        "pruned_parts": sorted(part for seq, part in log_slice.pruned if seq == message.seq),
    }


async def _text_lines(log_slice: _LogSlice, raw: bool) -> AsyncIterator[Text]:
    pending_interruptions = list(log_slice.interruptions)
    async for message in log_slice.messages():
        while pending_interruptions and pending_interruptions[0].after_seq < message.seq:
            yield _interruption_line(pending_interruptions.pop(0))
        replacement = log_slice.replacement_of(message.seq)
        pruned = {index for seq, index in log_slice.pruned if seq == message.seq} if replacement is None else set()
        for text in message_lines(message, raw, replacement, pruned):
            yield text
    for interruption in pending_interruptions:
        yield _interruption_line(interruption)


def message_lines(
    message: Message, raw: bool, replacement: str | None = None, pruned: Collection[int] = ()
) -> Iterator[Text]:
    """Yield a message for people, as lines of text.

    `replacement` is its replacement in the context ("" for nothing). `pruned` are the indexes of its parts that the
    context shows as markers.
    """
    from rich.text import Text

    facts = [f"#{message.seq}", message.role, format_time(message.created_at), f"{message.token_count:,} tokens"]
    facts += [clean_line(message.model_id)] if message.model_id else []
    if replacement is not None:
        facts.append(f"(in {clean_line(replacement)})" if replacement else "(out of the context)")
    yield Text("  ".join(facts), style=ROLE_STYLES.get(message.role, ""))
    for index, part in enumerate(message.parts):
        yield _part_text(part, raw)
        if index in pruned:
            yield Text("  (the context shows a marker in place of this output)", style="dim italic")
    yield Text("")


def _part_text(part: MessagePart, raw: bool) -> Text:
    from rich.text import Text

    def truncate_unless_raw(text: str, max_chars: int) -> str:
        return truncate(text, _NO_LIMIT if raw else max_chars)

    match part.type:
        case "text":
            return Text(truncate_unless_raw(part.text, _MAX_TEXT_CHARS))
        case "reasoning":
            return Text(f"(thinking) {truncate_unless_raw(part.text, _MAX_OUTPUT_CHARS)}", style="dim italic")
        case "tool":
            call = (_tool_call_line(part, raw), "yellow")
            if not part.has_result:  # it may be in a separate message
                return Text.assemble(call)
            outcome = _indent(truncate_unless_raw(part.result().output, _MAX_OUTPUT_CHARS))
            return Text.assemble(call, "\n", (outcome, "red" if part.result().is_error else "dim"))
        case "tool_result":
            head = (
                f"← {clean_line(part.tool_name)} {clean_line(part.tool_call_id)}{'  failed' if part.is_error else ''}"
            )
            body = _indent(truncate_unless_raw(part.output, _MAX_OUTPUT_CHARS))
            return Text.assemble((head, "yellow"), "\n", (body, "red" if part.is_error else "dim"))
        case "file":
            content = (
                truncate_unless_raw(part.text, _MAX_TEXT_CHARS)
                if part.text is not None
                else f"{len(part.data or ''):,} base64"
            )
            return Text(f"[file {clean_line(part.name)}, {clean_line(part.media_type)}]\n{content}")
        case "file_ref":
            return Text(
                f"[file {clean_line(part.path)}, {part.token_count:,} tokens, stored as {clean_line(part.content_id)}]"
            )
        case "image":
            return Text(f"[image {one_line(part.url or part.media_type, 100)}]")
        case _:
            return Text(f"[{clean_line(part.kind)}] {truncate_unless_raw(part.text, _MAX_TEXT_CHARS)}")


def _tool_call_line(part: ToolPart, raw: bool) -> str:
    arguments = part.raw_input if part.raw_input is not None else json.dumps(part.input, ensure_ascii=False)
    printable_arguments = clean(arguments) if raw else one_line(arguments, 160)
    return f"→ {clean_line(part.tool_name)}({printable_arguments})"


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _interruption_line(interruption: Interruption) -> Text:
    from rich.text import Text

    partial = f"; partial answer: {one_line(interruption.partial_text, 200)}" if interruption.partial_text else ""
    reason = f"{clean_line(interruption.error_type)}: {one_line(interruption.error, 300)}"
    return Text(f"✗ the turn after #{interruption.after_seq} was {interruption.kind}: {reason}{partial}\n", style="red")
