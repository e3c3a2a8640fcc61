"""Digests of the parts of a request, which show whether a later request begins with the same. Pure functions, no I/O."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from json.encoder import encode_basestring_ascii
from typing import Any

from mnesis.formats.request import Rendered
from mnesis.formats.step import content_blocks

CACHED_OPTIONS = ("tool_choice", "parallel_tool_calls", "thinking", "reasoning_effort", "response_format", "speed")
"""The arguments that belong to the cached prefix (platform.claude.com, prompt caching, "What invalidates the cache")."""
DIGEST_CHARS = 32

_encode = json.JSONEncoder(default=str).encode


@dataclass(frozen=True, slots=True)
class RequestDigests:
    """Digests of the parts of a request. Those of `messages` cover all messages up to each one, without the system prompt.

    `conversation`, `definitions` and `instructions` are the messages, tools and system prompt that they were computed from.
    """

    tools: str
    system: str
    options: str
    messages: tuple[str, ...]
    conversation: tuple[Mapping[str, Any], ...] = field(default=(), repr=False, compare=False)
    definitions: tuple[Mapping[str, Any], ...] = field(default=(), repr=False, compare=False)
    instructions: tuple[Mapping[str, Any], ...] = field(default=(), repr=False, compare=False)


def digest_request(rendered: Rendered, earlier: RequestDigests | None = None) -> RequestDigests:
    """Return the digests of a request. Cache marks do not change them.

    Digests of parts that equal those of an `earlier` request are not computed again.
    """
    instructions = tuple([message for message in rendered.messages if message["role"] == "system"])
    conversation = tuple([message for message in rendered.messages if message["role"] != "system"])
    options = {name: rendered.options[name] for name in CACHED_OPTIONS if name in rendered.options}
    definitions = tuple(rendered.tools)
    known = earlier or _NO_REQUEST
    return RequestDigests(
        tools=known.tools if known.definitions == definitions else _digest(_without_marks_in(definitions)),
        system=known.system if known.instructions == instructions else _digest(_without_marks_in(instructions)),
        options=_digest(options),
        messages=_digest_messages(conversation, earlier),
        conversation=conversation,
        definitions=definitions,
        instructions=instructions,
    )


def _digest_messages(messages: Sequence[Mapping[str, Any]], earlier: RequestDigests | None) -> tuple[str, ...]:
    """Return a digest for each message, which covers the message and the digest before it."""
    digests = list(earlier.messages[: _count_same(earlier.conversation, messages)]) if earlier is not None else []
    for message in messages[len(digests) :]:
        before = digests[-1] if digests else ""
        digests.append(_digest_message(before, message))
    return tuple(digests)


def _digest_message(before: str, message: Mapping[str, Any]) -> str:
    """Return the digest of a message and the digest before it."""
    content = message.get("content")
    if type(content) is str and list(message) == ["role", "content"]:  # most messages: no copies
        block = f'{{"type": "text", "text": {encode_basestring_ascii(content)}}}'
        text = f'["{before}", {{"role": "{message["role"]}", "content": [{block}]}}]'
        return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_CHARS]
    return _digest([before, _without_marks(message)])


def _count_same(earlier: Sequence[Mapping[str, Any]], messages: Sequence[Mapping[str, Any]]) -> int:
    """Return the number of messages at the beginning that differ only in cache marks."""
    count = 0
    for old, new in zip(earlier, messages, strict=False):
        if old != new and _without_marks(old) != _without_marks(new):
            break
        count += 1
    return count


def _without_marks_in(values: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [_without_marks(value) for value in values]


def _without_marks(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message or tool without cache marks, and with its content as blocks, whose form depends on marks."""
    plain = {key: each for key, each in value.items() if key != "cache_control"}
    if "content" in plain and plain["content"] is not None:
        plain["content"] = _remove_marks(content_blocks(plain["content"]))
    if plain.get("tool_calls"):
        plain["tool_calls"] = _remove_marks(plain["tool_calls"])
    return plain


def _remove_marks(blocks: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{key: each for key, each in block.items() if key != "cache_control"} for block in blocks]


def _digest(value: object) -> str:
    return hashlib.sha256(_encode(value).encode()).hexdigest()[:DIGEST_CHARS]


_NO_REQUEST = RequestDigests(tools=_digest([]), system=_digest([]), options=_digest({}), messages=())
