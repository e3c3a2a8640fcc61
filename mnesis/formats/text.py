"""Messages and their parts as plain text. Pure functions, no I/O.

`part_text` and `parts_text` return the text for providers that accept only text. `message_text` returns the whole
content of a message as text, for search, recall and display: tool calls with their results, and reasoning, included.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

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

MARK_CHARS = 16
"""The number of hash characters in the mark that closes a file: enough that nobody can craft content that contains its
own hash."""


def is_plain_text(message: Message) -> bool:
    """Return whether a message is one text without provider data, as most messages of a conversation are.

    Rendering takes a short path for them, because every request renders every message of the window.
    """
    parts = message.parts
    return len(parts) == 1 and type(parts[0]) is TextPart and parts[0].provider is None


def message_text(message: Message) -> str:
    """Return the whole content of a message as text: text, calls, outputs and files, without base64 data."""
    return "\n".join(text for part in message.parts if (text := _full_part_text(part)))


def _full_part_text(part: MessagePart) -> str:
    if isinstance(part, ToolPart):
        lines = [f"{part.tool_name} {call_arguments(part)}", part.output or "", part.error_message or ""]
        return "\n".join(lines).strip()
    if isinstance(part, ToolResultPart):
        return f"{part.tool_name}\n{part.output}".strip()
    if isinstance(part, ReasoningPart):
        return part.text
    if isinstance(part, FileRefPart):
        return f"{part.path}\n{part.exploration_summary}"
    if isinstance(part, FilePart):
        return f"{part.name}\n{part.text or ''}"
    return part_text(part)


def call_arguments(part: ToolPart) -> str:
    """Return the arguments of a call for people and summarizers to read.

    See `compact_arguments` for requests.
    """
    return part.raw_input if part.raw_input is not None else json.dumps(part.input, ensure_ascii=False)


def compact_arguments(part: ToolPart) -> str:
    """Return the arguments of a call as requests carry them, without spaces.

    Tokens are counted on this text.
    """
    if part.raw_input is not None:
        return part.raw_input
    return json.dumps(part.input, ensure_ascii=False, separators=(",", ":"), default=str)


def parts_text(parts: Sequence[MessagePart]) -> str:
    """Join the parts to one text.

    Neighboring text parts are joined unchanged; others are separated by blank lines.
    """
    if len(parts) == 1:
        return part_text(parts[0])
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
    """Return a part as text, for providers that take only text there.

    Calls and reasoning give an empty string.
    """
    if type(part) is TextPart:
        return part.text
    match part:
        case TextPart() | DataPart():
            return part.text
        case FilePart(text=str() as text):
            return _file_text(part.name, text)
        case FilePart() | ImagePart():
            return f"[{part.type} {_single_line(getattr(part, 'name', '') or part.media_type)}]"
        case FileRefPart():
            return file_reference(part)
        case ToolResultPart():
            return result_text(part)
    return ""


def result_text(part: ToolResultPart) -> str:
    """Return a tool's result as text. The text of an error starts with "Error"."""
    output = part.output or parts_text(part.output_parts)
    if part.is_error and not output.lower().startswith("error"):
        return f"Error: {output}" if output else "Error"
    return output


def _file_text(name: str, text: str) -> str:
    # The mark is a hash of the content it closes, so the content cannot contain it.
    mark = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:MARK_CHARS]
    return f"[File {_single_line(name)}, to mark {mark}]\n{text}\n[End of file, mark {mark}]"


def file_reference(part: FileRefPart) -> str:
    """Describe a file that is stored outside the message: type, size, and id to read it by."""
    return _reference(f"File {_single_line(part.path)}", part)


def output_reference(part: FileRefPart) -> str:
    """Describe a tool output that is stored outside the message because it is too large."""
    return _reference(f"The {_single_line(part.path)} was too large for this message", part)


def _reference(title: str, part: FileRefPart) -> str:
    # The closing mark is part of the content's hash, so neither the content nor its summary can contain it.
    return (
        f"[{title}: kept as file {part.content_id}, type {_single_line(part.file_type) or 'unknown'}, about"
        f" {part.token_count:,} tokens. Read it with lcm_read_file, search it with lcm_search_file.]\n"
        f"{part.exploration_summary}\n[End of what is known of file {part.content_id[:MARK_CHARS]}]"
    )


def _single_line(text: str) -> str:
    """Collapse white space, so that a file name cannot start a new line."""
    return " ".join(text.split())
