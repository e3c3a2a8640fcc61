"""Messages as chat-completions dicts, the format of litellm and most clients.

Pure functions, no I/O.

An assistant message with calls and their results becomes a call message, its result messages, and an assistant message
with the text that follows. Text after a call without a result stays in the call message: the result is the next
message, and providers allow nothing between the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mnesis.formats.text import compact_arguments, part_text, parts_text, result_text
from mnesis.models.message import (
    FilePart,
    ImagePart,
    Message,
    MessagePart,
    ReasoningPart,
    ToolPart,
    ToolResultPart,
)

EMPTY_MESSAGE = "[empty message]"
"""Sent in place of a message without content, which providers reject."""

UNNAMED_TOOL = "tool"


def chat_messages(messages: Iterable[Message], system_prompt: str = "") -> list[dict[str, Any]]:
    """Return the system prompt, if not empty, and the messages as chat-completions dicts."""
    rendered: list[dict[str, Any]] = [{"role": "system", "content": system_prompt}] if system_prompt else []
    for message in messages:
        rendered.extend(chat_message(message))
    return [replace_lone_surrogates(message) for message in rendered]


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


def chat_message(message: Message) -> list[dict[str, Any]]:
    """Return one message as dicts. A message with tool results gives more than one."""
    if message.role == "tool":
        return [_tool_result(part) for part in message.tool_results]
    if message.role == "assistant":
        return list(_assistant_messages(message.parts))
    return [{"role": message.role, "content": _content(message.parts)}]


def _assistant_messages(parts: Sequence[MessagePart]) -> Iterable[dict[str, Any]]:
    text_parts: list[MessagePart] = []
    calls: list[ToolPart] = []
    reasoning_blocks: list[dict[str, Any]] = []
    has_step = False
    for part in parts:
        if isinstance(part, ToolPart):
            calls.append(part)
        elif isinstance(part, ReasoningPart):
            if part.provider is not None:
                reasoning_blocks.append(part.provider)
        else:
            if calls and all(call.has_result for call in calls):
                yield from _assistant_step(text_parts, calls, reasoning_blocks)
                text_parts, calls, reasoning_blocks, has_step = [], [], [], True
            text_parts.append(part)
    if text_parts or calls or not has_step:
        yield from _assistant_step(text_parts, calls, reasoning_blocks)


def _assistant_step(
    text_parts: Sequence[MessagePart], calls: Sequence[ToolPart], reasoning_blocks: Sequence[dict[str, Any]]
) -> Iterable[dict[str, Any]]:
    content = parts_text(text_parts)
    message: dict[str, Any] = {"role": "assistant", "content": content or (None if calls else EMPTY_MESSAGE)}
    if reasoning_blocks:
        message["thinking_blocks"] = list(reasoning_blocks)
    if calls:
        message["tool_calls"] = [_tool_call(call) for call in calls]
    yield message
    for call in calls:
        if call.has_result:
            yield _tool_result(call.result())


def _tool_call(part: ToolPart) -> dict[str, Any]:
    call: dict[str, Any] = {
        "id": part.tool_call_id,
        "type": "function",
        "function": {"name": part.tool_name or UNNAMED_TOOL, "arguments": compact_arguments(part)},
    }
    if part.provider is not None:
        call["provider_specific_fields"] = part.provider
    return call


def _tool_result(part: ToolResultPart) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": part.tool_call_id, "content": result_text(part)}


def _content(parts: Sequence[MessagePart]) -> str | list[dict[str, Any]]:
    if not any(isinstance(part, ImagePart) or (isinstance(part, FilePart) and part.data is not None) for part in parts):
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
