"""The value that a tool returned, as text and, if it contains media, as parts. Pure functions, no I/O.

Media are parts, content blocks of chat-completions and Anthropic, and the content of an MCP tool result
(https://modelcontextprotocol.io/specification/2025-06-18/server/tools#tool-result). Any other value is data, which becomes
JSON. A dict is media only if it has the complete form of such a block: `{"type": "file", "path": …}` in a list of files
is data.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from mnesis.formats.blocks import parse_document, parse_file, parse_image_source, parse_image_url, parse_text
from mnesis.formats.text import parts_text
from mnesis.models.message import (
    DataPart,
    FilePart,
    FileRefPart,
    ImagePart,
    OutputPart,
    TextPart,
    ToolResultPart,
)


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """A tool's output. `parts` is empty if the output is only text."""

    text: str
    parts: tuple[OutputPart, ...] = ()
    is_error: bool = False

    def as_result(self, call_id: str, tool_name: str, *, is_error: bool = False) -> ToolResultPart:
        """Return the output as the result of a call."""
        return ToolResultPart(
            tool_call_id=call_id,
            tool_name=tool_name,
            output=self.text,
            output_parts=self.parts,
            is_error=is_error or self.is_error,
        )


def parse_tool_output(value: Any) -> ToolOutput:
    """Convert the value that a tool returned.

    Strings are unchanged, text blocks are joined, media become parts, and any other value is JSON.
    """
    if isinstance(value, ToolResultPart):
        return ToolOutput(value.output, value.output_parts, value.is_error)
    is_error = False
    if (mcp_result := _mcp_result(value)) is not None:
        value, is_error = mcp_result
    parts = _content_parts(value)
    if parts is None:
        return ToolOutput(_data_text(value), is_error=is_error)
    if all(isinstance(part, TextPart) for part in parts):
        return ToolOutput("".join(part.text for part in parts if isinstance(part, TextPart)), is_error=is_error)
    return ToolOutput(parts_text(parts), tuple(parts), is_error)


def _data_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError):
        return str(value)


def _mcp_result(value: Any) -> tuple[list[Any], bool] | None:
    """Return the content and the error flag of an MCP `CallToolResult`, as an object or a dict. None for other values."""
    if isinstance(value, Mapping):
        content, is_error = value.get("content"), value.get("isError")
    else:
        content, is_error = getattr(value, "content", None), getattr(value, "isError", None)
    if not isinstance(is_error, bool) or not isinstance(content, list) or not content:
        return None
    return (content, is_error) if _content_parts(content) is not None else None


def _content_parts(value: Any) -> list[OutputPart] | None:
    """Return the parts of a value that is content. None if the value is data."""
    if not isinstance(value, list | tuple):
        part = _parse_item(value)
        is_plain_data = isinstance(value, Mapping) and isinstance(part, TextPart)
        return None if part is None or is_plain_data else [part]
    if all(isinstance(item, str) for item in value):
        return None
    parts = [TextPart(text=item) if isinstance(item, str) else _parse_item(item) for item in value]
    return [part for part in parts if part is not None] if None not in parts else None


def _parse_item(item: Any) -> OutputPart | None:
    if isinstance(item, TextPart | ImagePart | FilePart | FileRefPart | DataPart):
        return item
    if not isinstance(item, Mapping):
        item = _mcp_block(item)
    parse = _BLOCK_PARSERS.get(str(item.get("type"))) if item is not None else None
    if parse is None or item is None:
        return None
    try:
        return parse(item)
    except (ValidationError, KeyError, TypeError, ValueError, AttributeError):
        return None


def _mcp_block(item: Any) -> Mapping[str, Any] | None:
    """Return an MCP content object as a dict. Recognized by its form, because the `mcp` package is not a dependency."""
    dump = getattr(item, "model_dump", None)
    if not isinstance(getattr(item, "type", None), str) or not callable(dump):
        return None
    block = dump(by_alias=True, exclude_none=True, mode="json")
    return block if isinstance(block, Mapping) else None


def _parse_image(block: Mapping[str, Any]) -> ImagePart:
    if "source" in block:
        return parse_image_source(block["source"])
    return ImagePart(data=block["data"], media_type=block["mimeType"])


def _parse_audio(block: Mapping[str, Any]) -> FilePart:
    return FilePart(name="audio", data=block["data"], media_type=block["mimeType"])


def _parse_resource(block: Mapping[str, Any]) -> FilePart:
    resource = block["resource"]
    name, media_type = str(resource["uri"]), resource.get("mimeType")
    if isinstance(resource.get("text"), str):
        return FilePart(name=name, text=resource["text"], media_type=media_type or "text/plain")
    return FilePart(name=name, data=resource["blob"], media_type=media_type or "application/octet-stream")


def _parse_resource_link(block: Mapping[str, Any]) -> DataPart:
    uri, name = str(block["uri"]), str(block["name"])
    return DataPart(kind="resource_link", data=dict(block), text=f"[Resource {name}: {uri}]")


_BLOCK_PARSERS: dict[str, Callable[[Mapping[str, Any]], OutputPart]] = {
    "text": parse_text,
    "image": _parse_image,
    "image_url": lambda block: parse_image_url(block["image_url"]),
    "input_image": lambda block: parse_image_url(block["image_url"]),
    "document": parse_document,
    "file": lambda block: parse_file(block["file"]),
    "audio": _parse_audio,
    "resource": _parse_resource,
    "resource_link": _parse_resource_link,
}
