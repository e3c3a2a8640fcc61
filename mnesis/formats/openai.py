"""Messages as chat-completions dicts, the form litellm and most clients take.

Assistant messages whose parts hold tool calls with their outcome become the call message and its result messages; text
that follows them becomes an assistant message of its own. Text after a call without outcome stays with the call: its result
is the next message, and nothing may stand between the two.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

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

EMPTY = "[empty message]"
NAMELESS = "tool"
MARK_CHARS = 16
"""Of the hash that closes a file: more than anybody could try out until content holds the beginning of its own hash."""


def chat_messages(messages: Iterable[Message], system_prompt: str = "") -> list[dict[str, Any]]:
    """The messages in order, after the system prompt if one is given."""
    rendered: list[dict[str, Any]] = [{"role": "system", "content": system_prompt}] if system_prompt else []
    for message in messages:
        rendered.extend(chat_message(message))
    return [sendable(message) for message in rendered]


def sendable(value: Any) -> Any:
    """The value with every string as valid Unicode: half a surrogate pair cannot be encoded, so no client could send it."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return value
    if isinstance(value, dict):
        return {sendable(key): sendable(item) for key, item in value.items()}
    return [sendable(item) for item in value] if isinstance(value, list) else value


def chat_message(message: Message) -> list[dict[str, Any]]:
    """One message; more than one dict where it holds tool outcomes."""
    if message.role == "tool":
        return [_tool_result(part) for part in message.tool_results]
    if message.role == "assistant":
        return list(_assistant(message.parts))
    return [{"role": message.role, "content": _content(message.parts)}]


def _assistant(parts: Sequence[MessagePart]) -> Iterable[dict[str, Any]]:
    said: list[MessagePart] = []
    calls: list[ToolPart] = []
    blocks: list[dict[str, Any]] = []
    started = False
    for part in parts:
        if isinstance(part, ToolPart):
            calls.append(part)
        elif isinstance(part, ReasoningPart):
            if part.provider is not None:
                blocks.append(part.provider)
        else:
            if calls and all(call.has_result for call in calls):
                yield from _assistant_step(said, calls, blocks)
                said, calls, blocks, started = [], [], [], True
            said.append(part)
    if said or calls or not started:
        yield from _assistant_step(said, calls, blocks)


def _assistant_step(
    said: Sequence[MessagePart], calls: Sequence[ToolPart], blocks: Sequence[dict[str, Any]]
) -> Iterable[dict[str, Any]]:
    content = text_of(said)
    message: dict[str, Any] = {"role": "assistant", "content": content or (None if calls else EMPTY)}
    if blocks:
        message["thinking_blocks"] = list(blocks)
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
        "function": {"name": part.tool_name or NAMELESS, "arguments": arguments_text(part)},
    }
    if part.provider is not None:
        call["provider_specific_fields"] = part.provider
    return call


def arguments_text(part: ToolPart) -> str:
    """A call's arguments as they are written: compact, as they are counted."""
    if part.raw_input is not None:
        return part.raw_input
    return json.dumps(part.input, ensure_ascii=False, separators=(",", ":"), default=str)


def _tool_result(part: ToolResultPart) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": part.tool_call_id, "content": result_text(part)}


def result_text(part: ToolResultPart) -> str:
    """A tool's outcome as text; an error says that it is one."""
    if part.is_error and not part.output.lower().startswith("error"):
        return f"Error: {part.output}" if part.output else "Error"
    return part.output


def _content(parts: Sequence[MessagePart]) -> str | list[dict[str, Any]]:
    if not any(isinstance(part, ImagePart) or (isinstance(part, FilePart) and part.data is not None) for part in parts):
        return text_of(parts) or EMPTY
    return [_block(part) for part in parts]


def _block(part: MessagePart) -> dict[str, Any]:
    if isinstance(part, ImagePart):
        image = {"url": part.url or f"data:{part.media_type};base64,{part.data or ''}"}
        if part.detail:
            image["detail"] = part.detail
        return {"type": "image_url", "image_url": image}
    if isinstance(part, FilePart) and part.data is not None:
        file_data = f"data:{part.media_type};base64,{part.data}"
        return {"type": "file", "file": {"filename": part.name, "file_data": file_data}}
    return {"type": "text", "text": part_text(part)}


def text_of(parts: Sequence[MessagePart]) -> str:
    """The parts as one text: text parts joined as they are, other parts on lines of their own."""
    pieces: list[str] = []
    previous_is_text = True
    for part in parts:
        text = part_text(part)
        is_text = isinstance(part, TextPart)
        if pieces and text and not (is_text and previous_is_text):
            pieces.append("\n\n")
        pieces.append(text)
        previous_is_text = is_text
    return "".join(pieces)


def part_text(part: MessagePart) -> str:
    """How a part reads where only text can be sent."""
    match part:
        case TextPart() | DataPart():
            return part.text
        case FilePart(text=str() as text):
            return _file_text(part.name, text)
        case FilePart() | ImagePart():
            return f"[{part.type} {_line(getattr(part, 'name', '') or part.media_type)}]"
        case FileRefPart():
            return file_reference(part)
        case ToolResultPart():
            return result_text(part)
    return ""


def _file_text(name: str, text: str) -> str:
    # The mark is a hash of what it closes: nothing in there can hold it.
    mark = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:MARK_CHARS]
    return f"[File {_line(name)}, to mark {mark}]\n{text}\n[End of file, mark {mark}]"


def file_reference(part: FileRefPart) -> str:
    """A file that is kept outside the message: what it is, and the id to read it by."""
    return _reference(f"File {_line(part.path)}", part)


def output_reference(part: FileRefPart) -> str:
    """What stands in the place of a tool's output that is kept outside the message."""
    return _reference(f"The {_line(part.path)} was too large for this message", part)


def _reference(title: str, part: FileRefPart) -> str:
    # The closing mark is part of the content's hash: nothing in the content, and so in its summary, can hold it.
    return (
        f"[{title}: kept as file {part.content_id}, type {_line(part.file_type) or 'unknown'}, about"
        f" {part.token_count:,} tokens. Read it with lcm_read_file, search it with lcm_search_file.]\n"
        f"{part.exploration_summary}\n[End of what is known of file {part.content_id[:MARK_CHARS]}]"
    )


def _line(text: str) -> str:
    """Text that stays on its line, whatever a file was called."""
    return " ".join(text.split())
