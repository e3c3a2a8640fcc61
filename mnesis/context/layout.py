"""The layout of a window with `WindowOptions`, and its reduction to a size. Pure functions, no I/O.

A layout has, in this order: system messages that are folded or come before the first turn, the preface (summaries, the
messages before the first user message, a note on omissions), and the turns. To make it fit, whole turns are left out,
oldest first, so that the window still begins with a user message. A tool call always stays with its results. The newest
message stays unchanged as long as it fits alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mnesis.context import markers
from mnesis.context.excerpts import truncate
from mnesis.context.turns import turn_starts
from mnesis.formats.text import parts_text
from mnesis.models.context import WindowOptions
from mnesis.models.message import Message, TextPart, ToolPart, ToolResultPart
from mnesis.tokens.estimator import MESSAGE_OVERHEAD_TOKENS, TokenCounter, message_tokens

NOTE_TOKENS = 64
"""Tokens reserved for the note on omissions, which is longest if summaries are omitted too."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The content of a window in its parts. `opening` are the messages before the first user message, as one text."""

    system_messages: Sequence[Message]
    summaries: Sequence[Message]
    opening: Message | None
    turns: Sequence[Sequence[Message]]
    opening_messages: Sequence[Message] = ()
    omitted: Sequence[Message] = field(default=())
    omits_summaries: bool = False
    shows_note: bool = True

    @property
    def tokens(self) -> int:
        """The tokens of all parts, with those reserved for a note."""
        opening = [self.opening] if self.opening is not None else []
        kept = [*self.system_messages, *self.summaries, *opening, *(m for turn in self.turns for m in turn)]
        return sum(message.token_count for message in kept) + (NOTE_TOKENS if self._needs_note else 0)

    @property
    def _needs_note(self) -> bool:
        return self.shows_note and bool(self.omitted or self.omits_summaries)

    def preface(self, count: TokenCounter) -> tuple[Message, ...]:
        """Return the messages before the turns: summaries, the opening and the note, each as a user message."""
        preface = [*self.summaries, *([self.opening] if self.opening is not None else [])]
        if self._needs_note:
            lines = [markers.OMITTED_SUMMARIES] if self.omits_summaries else []
            if self.omitted:
                seqs = {message.seq for message in self.omitted}
                lines.append(markers.omitted_span_marker(min(seqs), max(seqs), len(seqs)))
            first = min(self.omitted, key=lambda message: message.seq, default=None)
            preface.append(_user_message(first, "omitted", "\n\n".join(lines), count))
        return tuple(preface)


def lay_out(messages: Sequence[Message], options: WindowOptions, count: TokenCounter) -> Layout:
    """Sort the messages of a context, valid for a provider, into the parts of a layout."""
    summaries = [message for message in messages if message.is_summary]
    pinned = options.pinned_system_messages
    # A folded instruction may be newer than one that is not folded. Listing them together keeps their order.
    last_pinned = max((message.seq for message in pinned), default=0)
    reordered = [m for m in messages if m.role == "system" and not m.is_summary and m.seq < last_pinned]
    system_messages = sorted([*pinned, *reordered], key=lambda message: message.seq)
    conversation = [message for message in messages if not message.is_summary and message not in reordered]
    turns = _split_turns(conversation)
    if not options.starts_with_user or len(turns) == 1:
        return Layout(system_messages, summaries, None, [turn for turn in turns if turn])
    early_system_messages = [message for message in turns[0] if message.role == "system"]
    opening = [message for message in turns[0] if message.role != "system"]
    return Layout(
        [*system_messages, *early_system_messages],
        summaries,
        _opening(opening, count) if opening else None,
        turns[1:],
        opening,
    )


def _split_turns(conversation: Sequence[Message]) -> list[list[Message]]:
    """Return the messages before the first turn, and then each turn. System messages keep their places."""
    spoken = [message for message in conversation if message.role != "system"]
    start_ids = {id(spoken[start]) for start in turn_starts(spoken)}
    turns: list[list[Message]] = [[]]
    for message in conversation:
        if id(message) in start_ids:
            turns.append([])
        turns[-1].append(message)
    return turns


def fit_layout(layout: Layout, available_tokens: int, count: TokenCounter, *, keeps_newest_message: bool) -> Layout:
    """Make a layout fit: leave out the opening, then the oldest turns, then the summaries; shorten the newest turn last.

    With `keeps_newest_message`, the newest message stays unchanged, and the result exceeds `available_tokens` if that
    message alone does. Without it, that message becomes an excerpt.
    """
    if layout.tokens <= available_tokens:
        return layout
    if layout.opening is not None:
        layout = replace(layout, opening=None, omitted=layout.opening_messages)
    while layout.tokens > available_tokens and len(layout.turns) > 1:
        layout = _drop_oldest_turn(layout)
    if layout.tokens > available_tokens and layout.summaries:
        layout = replace(layout, summaries=(), omits_summaries=True)
    if layout.tokens > available_tokens and layout.turns:
        layout = _shorten_turn(layout, available_tokens, count)
    if layout.tokens > available_tokens and layout.turns:
        layout = _omit_older_messages(layout, available_tokens, count)
    if layout.tokens > available_tokens:
        layout = replace(layout, shows_note=False)
    if layout.tokens > available_tokens and layout.turns and not keeps_newest_message:
        *older, newest = layout.turns[-1]
        excess_tokens = layout.tokens - available_tokens
        newest = truncate(newest, max(newest.token_count - excess_tokens, 1), count)
        layout = replace(layout, turns=[*layout.turns[:-1], [*older, newest]])
    return layout


def _drop_oldest_turn(layout: Layout) -> Layout:
    oldest, *turns = layout.turns
    kept = [message for message in oldest if message.role == "system"]
    omitted = [message for message in oldest if message.role != "system"]
    return replace(
        layout, system_messages=[*layout.system_messages, *kept], turns=turns, omitted=[*layout.omitted, *omitted]
    )


def _shorten_turn(layout: Layout, available_tokens: int, count: TokenCounter) -> Layout:
    """Shorten the only turn, oldest messages first. The newest message is kept.

    Tool outputs become markers, then calls with their results are omitted, then user messages become excerpts.
    """
    turn = list(layout.turns[0])
    excess_tokens = layout.tokens - available_tokens
    for index, message in enumerate(turn):
        if excess_tokens > 0 and message.role == "tool":
            turn[index] = _with_output_markers(message, count)
            excess_tokens -= message.token_count - turn[index].token_count
    omitted: list[Message] = []
    groups = _call_groups(turn)
    middle_groups = [group for group in groups[:-1] if group[0].role not in ("user", "system")]
    if excess_tokens > 0 and not (layout.omitted or layout.omits_summaries):
        excess_tokens += NOTE_TOKENS
    for group in middle_groups:
        if excess_tokens > 0:
            omitted += group
            excess_tokens -= sum(message.token_count for message in group)
    turn = [message for message in turn if message not in omitted]
    for index, message in enumerate(turn[:-1]):
        if excess_tokens > 0 and message.role == "user":
            turn[index] = truncate(message, max(message.token_count - excess_tokens, 1), count)
            excess_tokens -= message.token_count - turn[index].token_count
    return replace(layout, turns=[turn], omitted=[*layout.omitted, *omitted])


def _omit_older_messages(layout: Layout, available_tokens: int, count: TokenCounter) -> Layout:
    """Omit the rest of the newest turn, oldest first, except its system messages. The newest message stays.

    The user message that begins the turn becomes an ellipsis if that is enough. Only content is counted here, without
    the overhead of each message, so that a limit of a few tokens still admits as many messages as their content allows.
    """
    layout = replace(layout, shows_note=False)
    *older_groups, _ = _call_groups(layout.turns[0])
    older = [message for group in older_groups for message in group]
    for message in older:
        if _content_tokens(layout) <= available_tokens:
            break
        if message.role == "system":
            continue
        shown = _ellipsis_of(message, count) if message is older[0] and message.role == "user" else None
        layout = _replace_in_turn(layout, message, shown)
    if _content_tokens(layout) > available_tokens and older and older[0].role == "user":
        without_user_message = replace(layout, turns=[[m for m in layout.turns[0] if m.id != older[0].id]])
        if _content_tokens(without_user_message) <= available_tokens:
            layout = without_user_message
    layout_with_note = replace(layout, shows_note=True)
    return layout_with_note if layout_with_note.tokens <= available_tokens else layout


def _replace_in_turn(layout: Layout, message: Message, shown: Message | None) -> Layout:
    """Replace a message of the newest turn, or omit it if `shown` is None."""
    replaced = [
        [shown] if m is message and shown is not None else [m] if m is not message else [] for m in layout.turns[0]
    ]
    return replace(layout, turns=[[m for part in replaced for m in part]], omitted=[*layout.omitted, message])


def _ellipsis_of(message: Message, count: TokenCounter) -> Message:
    """Return a message whose content is only an ellipsis, if that is shorter."""
    changed = _with_parts(message, (TextPart(text=markers.ELLIPSIS),), count)
    return changed if changed.token_count < message.token_count else message


def _content_tokens(layout: Layout) -> int:
    messages = [*layout.system_messages, *layout.summaries, *(message for turn in layout.turns for message in turn)]
    return sum(max(message.token_count - MESSAGE_OVERHEAD_TOKENS, 0) for message in messages)


def _call_groups(turn: Sequence[Message]) -> list[list[Message]]:
    """Group messages so that a call and its results stay together."""
    groups: list[list[Message]] = []
    for message in turn:
        if message.role == "tool" and groups:
            groups[-1].append(message)
        else:
            groups.append([message])
    return groups


def _with_output_markers(message: Message, count: TokenCounter) -> Message:
    """Replace the outputs of a tool message with markers where a marker is shorter."""
    parts = tuple(
        part.model_copy(update={"output": marker})
        if isinstance(part, ToolResultPart)
        and count(marker := markers.pruned_output_marker(message.id, part.tool_name, count(part.output)))
        < count(part.output)
        else part
        for part in message.parts
    )
    return _with_parts(message, parts, count)


def _with_parts(message: Message, parts: tuple[object, ...], count: TokenCounter) -> Message:
    changed = message.model_copy(update={"parts": parts})
    tokens, tool_tokens = message_tokens(changed, count)
    return changed.model_copy(update={"token_count": tokens, "tool_tokens": tool_tokens})


def _opening(messages: Sequence[Message], count: TokenCounter) -> Message:
    text = "\n".join([markers.OPENING_HEADER, *map(_transcribe, messages)])
    return _user_message(messages[0], "opening", text, count)


def _user_message(origin: Message | None, kind: str, text: str, count: TokenCounter) -> Message:
    """Return a message of the engine at the position of `origin`, or at the beginning if `origin` is None."""
    return Message(
        id=f"{origin.id}_{kind}" if origin is not None else kind,
        session_id=origin.session_id if origin is not None else "",
        seq=origin.seq if origin is not None else 0,
        role="user",
        parts=(TextPart(text=text),),
        token_count=count(text) + MESSAGE_OVERHEAD_TOKENS,
    )


def _transcribe(message: Message) -> str:
    lines = [parts_text([p for p in message.parts if not isinstance(p, ToolPart | ToolResultPart)])]
    lines += [f"called {part.tool_name}" for part in message.tool_calls]
    lines += [f"result of {part.tool_name or 'a tool'}: {part.output}" for part in message.tool_results]
    return f"{message.role}: " + "\n".join(text for text in lines if text)
