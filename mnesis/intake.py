"""What users give, as messages: strings, parts, or the content blocks of chat-completions and Anthropic.

Everything is checked here, before anything is stored. `InvalidMessageError` names what cannot be understood.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from mnesis.errors import InvalidMessageError
from mnesis.ids import new_id, now_ms
from mnesis.models.message import (
    PARTS,
    FilePart,
    ImagePart,
    Message,
    MessagePart,
    Role,
    TextPart,
    ToolPart,
    ToolResultPart,
)

Content = str | MessagePart | Sequence[MessagePart | Mapping[str, Any] | str]


def user_messages(content: Content, *, id: str | None = None) -> list[Message]:
    """The messages that `content` makes: tool results first, in a message of role `tool`, then what the user says."""
    parts = parts_of(content)
    if not parts:
        raise InvalidMessageError(
            "nothing to send: the message has no parts; give a non-empty string or a list of parts"
        )
    results = [part.result() if isinstance(part, ToolPart) else part for part in parts if _is_outcome(part)]
    said = [part for part in parts if not _is_outcome(part)]
    messages = []
    if results:
        messages.append(draft("tool", results, id=None if said else id))
    if said:
        messages.append(draft("user", said, id=id))
    return messages


def _is_outcome(part: MessagePart) -> bool:
    return isinstance(part, ToolResultPart) or (isinstance(part, ToolPart) and part.has_result)


def draft(role: Role, parts: Iterable[MessagePart], *, id: str | None = None, **fields: Any) -> Message:
    """A message that is not stored yet: its id and time are set, its place and token counts are not."""
    return Message(id=id or new_id("msg"), role=role, parts=tuple(parts), created_at=now_ms(), **fields)


def parts_of(content: Content) -> list[MessagePart]:
    """The parts of anything a message may be given as."""
    if isinstance(content, str):
        return [TextPart(text=content)]
    if isinstance(content, Mapping) or not isinstance(content, Sequence | tuple):
        content = [content]
    if isinstance(content, bytes | bytearray):
        raise _unknown(content)
    return [part for item in content for part in _part(item)]


def _part(item: Any) -> list[MessagePart]:
    if isinstance(item, str):
        return [TextPart(text=item)]
    if isinstance(item, Mapping):
        return _from_dict(dict(item))
    try:
        return PARTS.validate_python([item], strict=True)
    except ValidationError:
        raise _unknown(item) from None


def _unknown(item: Any) -> InvalidMessageError:
    return InvalidMessageError(
        f"{type(item).__name__} is no message content: {str(item)[:80]!r}. Give a string, or a list of parts such as TextPart,"
        " ImagePart, FilePart, ToolPart, ToolResultPart, or their dicts."
    )


def _from_dict(item: dict[str, Any]) -> list[MessagePart]:
    kind = item.get("type")
    try:
        if item.get("role") == "tool":
            return [_result(item.get("tool_call_id", ""), item.get("content"), item.get("name", ""))]
        if kind == "image_url":
            return [_image_url(item["image_url"])]
        if kind == "image" and "source" in item:
            return [_image_source(item["source"])]
        if kind == "file" and "file" in item:
            return [_file(item["file"])]
        if kind == "tool_use":
            return [ToolPart(tool_name=item["name"], tool_call_id=item["id"], input=item.get("input") or {})]
        if kind == "tool_result" and "tool_use_id" in item:
            failed = bool(item.get("is_error", False))
            return [_result(item["tool_use_id"], item.get("content"), item.get("name", ""), failed)]
        return PARTS.validate_python([item])
    except (ValidationError, KeyError, TypeError, AttributeError) as error:
        raise InvalidMessageError(
            f"a part of type {kind!r} cannot be understood: {str(item)[:120]}. Accepted are text, image_url, image, file, tool_use,"
            " tool_result blocks and the dicts of mnesis parts."
        ) from error


def _result(call_id: str, content: Any, name: str, failed: bool = False) -> ToolResultPart:
    return ToolResultPart(tool_call_id=call_id, tool_name=name, output=as_text(content), is_error=failed)


def as_text(value: Any) -> str:
    """What a tool gave, as the text a model reads: strings as they are, text blocks joined, anything else as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(v, Mapping) and v.get("type") == "text" for v in value):
        return "".join(str(v.get("text", "")) for v in value)
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError):
        return str(value)


def _image_url(image: Any) -> ImagePart:
    spec: dict[str, Any] = {"url": image} if isinstance(image, str) else dict(image)
    return ImagePart(url=spec["url"], detail=spec.get("detail"))


def _image_source(source: Mapping[str, Any]) -> ImagePart:
    if source.get("type") == "url":
        return ImagePart(url=source["url"])
    return ImagePart(data=source["data"], media_type=source.get("media_type", "image/png"))


def _file(file: Mapping[str, Any]) -> FilePart:
    head, _, data = str(file["file_data"]).partition(",")
    media_type = head.removeprefix("data:").partition(";")[0] or "application/octet-stream"
    return FilePart(name=file.get("filename", "file"), data=data or head, media_type=media_type)
