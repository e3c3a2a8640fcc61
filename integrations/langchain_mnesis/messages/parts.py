"""Roles, parts and usage of LangChain messages, readable by the other APIs. Pure functions, no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, FunctionMessage, SystemMessage, ToolMessage

from langchain_mnesis.messages.values import dump_value
from mnesis.models.message import (
    DataPart,
    FilePart,
    ImagePart,
    MessagePart,
    ReasoningPart,
    Role,
    TextPart,
    ToolPart,
    ToolResultPart,
)
from mnesis.models.usage import TokenUsage

_TEXT_BLOCKS = ("text", "input_text", "output_text", "refusal")
_CALL_BLOCKS = ("tool_use", "tool_call", "tool_call_chunk", "function_call", "invalid_tool_call", "input_json_delta")
_CHAT_ROLES: dict[str, Role] = {
    "assistant": "assistant",
    "ai": "assistant",
    "model": "assistant",
    "system": "system",
    "developer": "system",
}


def message_role(message: BaseMessage) -> Role:
    """Return the role of a message in the log."""
    if isinstance(message, AIMessage):
        return "assistant"
    if isinstance(message, ToolMessage | FunctionMessage):
        return "tool"
    if isinstance(message, SystemMessage):
        return "system"
    return _CHAT_ROLES.get(message.role.lower(), "user") if isinstance(message, ChatMessage) else "user"


def message_parts(message: BaseMessage) -> tuple[MessagePart, ...]:
    """Return the content and tool calls of a message as parts."""
    if isinstance(message, ToolMessage):
        is_error = message.status == "error"
        return (_tool_result(message.tool_call_id, message.name, _content_text(message.content), is_error),)
    if isinstance(message, FunctionMessage):
        return (_tool_result("", message.name, _content_text(message.content), False),)
    parts = list(_content_parts(message.content))
    if isinstance(message, AIMessage):
        parts += _tool_calls(message)
    return tuple(parts)


def message_usage(message: BaseMessage) -> TokenUsage | None:
    """Return the usage that a message reports; None if it reports none.

    LangChain includes cached tokens in the input tokens; the result counts them separately.
    """
    usage = message.usage_metadata if isinstance(message, AIMessage) else None
    if not usage:
        return None
    details = usage.get("input_token_details") or {}
    read, written = details.get("cache_read") or 0, details.get("cache_creation") or 0
    return TokenUsage(
        input=max((usage.get("input_tokens") or 0) - read - written, 0),
        output=max(usage.get("output_tokens") or 0, 0),
        cache_read=max(read, 0),
        cache_write=max(written, 0),
        total=max(usage.get("total_tokens") or 0, 0),
    )


def _tool_result(call_id: object, name: str | None, output: str, is_error: bool) -> ToolResultPart:
    return ToolResultPart(tool_call_id=str(call_id), tool_name=name or "", output=output, is_error=is_error)


def _tool_calls(message: AIMessage) -> Iterable[ToolPart]:
    for call in message.tool_calls:
        arguments_value = dump_value(call.get("args"))
        arguments = dict(arguments_value) if isinstance(arguments_value, dict) else {"value": arguments_value}
        yield ToolPart(tool_name=call.get("name") or "", tool_call_id=call.get("id") or "", input=arguments)
    for invalid in message.invalid_tool_calls:
        yield ToolPart(
            tool_name=invalid.get("name") or "",
            tool_call_id=invalid.get("id") or "",
            raw_input=invalid.get("args") or "",
        )


def _content_parts(content: Any) -> Iterable[MessagePart]:
    if isinstance(content, str):
        return [TextPart(text=str(content))] if content else []
    blocks = content if isinstance(content, list) else [content]
    return [part for part in map(_block_part, blocks) if part is not None]


def _block_part(block: Any) -> MessagePart | None:
    if isinstance(block, str):
        return TextPart(text=block)
    if not isinstance(block, dict):
        return TextPart(text=str(block))
    kind = block.get("type")
    if kind in _TEXT_BLOCKS:
        return TextPart(text=str(block.get("text") or block.get("refusal") or ""))
    if kind in _CALL_BLOCKS:
        return None
    if kind in ("thinking", "reasoning"):
        return _reasoning_part(block)
    return _image_part(block) or _file_part(block) or _data_part(block)


def _reasoning_part(block: dict[str, Any]) -> ReasoningPart:
    summary = block.get("summary")
    text = block.get("thinking") or block.get("reasoning") or (_content_text(summary) if summary else "")
    extras = block.get("extras")
    signature = block.get("signature") or (extras.get("signature") if isinstance(extras, dict) else None)
    provider = {"type": "thinking", "thinking": text, "signature": signature} if isinstance(signature, str) else None
    return ReasoningPart(text=str(text), provider=provider)


def _image_part(block: dict[str, Any]) -> ImagePart | None:
    kind, source = block.get("type"), block.get("source")
    if kind in ("image_url", "input_image"):
        image = block.get("image_url")
        url = image.get("url") if isinstance(image, dict) else image
        return ImagePart(url=url) if isinstance(url, str) else None
    if kind != "image":
        return None
    if isinstance(source, dict):
        block = {**block, **source, "mime_type": source.get("media_type")}
    data = block.get("base64") or block.get("data")
    media_type = block.get("mime_type") or "image/png"
    if isinstance(data, str) and isinstance(media_type, str):
        return ImagePart(data=data, media_type=media_type)
    return ImagePart(url=block["url"]) if isinstance(block.get("url"), str) else None


def _file_part(block: dict[str, Any]) -> FilePart | None:
    if block.get("type") not in ("file", "text-plain"):
        return None
    data, text = block.get("base64") or block.get("data"), block.get("text")
    name = str(block.get("filename") or block.get("title") or "file")
    media_type = str(block.get("mime_type") or "text/plain")
    if isinstance(text, str):
        return FilePart(name=name, text=text, media_type=media_type)
    return FilePart(name=name, data=data, media_type=media_type) if isinstance(data, str) else None


def _data_part(block: dict[str, Any]) -> DataPart:
    kind = str(block.get("type") or "block")
    data = dump_value(block)
    return DataPart(kind=kind, data=data if isinstance(data, dict) else {}, text=f"[{kind}]")


def _content_text(content: Any) -> str:
    if isinstance(content, str):
        return str(content)
    blocks = content if isinstance(content, list) else [content]
    return "\n".join(_block_text(block) for block in blocks)


def _block_text(block: Any) -> str:
    if not isinstance(block, dict):
        return str(block)
    text = block.get("text")
    return text if isinstance(text, str) else f"[{block.get('type') or 'block'}]"
