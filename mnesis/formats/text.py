"""Messages as plain text. Pure functions, no I/O."""

from __future__ import annotations

import json

from mnesis.formats.openai import part_text
from mnesis.models.message import FilePart, FileRefPart, Message, ReasoningPart, ToolPart, ToolResultPart


def readable(message: Message) -> str:
    """Everything a message says, as one text: its words, calls, outputs and files, but no base64 data."""
    return "\n".join(text for part in message.parts if (text := _part(part)))


def _part(part: object) -> str:
    if isinstance(part, ToolPart):
        arguments = part.raw_input if part.raw_input is not None else json.dumps(part.input, ensure_ascii=False)
        return "\n".join([f"{part.tool_name} {arguments}", part.output or "", part.error_message or ""]).strip()
    if isinstance(part, ToolResultPart):
        return f"{part.tool_name}\n{part.output}".strip()
    if isinstance(part, ReasoningPart):
        return part.text
    if isinstance(part, FileRefPart):
        return f"{part.path}\n{part.exploration_summary}"
    if isinstance(part, FilePart):
        return f"{part.name}\n{part.text or ''}"
    return part_text(part)  # type: ignore[arg-type]  # what is left of the union
