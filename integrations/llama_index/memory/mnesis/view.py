"""From the active context to the messages `get()` returns. Pure: the same context and room give the same view.

A view is, in this order: system messages that were put in but are folded by now, one preface (summaries, what was said
before the first user message, a note on what is left out), and the newest turns as they are. It starts with a user
message behind its system messages wherever there is one, never tears a tool call from its result, and takes at most
`room_tokens` unless the newest message alone takes more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock
from llama_index.memory.mnesis.messages import from_record, shown

from mnesis.compaction.fold import turn_starts
from mnesis.context import markers
from mnesis.context.assemble import assemble, shortened
from mnesis.formats.openai import text_of
from mnesis.models.context import ActiveContext
from mnesis.models.message import Message, ToolPart, ToolResultPart
from mnesis.tokens.estimator import message_tokens

Insert = Literal["system", "user"]
Count = Callable[[str], int]

UNLIMITED_TOKENS = 2**62
NOTE_TOKENS = 60
FRAME_TOKENS = 4
"""What a message takes beside its text."""

BEGINNING = "[What was said before the first user message]"
SUMMARY_LEFT_OUT = "[Summaries of earlier messages are not shown here for want of room; kept: lcm_grep, lcm_expand.]"
_TEMPLATE_VARIABLE = re.compile(r"\{(query_str|context_str|context_msg|chat_history|question)\}")


@dataclass(frozen=True, slots=True)
class Element:
    """One message of a view, and where it stands in the log: None for what the view itself says."""

    message: ChatMessage
    seq: int | None


@dataclass(frozen=True, slots=True)
class View:
    """What `get()` returns, and its tokens by the stored counts."""

    elements: tuple[Element, ...]
    tokens: int

    @property
    def messages(self) -> list[ChatMessage]:
        return [element.message for element in self.elements]


@dataclass(frozen=True, slots=True)
class _Layout:
    """What a view is made of, before it is written out."""

    pinned: Sequence[Message]
    summaries: Sequence[Message]
    lead: Sequence[Message]
    turns: Sequence[Sequence[Message]]
    left_out: Sequence[Message] = field(default=())
    without_summaries: bool = False
    with_note: bool = True

    @property
    def tokens(self) -> int:
        kept = [*self.pinned, *self.lead, *self.summaries, *(m for turn in self.turns for m in turn)]
        note = NOTE_TOKENS if self.with_note and (self.left_out or self.without_summaries) else 0
        frame = FRAME_TOKENS if self.summaries or self.lead or note else 0
        return sum(message.token_count for message in kept) + note + frame


def make_view(
    context: ActiveContext, pinned: Sequence[Message], *, room_tokens: int, insert: Insert, count: Count
) -> View:
    """The view of `context` in `room_tokens`. `pinned` are system messages that are folded by now, oldest first."""
    window = assemble(context, budget_tokens=UNLIMITED_TOKENS, count=count, system_prompt="")
    layout = _fitted(_laid_out(window.messages, pinned), room_tokens, count)
    stored = {item.id: item for item in context.items if isinstance(item, Message)}
    return View(tuple(_written(layout, stored, insert)), layout.tokens)


def _laid_out(messages: Sequence[Message], pinned: Sequence[Message]) -> _Layout:
    summaries = [message for message in messages if message.is_summary]
    # A fold may take an instruction that was given after one that stands: together they keep their order.
    last_folded = max((message.seq for message in pinned), default=0)
    overtaken = [m for m in messages if m.role == "system" and not m.is_summary and m.seq < last_folded]
    pinned = sorted([*pinned, *overtaken], key=lambda message: message.seq)
    said = [message for message in messages if not message.is_summary and message not in overtaken]
    starts = turn_starts([message for message in said if message.role != "system"])
    if not starts:
        return _Layout(pinned, summaries, (), [said] if said else [])
    spoken = [message for message in said if message.role != "system"]
    firsts = {id(spoken[start]) for start in starts}
    turns: list[list[Message]] = [[]]
    for message in said:
        if id(message) in firsts:
            turns.append([])
        turns[-1].append(message)
    lead = [message for message in turns[0] if message.role != "system"]
    early = [message for message in turns[0] if message.role == "system"]
    return _Layout([*pinned, *early], summaries, lead, turns[1:])


def _fitted(layout: _Layout, room: int, count: Count) -> _Layout:
    """Leave out what there is no room for: the beginning, then the oldest turns, then summaries; cut the newest turn last."""
    if layout.tokens > room and layout.lead:
        layout = replace(layout, lead=(), left_out=layout.lead)
    while layout.tokens > room and len(layout.turns) > 1:
        layout = _without_oldest_turn(layout)
    if layout.tokens > room and layout.summaries:
        layout = replace(layout, summaries=(), without_summaries=True)
    if layout.tokens > room and layout.turns:
        layout = _with_short_turn(layout, room, count)
    return layout if layout.tokens <= room else replace(layout, with_note=False)


def _without_oldest_turn(layout: _Layout) -> _Layout:
    oldest, *turns = layout.turns
    kept = [message for message in oldest if message.role == "system"]
    gone = [message for message in oldest if message.role != "system"]
    return replace(layout, pinned=[*layout.pinned, *kept], turns=turns, left_out=[*layout.left_out, *gone])


def _with_short_turn(layout: _Layout, room: int, count: Count) -> _Layout:
    """Cut the only turn: outputs of tools become pointers, oldest first; then calls with their results go, oldest first;
    then what was asked becomes an excerpt. The newest message stays."""
    turn = list(layout.turns[0])
    excess = layout.tokens - room
    for index, message in enumerate(turn):
        if excess > 0 and message.role == "tool":
            turn[index] = _pointing(message, count)
            excess -= message.token_count - turn[index].token_count
    gone: list[Message] = []
    atoms = _atoms(turn)
    middle = [atom for atom in atoms[:-1] if atom[0].role not in ("user", "system")]
    if excess > 0 and not (layout.left_out or layout.without_summaries):
        excess += NOTE_TOKENS + FRAME_TOKENS  # of the note that will say so
    for atom in middle:
        if excess > 0:
            gone += atom
            excess -= sum(message.token_count for message in atom)
    turn = [message for message in turn if message not in gone]
    for index, message in enumerate(turn[:-1]):
        if excess > 0 and message.role == "user":
            turn[index] = shortened(message, max(message.token_count - excess, 1), count)
            excess -= message.token_count - turn[index].token_count
    return replace(layout, turns=[turn], left_out=[*layout.left_out, *gone])


def _atoms(turn: Sequence[Message]) -> list[list[Message]]:
    """Messages that belong together: a call and its results."""
    atoms: list[list[Message]] = []
    for message in turn:
        if message.role == "tool" and atoms:
            atoms[-1].append(message)
        else:
            atoms.append([message])
    return atoms


def _pointing(message: Message, count: Count) -> Message:
    """A tool message with pointers in place of its outputs, where those are shorter."""
    parts = [
        part.model_copy(update={"output": marker})
        if isinstance(part, ToolResultPart)
        and count(marker := markers.pruned_output(message.id, part.tool_name, count(part.output))) < count(part.output)
        else part
        for part in message.parts
    ]
    changed = message.model_copy(update={"parts": tuple(parts)})
    tokens, tool_tokens = message_tokens(changed, count)
    return changed.model_copy(update={"token_count": tokens, "tool_tokens": tool_tokens})


def _written(layout: _Layout, stored: dict[str, Message], insert: Insert) -> Iterable[Element]:
    head = [Element(made, None) for message in layout.pinned for made in from_record(message)]
    tail = [
        Element(made, message.seq if message.id in stored else None)
        for turn in layout.turns
        for message in turn
        for made in shown(message, stored.get(message.id))
    ]
    text = _preface(layout)
    if not text:
        return [*head, *tail]
    asked = next((i for i, element in enumerate(tail) if element.message.role == MessageRole.USER), None)
    if insert == "system" or asked is None:
        role = MessageRole.SYSTEM if insert == "system" else MessageRole.USER
        return [*head, Element(ChatMessage(role=role, content=text), None), *tail]
    tail[asked].message.blocks = [TextBlock(text=text), *tail[asked].message.blocks]
    return [*head, *tail]


def _preface(layout: _Layout) -> str:
    texts = [message.text_content() for message in layout.summaries]
    if layout.lead:
        texts.append("\n".join([BEGINNING, *map(_transcribed, layout.lead)]))
    if layout.with_note and layout.without_summaries:
        texts.append(SUMMARY_LEFT_OUT)
    if layout.with_note and layout.left_out:
        seqs = [message.seq for message in layout.left_out]
        texts.append(markers.omitted_span(min(seqs), max(seqs), len(set(seqs))))
    # Chat engines fill in these variables wherever they stand, also in history.
    return _TEMPLATE_VARIABLE.sub(r"{ \1 }", "\n\n".join(texts))


def _transcribed(message: Message) -> str:
    said: list[Any] = [text_of([p for p in message.parts if not isinstance(p, ToolPart | ToolResultPart)])]
    said += [f"called {part.tool_name}" for part in message.tool_calls]
    said += [f"result of {part.tool_name or 'a tool'}: {part.output}" for part in message.tool_results]
    return f"{message.role}: " + "\n".join(text for text in said if text)
