"""Items of the OpenAI Agents SDK as messages of the log, and back. Pure functions, no I/O.

An item is a dict of the Responses API: a message, a call, an output, reasoning, or another type, known or not. The
items that a model wrote in one response become one assistant message, because a provider accepts reasoning and parallel
calls only together. `Message.extra` stores each item unchanged. The parts of the message are what other APIs and models
read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from agents.items import TResponseInputItem

from mnesis.errors import InvalidMessageError
from mnesis.formats.text import call_arguments, part_text, result_text
from mnesis.ids import new_id, now_ms
from mnesis.models.message import (
    DataPart,
    FilePart,
    ImagePart,
    Message,
    MessagePart,
    ReasoningPart,
    Role,
    TextPart,
    ToolPart,
    ToolResultPart,
)

EXTRA_KEY = "openai_agents"
Item = dict[str, Any]

MAX_DATA_CHARS = 2_000
"""The length to which an item without a counterpart is cut for other APIs. Such items can hold whole pictures."""


def to_records(items: Iterable[TResponseInputItem]) -> list[Message]:
    """Convert items to messages of the log. Neighbours that a model wrote share a message.

    Raises `InvalidMessageError` if an item is not a dict of JSON values.
    """
    groups: list[tuple[Role, list[Item]]] = []
    for item in map(_plain_item, items):
        role = item_role(item)
        if role == "assistant" and groups and groups[-1][0] == "assistant":
            groups[-1][1].append(item)
        else:
            groups.append((role, [item]))
    return [to_record(role, group) for role, group in groups]


def to_record(role: Role, items: Sequence[Item]) -> Message:
    """Convert items of one role to a message."""
    parts = tuple(part for item in items for part in item_parts(item))
    extra = {EXTRA_KEY: list(items)}
    return Message(id=new_id("msg"), role=role, parts=parts, created_at=now_ms(), extra=extra)


def stored_items(record: Message) -> list[Item] | None:
    """Return the items that a message was made from; None if another API stored it."""
    items = record.extra.get(EXTRA_KEY)
    return items if isinstance(items, list) else None


def to_items(record: Message) -> list[Item]:
    """Convert a message of the log or of a window to items.

    An item comes back unchanged, unless the window shows its parts in another form, such as a shortened output.
    """
    items = stored_items(record)
    if items is None:
        return _build_items(record.role, record.parts)
    if record.role != _group_role(items):
        return _build_items(record.role, record.parts)
    converted: list[Item] = []
    start = 0
    for item in items:
        original_parts = item_parts(item)
        shown_parts = record.parts[start : start + len(original_parts)]
        start += len(original_parts)
        if shown_parts == original_parts:
            converted.append(item)
        else:
            converted += _changed_item(item, shown_parts)
    return converted + _build_items(record.role, record.parts[start:])


def item_role(item: Mapping[str, Any]) -> Role:
    """Return the role of the message that contains an item."""
    role = item.get("role")
    if role in ("system", "developer"):
        return "system"
    if role == "user" or item.get("type") == "mcp_approval_response":
        return "user"
    return "tool" if _is_output(item) else "assistant"


def item_parts(item: Mapping[str, Any]) -> tuple[MessagePart, ...]:
    """Return the parts that represent an item. The same item always gives the same parts."""
    kind = item.get("type") or "message"
    if item.get("role") is not None and kind == "message":
        return tuple(_content_parts(item.get("content")))
    if kind == "reasoning":
        provider = {"type": "reasoning"} if item.get("encrypted_content") else None
        return (ReasoningPart(text=_reasoning_text(item), provider=provider),)
    if _is_output(item):
        return (_result_part(item),)
    if _has_output(item):
        return (_call_part(item),)
    return (_data_part(item),)


def _plain_item(item: object) -> Item:
    """Return an item as plain JSON values, which is the form that the store keeps."""
    if hasattr(item, "model_dump"):
        item = item.model_dump(mode="json", exclude_unset=True)
    if not isinstance(item, Mapping):
        raise InvalidMessageError(f"{str(item)[:80]!r} ({type(item).__name__}) is not an item; pass dicts")
    try:
        return cast(Item, _copy_json(item))
    except (TypeError, RecursionError) as error:
        raise InvalidMessageError(
            f"an item of type {item.get('type') or item.get('role')!r} cannot be stored ({error}); pass JSON values only"
        ) from error


def _copy_json(value: object) -> object:
    """Return a copy of JSON values. `json` itself would join a pair of surrogates into one character."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)  # without the class of an enum
    if isinstance(value, int | float):
        return int(value) if isinstance(value, int) else float(value)
    if isinstance(value, list | tuple):
        return [_copy_json(item) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {str(key): _copy_json(item) for key, item in value.items()}
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def _is_output(item: Mapping[str, Any]) -> bool:
    # "computer_call_output", "function_call_output", "custom_tool_call_output", "shell_call_output" and so on.
    return str(item.get("type") or "").endswith("_output")


def _has_output(item: Mapping[str, Any]) -> bool:
    """Return whether the output of a call is a separate item. Calls that the provider runs contain their result."""
    return str(item.get("type") or "").endswith("_call") and _call_id(item) != "" and "call_id" in item


def _call_id(item: Mapping[str, Any]) -> str:
    # The output of a local shell call names the call by `id`.
    return str(item.get("call_id") or item.get("id") or "")


def _call_part(item: Mapping[str, Any]) -> ToolPart:
    name = str(item.get("name") or str(item["type"]).removesuffix("_call"))
    raw = item.get("arguments", item.get("input"))
    if raw is None:
        data = {key: value for key, value in item.items() if key not in ("type", "id", "call_id", "status", "name")}
        return ToolPart(tool_name=name, tool_call_id=_call_id(item), input=data)
    arguments = _parse_object(raw)
    if arguments is None:  # text of a custom tool, or the text that a model wrote instead of an object
        arguments = {"input": raw}
    return ToolPart(tool_name=name, tool_call_id=_call_id(item), input=arguments)


def _parse_object(raw: object) -> dict[str, Any] | None:
    try:
        value = json.loads(raw) if isinstance(raw, str) else raw
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _result_part(item: Mapping[str, Any]) -> ToolResultPart:
    output = item.get("output")
    if isinstance(output, str):
        return ToolResultPart(tool_call_id=_call_id(item), output=output)
    content = output if isinstance(output, list) else [output]
    parts = tuple(part for block in content for part in _content_parts([block]))
    shown = tuple(part for part in parts if not isinstance(part, ReasoningPart | ToolPart | ToolResultPart))
    text = "\n".join(part_text(part) for part in parts)
    if all(isinstance(part, TextPart) for part in shown):
        return ToolResultPart(tool_call_id=_call_id(item), output=text)
    return ToolResultPart(tool_call_id=_call_id(item), output=text, output_parts=shown)


def _reasoning_text(item: Mapping[str, Any]) -> str:
    blocks = [*(item.get("summary") or []), *(item.get("content") or [])]
    return "\n\n".join(str(block.get("text", "")) for block in blocks if isinstance(block, Mapping))


def _content_parts(content: object) -> list[MessagePart]:
    if isinstance(content, str):
        return [TextPart(text=content)]
    return [_content_part(block) for block in content] if isinstance(content, list) else []


def _content_part(block: Any) -> MessagePart:
    if isinstance(block, str):
        return TextPart(text=block)
    if not isinstance(block, Mapping):
        return TextPart(text=json.dumps(block))
    if isinstance(block.get("text"), str):
        return TextPart(text=block["text"])
    if isinstance(block.get("refusal"), str):
        return TextPart(text=block["refusal"])
    kind, url = block.get("type"), block.get("image_url")
    if kind in ("input_image", "computer_screenshot") and isinstance(url, str):
        return _image_part(url)
    if kind == "input_file" and isinstance(block.get("file_data"), str):
        media_type, data = _split_data_url(block["file_data"])
        name = str(block.get("filename") or "file")
        return FilePart(name=name, data=data, media_type=media_type or "application/octet-stream")
    return _data_part(block)


def _image_part(url: str) -> ImagePart:
    media_type, data = _split_data_url(url)
    return ImagePart(data=data, media_type=media_type) if media_type else ImagePart(url=url)


def _split_data_url(url: str) -> tuple[str, str]:
    """Return the media type and the base64 data of a data URL; ("", url) for any other URL."""
    head, separator, data = url.partition(";base64,")
    return (head.removeprefix("data:"), data) if separator and head.startswith("data:") else ("", url)


def _data_part(item: Mapping[str, Any]) -> DataPart:
    text = json.dumps(item, ensure_ascii=False)
    if len(text) > MAX_DATA_CHARS:
        text = f"{text[:MAX_DATA_CHARS]} […]"
    return DataPart(kind=f"openai.{item.get('type') or 'item'}", text=text)


def _group_role(items: Sequence[Item]) -> Role:
    return item_role(items[0]) if items else "assistant"


def _changed_item(item: Item, parts: Sequence[MessagePart]) -> list[Item]:
    """Return an item with the content that a window shows. Its ids do not change."""
    if len(parts) == 1 and isinstance(parts[0], ToolResultPart) and _is_output(item):
        if item["type"] in ("function_call_output", "custom_tool_call_output") or isinstance(item.get("output"), str):
            return [item | {"output": result_text(parts[0]), "call_id": parts[0].tool_call_id}]
    elif len(parts) == 1 and isinstance(parts[0], ToolPart) and item.get("type") == "function_call":
        # A model's own id would claim that the arguments are those that it wrote.
        shown = {key: value for key, value in item.items() if key != "id"}
        return [shown | {"arguments": call_arguments(parts[0]), "call_id": parts[0].tool_call_id}]
    return _build_items(item_role(item), parts)


def _build_items(role: Role, parts: Sequence[MessagePart]) -> list[Item]:
    """Build items for parts without an item of the SDK: parts that another API stored or a window changed."""
    items: list[Item] = []
    content: list[MessagePart] = []
    for part in parts:
        if isinstance(part, ToolPart | ToolResultPart):
            items += _message_items(role, content)
            content = []
            items += _call_items(part) if isinstance(part, ToolPart) else [_output_item(part)]
        elif not isinstance(part, ReasoningPart):  # it belongs to the model that wrote it
            content.append(part)
    return items + _message_items(role, content)


def _call_items(part: ToolPart) -> list[Item]:
    call = {
        "type": "function_call",
        "call_id": part.tool_call_id,
        "name": part.tool_name,
        "arguments": call_arguments(part),
    }
    return [call, _output_item(part.result())] if part.has_result else [call]


def _output_item(part: ToolResultPart) -> Item:
    return {"type": "function_call_output", "call_id": part.tool_call_id, "output": result_text(part)}


def _message_items(role: Role, parts: Sequence[MessagePart]) -> list[Item]:
    if not parts:
        return []
    sent_role = "user" if role == "tool" else role
    if all(isinstance(part, TextPart) for part in parts) or sent_role != "user":
        text = "".join(part_text(part) for part in parts)
        return [{"role": sent_role, "content": text}] if text else []
    return [{"role": sent_role, "content": [_input_block(part) for part in parts]}]


def _input_block(part: MessagePart) -> Item:
    if isinstance(part, ImagePart):
        url = part.url or f"data:{part.media_type};base64,{part.data}"
        return {"type": "input_image", "image_url": url, "detail": part.detail or "auto"}
    if isinstance(part, FilePart) and part.data is not None:
        return {
            "type": "input_file",
            "filename": part.name,
            "file_data": f"data:{part.media_type};base64,{part.data}",
        }
    return {"type": "input_text", "text": part_text(part)}
