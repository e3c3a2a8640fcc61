"""What users give, as messages: strings, parts, or the content blocks of chat-completions and Anthropic.

Everything is checked here, before anything is stored. `InvalidMessageError` names what cannot be understood.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePath
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
    ReasoningPart,
    Role,
    TextPart,
    ToolPart,
    ToolResultPart,
    ToolStatus,
)

CountParts = Callable[[Sequence[MessagePart]], tuple[int, int]]
"""Gives the tokens of a message of these parts, and how many of them are outputs of tools; 0, 0: count later."""

Content = str | PurePath | MessagePart | Sequence[MessagePart | Mapping[str, Any] | PurePath | str]


def user_messages(content: Content, *, id: str | None = None) -> list[Message]:
    """The messages that `content` makes: tool results first, in a message of role `tool`, then what the user says."""
    return messages_of(parts_of(content), id=id)


def messages_of(
    parts: Sequence[MessagePart], *, id: str | None = None, count: CountParts | None = None
) -> list[Message]:
    """`user_messages` of parts that were checked already; with `count` they are counted at once."""
    if not parts:
        raise InvalidMessageError(
            "nothing to send: the message has no parts; give a non-empty string or a list of parts"
        )
    results = [part.result() if isinstance(part, ToolPart) else part for part in parts if _is_outcome(part)]
    said = [part for part in parts if not _is_outcome(part)]
    messages = []
    if results:
        # Derived, not new: the same call repeated with the same id must give the same messages.
        messages.append(draft("tool", results, id=f"{id}_results" if said and id else id, count=count))
    if said:
        messages.append(draft("user", said, id=id, count=count))
    return messages


def _is_outcome(part: MessagePart) -> bool:
    return isinstance(part, ToolResultPart) or (isinstance(part, ToolPart) and part.has_result)


def draft(
    role: Role, parts: Iterable[MessagePart], *, id: str | None = None, count: CountParts | None = None, **fields: Any
) -> Message:
    """A message that is not stored yet: its id and time are set, its place is not; with `count` its token counts are.

    What a reply gives as results of its own calls becomes part of these calls."""
    given = _with_outcomes(list(parts)) if role == "assistant" else tuple(parts)
    if count is not None:
        fields["token_count"], fields["tool_tokens"] = count(given)
    try:
        return Message(id=id or new_id("msg"), role=role, parts=tuple(given), created_at=now_ms(), **fields)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']} (given: {e['input']!r})" for e in error.errors())
        raise InvalidMessageError(f"the message cannot be stored: {wrong}") from error


def _with_outcomes(parts: list[MessagePart]) -> list[MessagePart]:
    merged: list[MessagePart] = []
    for part in parts:
        place = _open_call(merged, part.tool_call_id) if isinstance(part, ToolResultPart) else None
        if place is None or not isinstance(part, ToolResultPart):
            merged.append(part)
            continue
        outcome = {"error_message": part.output} if part.is_error else {"output": part.output}
        status = ToolStatus(state="error" if part.is_error else "completed")
        merged[place] = merged[place].model_copy(update={**outcome, "output_file": part.output_file, "status": status})
    return merged


def _open_call(parts: Sequence[MessagePart], call_id: str) -> int | None:
    calls = ((i, p) for i, p in enumerate(parts) if isinstance(p, ToolPart) and not p.has_result)
    return next((i for i, call in calls if call.tool_call_id == call_id), None)


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
    if isinstance(item, PurePath):
        return [FilePart(path=str(item))]
    if isinstance(item, Mapping):
        return _from_dict(dict(item))
    try:
        parts = PARTS.validate_python([item], strict=True)
    except ValidationError:
        raise _unknown(item) from None
    return [_with_content(part) for part in parts]


def _with_content(part: MessagePart) -> MessagePart:
    if isinstance(part, ImagePart) and part.url is None and part.data is None:
        raise InvalidMessageError("an image without url and data; give one of them")
    if isinstance(part, FilePart):
        _check_content(part)
    return part


def _check_content(part: FilePart) -> None:
    if part.path is not None and (part.text is not None or part.data is not None):
        raise InvalidMessageError(f"the file {part.name!r} has a path and content beside it; give one of them")
    if part.path is None and part.text is None and part.data is None:
        raise InvalidMessageError(f"the file {part.name!r} has neither text, data nor path; give one of them")


def _unknown(item: Any) -> InvalidMessageError:
    return InvalidMessageError(
        f"{type(item).__name__} is no message content: {str(item)[:80]!r}. Give a string, or a list of parts such as TextPart,"
        " ImagePart, FilePart, ToolPart, ToolResultPart, their dicts, or pathlib paths of files."
    )


def _from_dict(item: dict[str, Any]) -> list[MessagePart]:
    kind = item.get("type")
    try:
        if item.get("role") == "tool":
            return [_result(item.get("tool_call_id", ""), item.get("content"), item.get("name", ""))]
        if kind in ("text", "input_text", "output_text"):
            return [_text(item)]
        if kind == "refusal":
            return [TextPart(text=item["refusal"], provider=item)]
        if kind in ("thinking", "redacted_thinking"):
            return [ReasoningPart(text=item.get("thinking") or "", provider=item)]
        if kind == "image_url":
            return [_image_url(item["image_url"])]
        if kind == "image" and "source" in item:
            return [_image_source(item["source"])]
        if kind == "document":
            return [_document(item)]
        if kind == "file" and "file" in item:
            return [_file(item["file"])]
        if kind == "tool_use":
            return [ToolPart(tool_name=item["name"], tool_call_id=item["id"], input=item.get("input") or {})]
        if kind == "tool_result" and "tool_use_id" in item:
            failed = bool(item.get("is_error", False))
            return [_result(item["tool_use_id"], item.get("content"), item.get("name", ""), failed)]
        return [_with_content(part) for part in PARTS.validate_python([item])]
    except (ValidationError, KeyError, TypeError, AttributeError) as error:
        raise InvalidMessageError(
            f"a part of type {kind!r} cannot be understood: {str(item)[:120]}. Accepted are text, refusal, thinking, image_url, image,"
            " file, document, tool_use, tool_result blocks and the dicts of mnesis parts."
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


def _text(item: Mapping[str, Any]) -> TextPart:
    """A text block; what a provider put beside the text (citations, cache marks) is kept with it."""
    known = {"type", "text", "provider"}
    beside = {name: value for name, value in item.items() if name not in known and value is not None}
    return TextPart(text=item["text"], provider=item.get("provider") or beside or None)


def _image_url(image: Any) -> ImagePart:
    spec: dict[str, Any] = {"url": image} if isinstance(image, str) else dict(image)
    url = spec["url"]
    if not isinstance(url, str) or not url:
        raise KeyError("url")
    media_type = url[5:].partition(";")[0] if url.startswith("data:image/") else "image/png"
    return ImagePart(url=url, detail=spec.get("detail"), media_type=media_type)


def _image_source(source: Mapping[str, Any]) -> ImagePart:
    if source.get("type") == "url":
        return ImagePart(url=source["url"])
    return ImagePart(data=source["data"], media_type=source.get("media_type", "image/png"))


def _document(item: Mapping[str, Any]) -> FilePart:
    source, name = item["source"], item.get("title") or "document"
    if source.get("type") == "text":
        return FilePart(name=name, text=source["data"])
    return FilePart(name=name, data=source["data"], media_type=source.get("media_type") or "application/pdf")


def _file(file: Mapping[str, Any]) -> FilePart:
    head, _, data = str(file["file_data"]).partition(",")
    media_type = head.removeprefix("data:").partition(";")[0] or "application/octet-stream"
    return FilePart(name=file.get("filename", "file"), data=data or head, media_type=media_type)
