"""Messages adapted to the model that receives them, before they are rendered. Pure functions, no I/O.

Reasoning and signatures are kept only if the receiving model produced them. Tool call ids and tool names get the form
that the provider accepts, one-to-one. Every change depends only on the messages before it, so the beginning of a
request stays the same from turn to turn.
"""

from __future__ import annotations

import hashlib
import re
import string
from collections.abc import Iterable, Sequence

from mnesis.formats.text import is_plain_text
from mnesis.models.dialects import CallIds, Dialect, shares_reasoning
from mnesis.models.message import (
    Message,
    MessagePart,
    ReasoningPart,
    TextPart,
    ToolPart,
    ToolResultPart,
)

SIGNATURE_SEPARATOR = "__thought__"
"""The separator after which litellm appends Gemini's signature to a call id."""

SYSTEM_PREFIX = "[System message]\n"
_ALPHABET = string.digits + string.ascii_letters
_DERIVED_CHARS = 24
"""The number of characters of a derived id, if the provider does not require an exact number."""


def adapt_messages(messages: Iterable[Message], dialect: Dialect, model: str) -> list[Message]:
    """Return the messages as `model` may receive them."""
    adapted = [_adapt_origin(message, dialect, model) for message in messages]
    if not dialect.system_anywhere:
        adapted = [_system_as_user(message) for message in adapted]
    if not dialect.text_in_tool_loops:
        adapted = _move_summaries_before_turns(adapted)
    return rewrite_calls(adapted, dialect)


def _adapt_origin(message: Message, dialect: Dialect, model: str) -> Message:
    """Remove reasoning, signatures and signed ids that another model produced."""
    if message.role != "assistant" or is_plain_text(message) or shares_reasoning(dialect, model, message.model_id):
        return message
    parts = [_without_provider(part) for part in message.parts if not isinstance(part, ReasoningPart)]
    return message.model_copy(update={"parts": tuple(parts)})


def _without_provider(part: MessagePart) -> MessagePart:
    if isinstance(part, TextPart | ToolPart) and part.provider is not None:
        return part.model_copy(update={"provider": None})
    return part


def _system_as_user(message: Message) -> Message:
    if message.role != "system":
        return message
    parts = [
        part.model_copy(update={"text": SYSTEM_PREFIX + part.text}) if isinstance(part, TextPart) else part
        for part in message.parts
    ]
    return message.model_copy(update={"role": "user", "parts": tuple(parts)})


def _move_summaries_before_turns(messages: Iterable[Message]) -> list[Message]:
    """Move each summary between the steps of a tool loop to the beginning of its turn.

    Text between steps would begin another loop that lacks the thinking it must open with, or is not allowed at all.
    """
    moved: list[Message] = []
    for message in messages:
        index = len(moved)
        if message.is_summary and moved and _ends_with_results(moved[-1]):
            index = max((i for i, m in enumerate(moved) if m.role == "user" and not m.is_summary), default=index)
        moved.insert(index, message)
    return moved


def _ends_with_results(message: Message) -> bool:
    if message.role != "assistant":
        return message.role == "tool"
    return bool(message.parts) and isinstance(message.parts[-1], ToolPart)


def rewrite_calls(messages: Sequence[Message], dialect: Dialect) -> list[Message]:
    """Give calls and their results ids and names that the provider accepts."""
    ids = _IdRewriter(dialect.call_ids, keeps_signatures=dialect.call_signatures)
    rewritten: list[Message] = []
    new_ids: dict[str, str] = {}
    for message in messages:
        if is_plain_text(message):
            rewritten.append(message)
            continue
        parts = message.parts
        if message.role == "assistant" and message.tool_calls:
            new_ids = {}
            parts = tuple(_rewrite_call(part, ids, new_ids, dialect.tool_names) for part in parts)
        elif message.role == "tool":
            parts = tuple(_rewrite_result(part, new_ids) for part in parts)
        is_same = all(new is old for new, old in zip(parts, message.parts, strict=True))
        rewritten.append(message if is_same else message.model_copy(update={"parts": parts}))
    return rewritten


def _rewrite_call(part: MessagePart, ids: _IdRewriter, new_ids: dict[str, str], names: str) -> MessagePart:
    if not isinstance(part, ToolPart):
        return part
    new_id = new_ids[part.tool_call_id] = ids.rewrite(part.tool_call_id, is_signed=part.provider is not None)
    name = part.tool_name
    if name and not re.fullmatch(names, name):
        name = re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:64]
    if (new_id, name) == (part.tool_call_id, part.tool_name):
        return part
    return part.model_copy(update={"tool_call_id": new_id, "tool_name": name})


def _rewrite_result(part: MessagePart, new_ids: dict[str, str]) -> MessagePart:
    if not isinstance(part, ToolResultPart) or new_ids.get(part.tool_call_id, part.tool_call_id) == part.tool_call_id:
        return part
    return part.model_copy(update={"tool_call_id": new_ids[part.tool_call_id]})


class _IdRewriter:
    """Rewrites the call ids of one request. Different ids stay different."""

    def __init__(self, rule: CallIds, *, keeps_signatures: bool) -> None:
        self._rule, self._keeps_signatures = rule, keeps_signatures
        self._owners: dict[str, str] = {}
        self._used: set[str] = set()

    def rewrite(self, call_id: str, *, is_signed: bool) -> str:
        """Return the id of a call in this request."""
        bare_id = call_id if is_signed and self._keeps_signatures else call_id.split(SIGNATURE_SEPARATOR, 1)[0]
        candidate, attempt = bare_id if self._is_valid(bare_id) else self._derive(call_id, 0), 0
        while self._owners.get(candidate, call_id) != call_id or (self._rule.unique and candidate in self._used):
            attempt += 1
            candidate = self._derive(call_id, attempt)
        self._owners[candidate] = call_id
        self._used.add(candidate)
        return candidate

    def _is_valid(self, call_id: str) -> bool:
        rule = self._rule
        is_long_enough = rule.exact_chars is None or len(call_id) == rule.exact_chars
        return is_long_enough and len(call_id) <= rule.max_chars and bool(re.fullmatch(rule.pattern, call_id))

    def _derive(self, call_id: str, attempt: int) -> str:
        digest = hashlib.sha256(f"{attempt}\0{call_id}".encode("utf-8", "surrogatepass")).digest()
        number, length = int.from_bytes(digest), self._rule.exact_chars or _DERIVED_CHARS
        return "".join(_ALPHABET[number // 62**place % 62] for place in range(length))
