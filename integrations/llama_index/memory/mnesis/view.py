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
from mnesis.store.context_cache import copy_message

SummaryPlacement = Literal["system", "user"]

VIEW_OPTIONS = WindowOptions(starts_with_user=True, summaries="preface", keeps_newest_message=True)
"""LlamaIndex's chat engines expect a user message first, and its own memories return the newest message in any case."""

_TEMPLATE_VARIABLE = re.compile(r"\{(query_str|context_str|context_msg|chat_history|question)\}")


@dataclass(frozen=True, slots=True)
class View:
    """The messages that `get()` returns, and their tokens according to the stored counts.

    `seqs` are the seqs of the messages in the log, None for messages that the view added.
    """

    messages: list[ChatMessage]
    seqs: list[int | None]
    tokens: int


def render_view(
    window: Window, stored: Mapping[str, Message], placement: SummaryPlacement, cache: ConversionCache[ChatMessage]
) -> View:
    """Convert a window to a view. `stored` are the messages of the active context by id."""
    head = [chat for message in window.system_messages for chat in from_record(copy_message(message))]
    originals = [stored.get(message.id) for message in window.messages]
    groups = [
        (message,) if original is None or original is message else (message, original)
        for message, original in zip(window.messages, originals, strict=True)
    ]
    session_id = window.session.id if window.session is not None else ""
    tail: list[ChatMessage] = []
    seqs: list[int | None] = []
    for original, messages in zip(originals, cache.read(session_id, groups, _convert), strict=True):
        tail += messages
        seqs += [original.seq if original is not None else None] * len(messages)
    head += _insert_preface(tail, window.preface, placement)
    tokens = window.tokens - window.system_tokens - window.reserved_tokens
    return View([*head, *tail], [*[None] * len(head), *seqs], tokens)


def _convert(records: Sequence[Message]) -> list[ChatMessage]:
    """Convert a message of a window; if the window changed it, its stored form follows."""
    return from_record(records[0]) if len(records) == 1 else from_window_record(*records)


def _insert_preface(
    messages: Sequence[ChatMessage], preface: Iterable[Message], placement: SummaryPlacement
) -> list[ChatMessage]:
    """Put the text of a preface at the beginning of the first user message, or return it as a separate message."""
    text = "\n\n".join(message.text_content() for message in preface)
    if not text:
        return []
    # Chat engines fill in template variables everywhere, including the history.
    text = _TEMPLATE_VARIABLE.sub(r"{ \1 }", text)
    first_user = next((message for message in messages if message.role == MessageRole.USER), None)
    if placement == "system" or first_user is None:
        role = MessageRole.SYSTEM if placement == "system" else MessageRole.USER
        return [ChatMessage(role=role, content=text)]
    first_user.blocks = [TextBlock(text=text), *first_user.blocks]
    return []
