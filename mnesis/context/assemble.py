"""Items and a budget in, one window out. Pure: the same context and budget give the same window.

Usually everything fits, because compaction keeps it so. Where it does not (a message larger than the window, automatic
compaction switched off, a summary that came too late) the window is made to fit without losing anything silently:

1. messages that alone take more than half of the budget are shown as head, tail and a pointer;
2. the oldest messages make room, each run of them leaving a marker that names it; the newest user message stays;
3. what is left is cut evenly until it fits.

The number of messages left out in step 2 moves in strides, so that the window's beginning stays the same for many
requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby

from mnesis.context import markers
from mnesis.context.repair import Entry, entries
from mnesis.errors import ContextIrreducibleError
from mnesis.formats.openai import arguments_text, text_of
from mnesis.models.context import ActiveContext, Window
from mnesis.models.message import (
    DataPart,
    FilePart,
    FileRefPart,
    ImagePart,
    Message,
    MessagePart,
    ReasoningPart,
    TextPart,
    ToolPart,
    ToolResultPart,
)
from mnesis.tokens.estimator import message_tokens

LARGE_SHARE = 0.5
EXCERPT_SHARE = 0.25
STRIDE_SHARE = 0.25
# A pointer alone, counted for the model that needs most for it, with its message.
SMALLEST_EXCERPT_TOKENS = 72
MARKER_TOKENS = 60
# The newest user message in brief, and a marker on each side of it.
SMALLEST_ROOM_TOKENS = SMALLEST_EXCERPT_TOKENS + 2 * MARKER_TOKENS


def assemble(
    context: ActiveContext,
    *,
    budget_tokens: int,
    count: markers.Count,
    system_prompt: str | None = None,
    reserved_tokens: int = 0,
) -> Window:
    """The window for one request, in at most `budget_tokens` tokens including system prompt and `reserved_tokens`.

    `reserved_tokens` are what the request carries besides messages (tool definitions). Raises `ContextIrreducibleError`
    when system prompt and reserve leave no room for a conversation.
    """
    session = context.session
    prompt = session.system_prompt if system_prompt is None else system_prompt
    system_tokens = session.system_tokens if prompt == session.system_prompt else count(prompt) + 4
    shown = entries(context, count)
    asked = max((item.seq for item in context.items if isinstance(item, Message) and item.role == "user"), default=0)
    room = budget_tokens - system_tokens - reserved_tokens
    omitted = 0
    if _total(shown) > room:
        if room < SMALLEST_ROOM_TOKENS:
            raise _irreducible(system_tokens, reserved_tokens, budget_tokens)
        shown, omitted = _fitted(shown, room, count, asked)
    return Window(
        messages=tuple(entry.message for entry in shown),
        system_prompt=prompt,
        system_tokens=system_tokens,
        tokens=system_tokens + reserved_tokens + _total(shown),
        budget_tokens=budget_tokens,
        omitted=omitted,
    )


def _total(shown: Iterable[Entry]) -> int:
    return sum(entry.message.token_count for entry in shown)


def _irreducible(system_tokens: int, reserved_tokens: int, budget_tokens: int) -> ContextIrreducibleError:
    return ContextIrreducibleError(
        f"system prompt ({system_tokens:,} tokens) and tool definitions ({reserved_tokens:,}) leave no room for a conversation in"
        f" {budget_tokens:,} usable tokens. Shorten them, or use a model with a larger window.",
        required_tokens=system_tokens + reserved_tokens,
        usable_tokens=budget_tokens,
    )


def _fitted(shown: list[Entry], room: int, count: markers.Count, asked: int) -> tuple[list[Entry], int]:
    """`asked` is the seq of the newest user message, which stays whole if it fits at all."""
    excerpt_tokens = int(room * EXCERPT_SHARE)
    shown = [
        replace(e, message=shortened(e.message, excerpt_tokens, count))
        if e.message.token_count > room * (LARGE_SHARE if e.message.seq != asked else 1 - EXCERPT_SHARE)
        else e
        for e in shown
    ]
    omitted = 0
    if _total(shown) > room:
        shown, omitted = _without_oldest(shown, room, count, asked)
    if _total(shown) > room:
        shown = _evenly_cut(shown, room, count, asked)
    return shown, omitted


def _without_oldest(shown: list[Entry], room: int, count: markers.Count, asked: int) -> tuple[list[Entry], int]:
    stride = max(int(room * STRIDE_SHARE), 1)
    excess = _total(shown) - room + 2 * MARKER_TOKENS
    to_free = -(-excess // stride) * stride
    kept = {shown[-1].atom, *(e.atom for e in shown if e.message.seq == asked)}
    atoms = [list(group) for _, group in groupby(shown, key=lambda entry: entry.atom)]
    candidates = [atom for atom in atoms if atom[0].atom not in kept]
    gone: set[int] = set()
    # Messages go before summaries: a summary says more in less room. The sort keeps the order within both.
    for atom in sorted(candidates, key=lambda atom: atom[0].message.is_summary):
        if to_free <= 0:
            break
        gone.add(atom[0].atom)
        to_free -= _total(atom)
    return list(_with_markers(shown, gone, count)), sum(1 for e in shown if e.atom in gone)


def _with_markers(shown: Sequence[Entry], gone: set[int], count: markers.Count) -> Iterable[Entry]:
    run: list[Entry] = []
    for entry in shown:
        if entry.atom in gone:
            run.append(entry)
            continue
        if run:
            yield _marker(run, count)
            run = []
        yield entry
    if run:
        yield _marker(run, count)


def _marker(run: Sequence[Entry], count: markers.Count) -> Entry:
    # What answers no call stands behind the results that do, whatever its place in the log.
    first, last_seq = min((e.message for e in run), key=lambda m: m.seq), max(e.last_seq for e in run)
    # A call's synthetic results share its seq and are no messages of the log.
    number = sum(span_end - start + 1 for start, span_end in {(e.message.seq, e.last_seq) for e in run})
    message = Message(
        id=f"{first.id}_omitted",
        session_id=first.session_id,
        seq=first.seq,
        role="user",
        parts=(TextPart(text=markers.omitted_span(first.seq, last_seq, number)),),
    )
    tokens, _ = message_tokens(message, count)
    return Entry(message.model_copy(update={"token_count": tokens}), run[0].atom, last_seq)


def _evenly_cut(shown: list[Entry], room: int, count: markers.Count, asked: int) -> list[Entry]:
    """Cut every message to the largest common size at which all of them fit, then drop all but the newest if none does."""
    low, high, best = SMALLEST_EXCERPT_TOKENS, room, None
    while low <= high:
        cap = (low + high) // 2
        cut = [replace(e, message=shortened(e.message, cap, count)) for e in shown]
        if _total(cut) <= room:
            best, low = cut, cap + 1
        else:
            high = cap - 1
    return best or _last_resort(shown, room, count, asked)


def _last_resort(shown: list[Entry], room: int, count: markers.Count, asked: int) -> list[Entry]:
    """The newest user message in brief, and one marker for everything before and after it."""
    gone = {e.atom for e in shown if e.message.seq != asked}
    left = list(_with_markers(shown, gone, count))
    marked = _total(e for e in left if e.message.seq != asked or e.atom in gone)
    return [
        replace(e, message=shortened(e.message, max(room - marked, 1), count)) if e.atom not in gone else e
        for e in left
    ]


def shortened(message: Message, max_tokens: int, count: markers.Count) -> Message:
    """The message cut to about `max_tokens`: its texts, tool inputs and outputs as head, tail and pointer; media as pointers.

    Call ids and names stay, so that pairs stay valid; a message of many small calls can therefore stay above the mark.
    """
    if message.token_count <= max_tokens:
        return message
    smallest = SMALLEST_EXCERPT_TOKENS // 2
    cap = max(max_tokens // max(len(message.parts), 1) - 12, smallest)
    while True:
        short = _recounted(message, [_short_part(part, cap, count, message.id) for part in message.parts], count)
        if short.token_count <= max_tokens:
            return short
        if cap <= smallest:
            return _in_one_piece(short, message, max_tokens, count)
        cap //= 2


def _in_one_piece(short: Message, message: Message, max_tokens: int, count: markers.Count) -> Message:
    """The message with all that is no call or result as one excerpt: many small parts cannot be cut one by one."""
    calls = [part for part in short.parts if isinstance(part, ToolPart | ToolResultPart)]
    text = text_of([part for part in message.parts if not isinstance(part, ToolPart | ToolResultPart)])
    if not text:
        return short
    room = max_tokens - message_tokens(message.model_copy(update={"parts": tuple(calls)}), count)[0]
    return _recounted(message, [TextPart(text=markers.excerpt(text, room, count, message.id)), *calls], count)


def _recounted(message: Message, parts: Sequence[MessagePart], count: markers.Count) -> Message:
    changed = message.model_copy(update={"parts": tuple(parts)})
    tokens, tool_tokens = message_tokens(changed, count)
    return changed.model_copy(update={"token_count": tokens, "tool_tokens": tool_tokens})


def _short_part(part: MessagePart, cap: int, count: markers.Count, message_id: str) -> MessagePart:
    if isinstance(part, TextPart | DataPart):
        return part.model_copy(update={"text": markers.excerpt(part.text, cap, count, message_id)})
    if isinstance(part, ToolResultPart):
        return part.model_copy(update={"output": markers.excerpt(part.output, cap, count, message_id)})
    if isinstance(part, ToolPart):
        return _short_call(part, cap, count, message_id)
    if isinstance(part, FilePart) and part.text is not None:
        return part.model_copy(update={"text": markers.excerpt(part.text, cap, count, message_id)})
    if isinstance(part, ImagePart | FilePart):
        return TextPart(text=markers.left_out(part.type, message_id))
    if isinstance(part, FileRefPart):
        short = markers.excerpt(part.exploration_summary, cap, count, message_id)
        return part.model_copy(update={"exploration_summary": short})
    if isinstance(part, ReasoningPart) and part.provider is not None and count(part.text) > cap:
        # Signed reasoning is sent back whole or not at all.
        return TextPart(text=markers.left_out(part.type, message_id))
    return part


def _short_call(part: ToolPart, cap: int, count: markers.Count, message_id: str) -> ToolPart:
    changes: dict[str, object] = {}
    if part.output is not None:
        changes["output"] = markers.excerpt(part.output, cap, count, message_id)
    if part.error_message is not None:
        changes["error_message"] = markers.excerpt(part.error_message, cap, count, message_id)
    written = arguments_text(part)
    if count(written) > cap:
        changes["input"] = {"shortened": markers.excerpt(written, cap, count, message_id)}
        changes["raw_input"] = None
    return part.model_copy(update=changes)
