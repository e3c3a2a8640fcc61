"""Message content from users as parts and messages. Pure functions, no I/O.

Accepts strings, paths, parts, and the content blocks of chat-completions and Anthropic. Content is validated here, before
anything is stored; `InvalidMessageError` names the part that is not valid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from pydantic import ValidationError

from mnesis.errors import InvalidMessageError
from mnesis.formats.blocks import parse_document, parse_file, parse_image_source, parse_image_url, parse_text
from mnesis.formats.tool_output import parse_tool_output
from mnesis.ids import new_id, now_ms
from mnesis.models.message import (
    PARTS_ADAPTER,
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
from mnesis.models.text_message import create_text_message, create_text_part

_PLAIN_FIELDS = frozenset({"token_count", "tool_tokens", "model_id", "tokens", "cost", "finish_reason"})

CountParts = Callable[[Sequence[MessagePart]], tuple[int, int]]
"""Returns the tokens of a message of these parts, and the number of them in tool outputs. (0, 0) means count later."""

Content = str | PurePath | MessagePart | Sequence[MessagePart | Mapping[str, Any] | PurePath | str]


def user_messages(content: Content, *, id: str | None = None) -> list[Message]:
    """Build the messages for `content`.

    Tool results form a `tool` message, which comes first; the rest forms a `user` message.

    Raises `InvalidMessageError` if the content is empty or not valid.
    """
    return build_messages(parse_content(content), id=id)


def build_messages(
    parts: Sequence[MessagePart], *, id: str | None = None, count: CountParts | None = None
) -> list[Message]:
    """Build the messages for validated parts, as `user_messages` does.

    With `count`, also set their token counts.
    """
    if not parts:
        raise InvalidMessageError(
            "the message has no content; pass a non-empty string or a list with at least one part"
        )
    results = [part.result() if isinstance(part, ToolPart) else part for part in parts if _is_result(part)]
    user_parts = [part for part in parts if not _is_result(part)]
    messages = []
    if results:
        # Derived from the id, so that repeating the call with the same id builds the same messages.
        messages.append(new_message("tool", results, id=f"{id}_results" if user_parts and id else id, count=count))
    if user_parts:
        messages.append(new_message("user", user_parts, id=id, count=count))
    return messages


def _is_result(part: MessagePart) -> bool:
    return isinstance(part, ToolResultPart) or (isinstance(part, ToolPart) and part.has_result)


def new_message(
    role: Role, parts: Iterable[MessagePart], *, id: str | None = None, count: CountParts | None = None, **fields: Any
) -> Message:
    """Create a message that is not stored yet: it has an id and a time, but no seq.

    With `count`, set its token counts.

    Results in an assistant message are merged into the calls they answer. Raises `InvalidMessageError` if a field is
    not valid.
    """
    merged_parts = _attach_results(list(parts)) if role == "assistant" else tuple(parts)
    if count is not None:
        fields["token_count"], fields["tool_tokens"] = count(merged_parts)
    if (message := _new_text_message(role, merged_parts, id, fields)) is not None:
        return message
    try:
        return Message(id=id or new_id("msg"), role=role, parts=tuple(merged_parts), created_at=now_ms(), **fields)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg']} (given: {e['input']!r})" for e in error.errors()
        )
        raise InvalidMessageError(f"the message is not valid: {problems}") from error


def _new_text_message(
    role: Role, parts: Sequence[MessagePart], id: str | None, fields: Mapping[str, Any]
) -> Message | None:
    """Create a message from one text and its fields. Return None if it has anything else or a field is not valid."""
    model_id, finish_reason = fields.get("model_id", ""), fields.get("finish_reason")
    token_count, tool_tokens = fields.get("token_count", 0), fields.get("tool_tokens", 0)
    if (
        len(parts) != 1
        or type(part := parts[0]) is not TextPart
        or part.provider is not None
        or not _PLAIN_FIELDS.issuperset(fields)
        or fields.get("tokens") is not None
        or fields.get("cost", 0.0) != 0.0
        or type(model_id) is not str
        or not (finish_reason is None or type(finish_reason) is str)
        or not (id is None or type(id) is str)
        or not (type(token_count) is type(tool_tokens) is int and token_count >= 0 <= tool_tokens)
    ):
        return None
    return create_text_message(
        part,
        id=id or new_id("msg"),
        role=role,
        created_at=now_ms(),
        token_count=token_count,
        tool_tokens=tool_tokens,
        model_id=model_id,
        finish_reason=finish_reason,
    )


def _attach_results(parts: list[MessagePart]) -> list[MessagePart]:
    merged: list[MessagePart] = []
    for part in parts:
        index = _find_pending_call(merged, part.tool_call_id) if isinstance(part, ToolResultPart) else None
        if index is None or not isinstance(part, ToolResultPart):
            merged.append(part)
            continue
        result = {"error_message": part.output} if part.is_error else {"output": part.output}
        status = ToolStatus(state="error" if part.is_error else "completed")
        files = {"output_parts": part.output_parts, "output_file": part.output_file}
        merged[index] = merged[index].model_copy(update={**result, **files, "status": status})
    return merged


def _find_pending_call(parts: Sequence[MessagePart], call_id: str) -> int | None:
    calls = ((i, p) for i, p in enumerate(parts) if isinstance(p, ToolPart) and not p.has_result)
    return next((i for i, call in calls if call.tool_call_id == call_id), None)


def parse_content(content: Content) -> list[MessagePart]:
    """Return the parts of message content.

    Raises `InvalidMessageError` if an item is not valid content.
    """
    if type(content) is str:
        return [create_text_part(content)]
    if isinstance(content, str):
        return [TextPart(text=content)]
    if isinstance(content, Mapping) or not isinstance(content, Sequence | tuple):
        content = [content]
    if isinstance(content, bytes | bytearray):
        raise _not_content_error(content)
    return [part for item in content for part in _parse_item(item)]


def _parse_item(item: Any) -> list[MessagePart]:
    if isinstance(item, str):
        return [TextPart(text=item)]
    if isinstance(item, PurePath):
        return [FilePart(path=str(item))]
    if isinstance(item, Mapping):
        return _parse_block(dict(item))
    try:
        parts = PARTS_ADAPTER.validate_python([item], strict=True)
    except ValidationError:
        raise _not_content_error(item) from None
    return [_require_content(part) for part in parts]


def _require_content(part: MessagePart) -> MessagePart:
    if isinstance(part, ImagePart) and part.url is None and part.data is None:
        raise InvalidMessageError("an image has neither url nor data; set one of them")
    if isinstance(part, FilePart):
        _check_file_content(part)
    return part


def _check_file_content(part: FilePart) -> None:
    if part.path is not None and (part.text is not None or part.data is not None):
        raise InvalidMessageError(f"the file {part.name!r} has both a path and content; set only one of them")
    if part.path is None and part.text is None and part.data is None:
        raise InvalidMessageError(f"the file {part.name!r} has no text, data or path; set one of them")


def _not_content_error(item: Any) -> InvalidMessageError:
    if item is None:
        return InvalidMessageError(
            "None is not message content; pass a string or a list of parts. A reply that only calls tools has no text: pass"
            " its calls as ToolPart"
        )
    return InvalidMessageError(
        f"a value of type {type(item).__name__} is not message content: {str(item)[:80]!r}; pass a string, a part such as"
        " TextPart, ImagePart, FilePart, ToolPart or ToolResultPart, its dict, a pathlib path of a file, or a list of these"
    )


def _parse_block(item: dict[str, Any]) -> list[MessagePart]:
    kind = item.get("type")
    if kind is None and item.get("role") in ("user", "assistant", "system", "developer"):
        raise InvalidMessageError(
            f"a chat message is not message content: {str(item)[:80]}; pass what it says, its 'content', because send() and"
            " record() know the role from the argument"
        )
    try:
        if item.get("role") == "tool":
            return [_parse_result(item.get("tool_call_id", ""), item.get("content"), item.get("name", ""))]
        if kind in ("text", "input_text", "output_text"):
            return [parse_text(item)]
        if kind == "refusal":
            return [TextPart(text=item["refusal"], provider=item)]
        if kind in ("thinking", "redacted_thinking"):
            return [ReasoningPart(text=item.get("thinking") or "", provider=item)]
        if kind == "image_url":
            return [parse_image_url(item["image_url"])]
        if kind == "image" and "source" in item:
            return [parse_image_source(item["source"])]
        if kind == "document":
            return [parse_document(item)]
        if kind == "file" and "file" in item:
            return [parse_file(item["file"])]
        if kind == "tool_use":
            return [ToolPart(tool_name=item["name"], tool_call_id=item["id"], input=item.get("input") or {})]
        if kind == "tool_result" and "tool_use_id" in item:
            is_error = bool(item.get("is_error", False))
            return [_parse_result(item["tool_use_id"], item.get("content"), item.get("name", ""), is_error)]
        return [_require_content(part) for part in PARTS_ADAPTER.validate_python([item])]
    except (ValidationError, KeyError, TypeError, AttributeError) as error:
        raise InvalidMessageError(
            f"a part of type {kind!r} is not valid: {str(item)[:120]}; pass a block of type text, refusal, thinking, image_url,"
            " image, file, document, tool_use or tool_result, or the dict of a mnesis part"
        ) from error


def _parse_result(call_id: str, content: Any, name: str, is_error: bool = False) -> ToolResultPart:
    output = parse_tool_output(content)
    return output.as_result(call_id, name, is_error=is_error)
