"""Messages as chat-completions dicts, the format of litellm and most clients.

Pure functions, no I/O.

An assistant message with calls and their results becomes a call message, its result messages, and an assistant message
with the text that follows. Text after a call without a result stays in the call message: the result is the next
message, and providers allow nothing between the two. `mnesis.formats.request` adapts whole requests to a provider.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mnesis.formats.text import compact_arguments, is_plain_text, part_text, parts_text, result_text
from mnesis.models.dialects import PLAIN, Dialect, for_own_client
from mnesis.models.message import (
    FilePart,
    ImagePart,
    Message,
    MessagePart,
    ReasoningPart,
    TextPart,
    ToolPart,
    ToolResultPart,
)

EMPTY_MESSAGE = "[empty message]"
"""Sent in place of a message without content, which providers reject."""

UNNAMED_TOOL = "tool"


SKIP_SIGNATURE = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="
"""Replaces the signature of a call that another model made: "skip_thought_signature_validator" in Base64, as litellm sends it
(ai.google.dev/gemini-api/docs/thought-signatures, FAQ)."""

SIGNED_CALLS = re.compile(r"gemini-([3-9]|\d\d)")
"""Gemini models that reject a call without a signature in the current turn."""


def chat_messages(messages: Iterable[Message], system_prompt: str = "") -> list[dict[str, Any]]:
    """Return the system prompt, if not empty, and the messages as chat-completions dicts for no provider in particular.

    Signed reasoning is included as `thinking_blocks`. `mnesis.formats.request` renders requests.
    """
    rendered: list[dict[str, Any]] = []
    if system_prompt:
        rendered.append({"role": "system", "content": replace_lone_surrogates(system_prompt)})
    dialect = for_own_client(PLAIN)
    for message in messages:
        rendered.extend(chat_message(message, dialect))
    return rendered


def replace_lone_surrogates(value: Any) -> Any:
    """Return the value with valid Unicode in every string.

    No client can encode half of a surrogate pair.
    """
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return value
    if isinstance(value, dict):
        return {replace_lone_surrogates(key): replace_lone_surrogates(item) for key, item in value.items()}
    return [replace_lone_surrogates(item) for item in value] if isinstance(value, list) else value


def chat_message(message: Message, dialect: Dialect = PLAIN, model: str = "") -> list[dict[str, Any]]:
    """Return one message as dicts in a dialect. A message with tool results gives more than one.

    Reasoning and signatures in the message must be the model's own; see `mnesis.formats.origin`.
    """
    if message.role != "tool" and is_plain_text(message):
        return [plain_chat_message(message, plain_reply_fields(dialect, model))]
    if message.role == "tool":
        steps = [_tool_result(part, dialect) for part in message.tool_results]
    elif message.role == "assistant":
        steps = list(_assistant_messages(message.parts, dialect, model.lower()))
    else:
        steps = [{"role": message.role, "content": _content(message.parts, dialect)}]
    return [replace_lone_surrogates(step) for step in steps]


def plain_chat_message(message: Message, reply_fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a text-only message as a dict. `reply_fields` are `plain_reply_fields()` of its request."""
    content = replace_lone_surrogates(part_text(message.parts[0]) or EMPTY_MESSAGE)
    if message.role == "assistant" and reply_fields:
        return {"role": "assistant", "content": content, **reply_fields}
    return {"role": message.role, "content": content}


def plain_reply_fields(dialect: Dialect, model: str) -> dict[str, Any]:
    """Return the fields other than the text that a model requires in a text-only reply. They are the same for all
    replies of a request.
    """
    return {} if dialect.reasoning is None else _reasoning_field((), False, dialect, model.lower())


def _assistant_messages(parts: Sequence[MessagePart], dialect: Dialect, model: str) -> Iterable[dict[str, Any]]:
    text_parts: list[MessagePart] = []
    calls: list[ToolPart] = []
    reasoning: list[ReasoningPart] = []
    has_step = False
    for part in parts:
        if isinstance(part, ToolPart):
            calls.append(part)
        elif isinstance(part, ReasoningPart):
            reasoning.append(part)
        else:
            if calls and all(call.has_result for call in calls):
                yield from _assistant_step(text_parts, calls, reasoning, dialect, model)
                text_parts, calls, reasoning, has_step = [], [], [], True
            text_parts.append(part)
    if text_parts or calls or not has_step:
        yield from _assistant_step(text_parts, calls, reasoning, dialect, model)


def _assistant_step(
    text_parts: Sequence[MessagePart],
    calls: Sequence[ToolPart],
    reasoning: Sequence[ReasoningPart],
    dialect: Dialect,
    model: str,
) -> Iterable[dict[str, Any]]:
    content = parts_text(text_parts)
    without_text = dialect.calls_without_text if calls else EMPTY_MESSAGE
    message: dict[str, Any] = {"role": "assistant", "content": content or without_text}
    message |= _reasoning_field(reasoning, bool(calls), dialect, model)
    if dialect.call_signatures and not calls:
        message |= _text_signature(text_parts)
    if calls:
        message["tool_calls"] = [_tool_call(call) for call in calls]
        if dialect.call_signatures:
            _sign_calls(message["tool_calls"], calls, model)
    yield message
    for call in calls:
        if call.has_result:
            yield _tool_result(call.result(), dialect)


def _reasoning_field(
    reasoning: Sequence[ReasoningPart], has_calls: bool, dialect: Dialect, model: str
) -> dict[str, Any]:
    rule = dialect.reasoning
    if rule is None or (rule.calls_only and not has_calls):
        return {}
    if rule.kinds:
        blocks = [dict(part.provider or {}) for part in reasoning if is_returnable(part.provider, rule.kinds)]
        return {rule.field: blocks} if blocks else {}
    text = "".join(part.text for part in reasoning)
    if not text and re.search(rule.required_by, model):
        text = rule.placeholder
    return {rule.field: text} if text else {}


def is_returnable(block: dict[str, Any] | None, kinds: frozenset[str]) -> bool:
    """Return whether a block has one of the kinds and, if it is thinking, its signature."""
    if block is None or block.get("type") not in kinds:
        return False
    return block["type"] != "thinking" or bool(block.get("signature"))


def _sign_calls(rendered: Sequence[dict[str, Any]], calls: Sequence[ToolPart], model: str) -> None:
    """Add the signatures of Gemini's own calls. Only the first call of a step needs a signature."""
    for item, call in zip(rendered, calls, strict=True):
        if call.provider is not None:
            item["provider_specific_fields"] = call.provider
    if calls[0].provider is None and SIGNED_CALLS.search(model):
        rendered[0]["provider_specific_fields"] = {"thought_signature": SKIP_SIGNATURE}


def _text_signature(parts: Sequence[MessagePart]) -> dict[str, Any]:
    fields = (part.provider or {} for part in parts if isinstance(part, TextPart))
    signatures = next((each["thought_signatures"] for each in fields if "thought_signatures" in each), None)
    return {"provider_specific_fields": {"thought_signatures": signatures}} if signatures else {}


def _tool_call(part: ToolPart) -> dict[str, Any]:
    return {
        "id": part.tool_call_id,
        "type": "function",
        "function": {"name": part.tool_name or UNNAMED_TOOL, "arguments": compact_arguments(part)},
    }


def _tool_result(part: ToolResultPart, dialect: Dialect) -> dict[str, Any]:
    content: str | list[dict[str, Any]] = result_text(part)
    if part.output_parts and dialect.media_in_results == "result":
        content = [_content_block(output) for output in part.output_parts]
    return {"role": "tool", "tool_call_id": part.tool_call_id, "content": content}


def result_media(message: Message) -> list[dict[str, Any]]:
    """Return the images and files of a message's tool results, for a user message: each result's media follow its
    name.
    """
    blocks: list[dict[str, Any]] = []
    results = [part.result() if isinstance(part, ToolPart) else part for part in message.parts]
    for result in (part for part in results if isinstance(part, ToolResultPart)):
        media = [part for part in result.output_parts if is_media(part)]
        if media:
            name = f"[From the result of {result.tool_name or 'a tool'}, call {result.tool_call_id}]"
            blocks += [{"type": "text", "text": name}, *map(_content_block, media)]
    return blocks


def is_media(part: MessagePart) -> bool:
    """Return whether a part is sent in another form than text."""
    return isinstance(part, ImagePart) or (isinstance(part, FilePart) and part.data is not None)


def _content(parts: Sequence[MessagePart], dialect: Dialect) -> str | list[dict[str, Any]]:
    if not dialect.sees_media or not any(is_media(part) for part in parts):
        return parts_text(parts) or EMPTY_MESSAGE
    return [_content_block(part) for part in parts]


def _content_block(part: MessagePart) -> dict[str, Any]:
    if isinstance(part, ImagePart):
        image = {"url": part.url or f"data:{part.media_type};base64,{part.data or ''}"}
        if part.detail:
            image["detail"] = part.detail
        return {"type": "image_url", "image_url": image}
    if isinstance(part, FilePart) and part.data is not None:
        file_data = f"data:{part.media_type};base64,{part.data}"
        return {"type": "file", "file": {"filename": part.name, "file_data": file_data}}
    return {"type": "text", "text": part_text(part)}
