"""Conversion of a window to the messages that `get()` returns. Pure functions, no I/O.

A view consists of, in this order: system messages that are already folded, one preface (summaries, messages before the
first user message, a note on omitted messages), and the newest turns unchanged. The engine chooses what it contains; see
`VIEW_OPTIONS`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock
from llama_index.memory.mnesis.messages import from_record, from_window_record

from mnesis.models.context import Window, WindowOptions
from mnesis.models.message import Message
from mnesis.session.conversion_cache import ConversionCache

SummaryPlacement = Literal["system", "user"]

VIEW_OPTIONS = WindowOptions(starts_with_user=True, summaries="preface", keeps_newest_message=True)
"""LlamaIndex's chat engines expect a user message first, and its own memories return the newest message in any case."""

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


def render_view(
    window: Window, stored: Mapping[str, Message], placement: SummaryPlacement, cache: ConversionCache[ChatMessage]
) -> View:
    """Convert a window to a view. `stored` are the messages of the active context by id."""
    tokens = window.tokens - window.system_tokens - window.reserved_tokens
    return View(tuple(_render(window, stored, placement, cache)), tokens)


def _convert(records: Sequence[Message]) -> list[ChatMessage]:
    """Convert a message of a window, followed by the stored one if the window shows that differently."""
    return from_record(records[0]) if len(records) == 1 else from_window_record(*records)


def _render(
    window: Window, stored: Mapping[str, Message], placement: SummaryPlacement, cache: ConversionCache[ChatMessage]
) -> Iterable[Element]:
    head = [Element(chat, None) for message in window.system_messages for chat in from_record(message)]
    originals = [stored.get(message.id) for message in window.messages]
    groups = [
        (message,) if original is None or original is message else (message, original)
        for message, original in zip(window.messages, originals, strict=True)
    ]
    session_id = window.session.id if window.session is not None else ""
    tail = [
        Element(chat, original.seq if original is not None else None)
        for original, messages in zip(originals, cache.read(session_id, groups, _convert), strict=True)
        for chat in messages
    ]
    text = "\n\n".join(message.text_content() for message in window.preface)
    if not text:
        return [*head, *tail]
    # Chat engines fill in template variables everywhere, including the history.
    text = _TEMPLATE_VARIABLE.sub(r"{ \1 }", text)
    first_user_index = next((i for i, element in enumerate(tail) if element.message.role == MessageRole.USER), None)
    if placement == "system" or first_user_index is None:
        role = MessageRole.SYSTEM if placement == "system" else MessageRole.USER
        return [*head, Element(ChatMessage(role=role, content=text), None), *tail]
    tail[first_user_index].message.blocks = [TextBlock(text=text), *tail[first_user_index].message.blocks]
    return [*head, *tail]
