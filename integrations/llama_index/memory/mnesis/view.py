"""Conversion of the active context to the messages that `get()` returns. Pure functions, no I/O.

A view consists of, in this order: system messages that are already folded, one preface (summaries, messages before the
first user message, a note on omitted messages), and the newest turns unchanged. If it contains a user message, it
starts with one after its system messages. A tool call always stays with its result. A view takes at most
`available_tokens`, unless the newest message alone takes more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock
from llama_index.memory.mnesis.messages import from_record, from_window_record

from mnesis.compaction.fold import turn_starts
from mnesis.context import markers
from mnesis.context.assemble import assemble, truncate
from mnesis.formats.text import parts_text
from mnesis.models.context import ActiveContext
from mnesis.models.message import Message, TextPart, ToolPart, ToolResultPart
from mnesis.tokens.estimator import MESSAGE_OVERHEAD_TOKENS, TokenCounter, message_tokens

SummaryPlacement = Literal["system", "user"]

UNLIMITED_TOKENS = 2**62
"""A budget with which the engine omits nothing, because the view makes its own selection."""
NOTE_TOKENS = 60
"""Tokens reserved for the note on omitted messages, which is longest if summaries are omitted too."""

ELLIPSIS = "[…]"
"""What is left of a message when even a pointer is too long."""

PREAMBLE_HEADER = "[Messages before the first user message]"
OMITTED_SUMMARIES_NOTE = "[Summaries of earlier messages are left out to save space; kept: lcm_grep, lcm_expand.]"
_TEMPLATE_VARIABLE = re.compile(r"\{(query_str|context_str|context_msg|chat_history|question)\}")


@dataclass(frozen=True, slots=True)
class Element:
    """One message of a view and its seq in the log, which is None if the view added the message."""

    message: ChatMessage
    seq: int | None


@dataclass(frozen=True, slots=True)
class View:
    """The messages that `get()` returns, and their tokens according to the stored counts."""

    elements: tuple[Element, ...]
    tokens: int

    @property
    def messages(self) -> list[ChatMessage]:
        return [element.message for element in self.elements]


@dataclass(frozen=True, slots=True)
class _Layout:
    """The content of a view before it is rendered."""

    system_messages: Sequence[Message]
    summaries: Sequence[Message]
    preamble: Sequence[Message]
    turns: Sequence[Sequence[Message]]
    omitted: Sequence[Message] = field(default=())
    omits_summaries: bool = False
    shows_note: bool = True

    @property
    def tokens(self) -> int:
        kept = [*self.system_messages, *self.preamble, *self.summaries, *(m for turn in self.turns for m in turn)]
        note = NOTE_TOKENS if self.shows_note and (self.omitted or self.omits_summaries) else 0
        frame = MESSAGE_OVERHEAD_TOKENS if self.summaries or self.preamble or note else 0
        return sum(message.token_count for message in kept) + note + frame


def make_view(
    context: ActiveContext,
    folded_system: Sequence[Message],
    *,
    available_tokens: int,
    placement: SummaryPlacement,
    count: TokenCounter,
) -> View:
    """Build the view of a context. `folded_system` are system messages that are already folded, oldest first."""
    window = assemble(context, budget_tokens=UNLIMITED_TOKENS, count=count, system_prompt="")
    layout = _fit(_lay_out(window.messages, folded_system), available_tokens, count)
    stored = {item.id: item for item in context.items if isinstance(item, Message)}
    return View(tuple(_render(layout, stored, placement)), layout.tokens)


def _lay_out(messages: Sequence[Message], folded_system: Sequence[Message]) -> _Layout:
    summaries = [message for message in messages if message.is_summary]
    # A folded instruction may be newer than one that is not folded. Listing them together keeps their order.
    last_folded = max((message.seq for message in folded_system), default=0)
    reordered = [m for m in messages if m.role == "system" and not m.is_summary and m.seq < last_folded]
    folded_system = sorted([*folded_system, *reordered], key=lambda message: message.seq)
    conversation = [message for message in messages if not message.is_summary and message not in reordered]
    starts = turn_starts([message for message in conversation if message.role != "system"])
    if not starts:
        return _Layout(folded_system, summaries, (), [conversation] if conversation else [])
    turn_messages = [message for message in conversation if message.role != "system"]
    turn_start_ids = {id(turn_messages[start]) for start in starts}
    turns: list[list[Message]] = [[]]
    for message in conversation:
        if id(message) in turn_start_ids:
            turns.append([])
        turns[-1].append(message)
    preamble = [message for message in turns[0] if message.role != "system"]
    early_system_messages = [message for message in turns[0] if message.role == "system"]
    return _Layout([*folded_system, *early_system_messages], summaries, preamble, turns[1:])


def _fit(layout: _Layout, available_tokens: int, count: TokenCounter) -> _Layout:
    """Make a layout fit: omit the preamble, then the oldest turns, then the summaries; shorten the newest turn last."""
    if layout.tokens > available_tokens and layout.preamble:
        layout = replace(layout, preamble=(), omitted=layout.preamble)
    while layout.tokens > available_tokens and len(layout.turns) > 1:
        layout = _drop_oldest_turn(layout)
    if layout.tokens > available_tokens and layout.summaries:
        layout = replace(layout, summaries=(), omits_summaries=True)
    if layout.tokens > available_tokens and layout.turns:
        layout = _shorten_turn(layout, available_tokens, count)
    if layout.tokens > available_tokens and layout.turns:
        layout = _omit_older_messages(layout, available_tokens, count)
    return layout if layout.tokens <= available_tokens else replace(layout, shows_note=False)


def _drop_oldest_turn(layout: _Layout) -> _Layout:
    oldest, *turns = layout.turns
    kept = [message for message in oldest if message.role == "system"]
    omitted = [message for message in oldest if message.role != "system"]
    return replace(
        layout, system_messages=[*layout.system_messages, *kept], turns=turns, omitted=[*layout.omitted, *omitted]
    )


def _shorten_turn(layout: _Layout, available_tokens: int, count: TokenCounter) -> _Layout:
    """Shorten the only turn, oldest messages first. The newest message stays.

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
        excess_tokens += NOTE_TOKENS + MESSAGE_OVERHEAD_TOKENS  # the note on omitted messages
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


def _omit_older_messages(layout: _Layout, available_tokens: int, count: TokenCounter) -> _Layout:
    """Omit the rest of the newest turn, oldest first, except its system messages. The newest message stays.

    The user message that begins the turn becomes an ellipsis if that is enough. Tokens are counted as LlamaIndex counts
    them, without what a provider adds to each message, so that nothing is omitted that its own memories would return.
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


def _replace_in_turn(layout: _Layout, message: Message, shown: Message | None) -> _Layout:
    """Replace a message of the newest turn, or omit it if `shown` is None."""
    replaced = [
        [shown] if m is message and shown is not None else [m] if m is not message else [] for m in layout.turns[0]
    ]
    return replace(layout, turns=[[m for part in replaced for m in part]], omitted=[*layout.omitted, message])


def _ellipsis_of(message: Message, count: TokenCounter) -> Message:
    """Return a message whose content is only an ellipsis, if that is shorter."""
    changed = message.model_copy(update={"parts": (TextPart(text=ELLIPSIS),)})
    tokens, _ = message_tokens(changed, count)
    return changed.model_copy(update={"token_count": tokens}) if tokens < message.token_count else message


def _content_tokens(layout: _Layout) -> int:
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
    parts = [
        part.model_copy(update={"output": marker})
        if isinstance(part, ToolResultPart)
        and count(marker := markers.pruned_output_marker(message.id, part.tool_name, count(part.output)))
        < count(part.output)
        else part
        for part in message.parts
    ]
    changed = message.model_copy(update={"parts": tuple(parts)})
    tokens, tool_tokens = message_tokens(changed, count)
    return changed.model_copy(update={"token_count": tokens, "tool_tokens": tool_tokens})


def _render(layout: _Layout, stored: dict[str, Message], placement: SummaryPlacement) -> Iterable[Element]:
    head = [Element(chat_message, None) for message in layout.system_messages for chat_message in from_record(message)]
    tail = [
        Element(chat_message, message.seq if message.id in stored else None)
        for turn in layout.turns
        for message in turn
        for chat_message in from_window_record(message, stored.get(message.id))
    ]
    text = _preface(layout)
    if not text:
        return [*head, *tail]
    first_user_index = next((i for i, element in enumerate(tail) if element.message.role == MessageRole.USER), None)
    if placement == "system" or first_user_index is None:
        role = MessageRole.SYSTEM if placement == "system" else MessageRole.USER
        return [*head, Element(ChatMessage(role=role, content=text), None), *tail]
    tail[first_user_index].message.blocks = [TextBlock(text=text), *tail[first_user_index].message.blocks]
    return [*head, *tail]


def _preface(layout: _Layout) -> str:
    texts = [message.text_content() for message in layout.summaries]
    if layout.preamble:
        texts.append("\n".join([PREAMBLE_HEADER, *map(_transcribe, layout.preamble)]))
    if layout.shows_note and layout.omits_summaries:
        texts.append(OMITTED_SUMMARIES_NOTE)
    if layout.shows_note and layout.omitted:
        seqs = [message.seq for message in layout.omitted]
        texts.append(markers.omitted_span_marker(min(seqs), max(seqs), len(set(seqs))))
    # Chat engines fill in template variables everywhere, including the history.
    return _TEMPLATE_VARIABLE.sub(r"{ \1 }", "\n\n".join(texts))


def _transcribe(message: Message) -> str:
    lines: list[Any] = [parts_text([p for p in message.parts if not isinstance(p, ToolPart | ToolResultPart)])]
    lines += [f"called {part.tool_name}" for part in message.tool_calls]
    lines += [f"result of {part.tool_name or 'a tool'}: {part.output}" for part in message.tool_results]
    return f"{message.role}: " + "\n".join(text for text in lines if text)
