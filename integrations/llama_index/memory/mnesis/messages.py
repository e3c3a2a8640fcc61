"""Exact conversion of LlamaIndex messages to messages of the log and back.

`extra["llama_index"]` of a logged message contains what its parts cannot express: the role, further data of each block,
and the additional kwargs. Converted messages are new objects and contain nothing that was not stored.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
)
from llama_index.memory.mnesis.blocks import (
    BLOCKS,
    TOOL_CALL_BLOCK,
    Json,
    dump_block,
    join_block,
    load_block,
    split_block,
    to_json_value,
    tool_call_part,
)

from mnesis.errors import InvalidMessageError
from mnesis.formats.text import compact_arguments
from mnesis.ids import new_id, now_ms
from mnesis.models.message import (
    DataPart,
    FilePart,
    FileRefPart,
    ImagePart,
    Message,
    MessagePart,
    ReasoningPart,
    Role,
    TextPart,
    ToolPart,
    ToolResultPart,
)
from mnesis.tokens.estimator import TokenCounter, message_tokens

EXTRA_KEY = "llama_index"
MEDIA_TOKENS = {"audio": 256, "video": 2_048}
"""LlamaIndex's own estimates for media whose length it cannot read (`aestimate_tokens` of the blocks)."""

_ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "tool": "tool"}
_RESULT_IDS = ("tool_call_id", "tool_id", "id")


def to_record(message: ChatMessage) -> Message:
    """Convert a message to a message of the log with a new id and without token counts.

    Raises `InvalidMessageError` if the value is not a `ChatMessage`.
    """
    if not isinstance(message, ChatMessage):
        raise InvalidMessageError(f"a memory stores ChatMessage objects, not {type(message).__name__}")
    role = MessageRole(message.role).value
    # `images` is a legacy parameter whose content is already in the blocks.
    stored_kwargs = {name: value for name, value in message.additional_kwargs.items() if name != "images"}
    kwargs: Json = to_json_value(stored_kwargs, "additional_kwargs")
    if role == "tool":
        parts, block_extras = _tool_parts(message, kwargs)
    else:
        parts, block_extras = _content_parts(message, kwargs)
    fields: Json = {"role": role}
    if block_extras is not None:
        fields["blocks"] = block_extras
    if kwargs:
        fields["kwargs"] = kwargs
    role_in_log = _ROLES.get(role, "assistant")
    return Message(
        id=new_id("msg"), role=role_in_log, parts=tuple(parts), created_at=now_ms(), extra={EXTRA_KEY: fields}
    )


def with_token_counts(record: Message, count: TokenCounter) -> Message:
    """Return the message with its token counts, which include everything that may be sent: also thinking and media."""
    tokens, tool_tokens = message_tokens(record, count)
    for part in record.parts:
        if isinstance(part, ReasoningPart) and part.provider is None:
            tokens += count(part.text)
        elif isinstance(part, DataPart):
            tokens += MEDIA_TOKENS.get(part.kind, 0)
    return record.model_copy(update={"token_count": tokens, "tool_tokens": tool_tokens})


def from_record(record: Message) -> list[ChatMessage]:
    """Convert a message of the log to LlamaIndex.

    A message stored by this adapter becomes the original. One stored through another API becomes one message and a
    further one for each tool result that it contains.
    """
    fields = record.extra.get(EXTRA_KEY)
    return [_restore(record, fields)] if isinstance(fields, dict) else list(_convert(record))


def from_window_record(record: Message, stored: Message | None) -> list[ChatMessage]:
    """Convert a window message to LlamaIndex. `stored` is the message with the same id in the active context.

    If the engine shows the message differently (an old output as a marker, a result without its call as text), the
    result has the engine's form.
    """
    if record is stored:
        return from_record(record)
    messages = list(_convert(record))
    if stored is not None and record.role == stored.role == "tool" and len(messages) == 1 and EXTRA_KEY in stored.extra:
        original = from_record(stored)[0]
        original.blocks = messages[0].blocks
        original.additional_kwargs.update(messages[0].additional_kwargs)
        return [original]
    return messages


def digests(record: Message) -> tuple[bytes, ...]:
    """Return the digests of the LlamaIndex messages that a message of the log becomes."""
    if EXTRA_KEY in record.extra:
        return (_digest(record),)
    return tuple(_digest(to_record(message)) for message in _convert(record))


def digest(message: ChatMessage) -> bytes:
    """Return the digest of a message's role, blocks and additional kwargs."""
    return _digest(to_record(message))


def _digest(record: Message) -> bytes:
    parts = [part.model_dump(exclude_defaults=True) | {"type": part.type} for part in record.parts]
    text = json.dumps([record.extra[EXTRA_KEY], parts], sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _tool_parts(message: ChatMessage, kwargs: Json) -> tuple[list[MessagePart], list[Json | None] | None]:
    call_id = next((str(kwargs[name]) for name in _RESULT_IDS if kwargs.get(name)), "")
    result = ToolResultPart(
        tool_call_id=call_id,
        tool_name=str(kwargs.get("name") or ""),
        output=message.content or "",
        is_error=kwargs.get("is_error") is True,
    )
    is_plain_text = len(message.blocks) == 1 and type(message.blocks[0]) is TextBlock
    return [result], None if is_plain_text else [dump_block(block) for block in message.blocks]


def _content_parts(message: ChatMessage, kwargs: Json) -> tuple[list[MessagePart], list[Json | None] | None]:
    pairs = [split_block(block) for block in message.blocks]
    parts = [part for part, _ in pairs]
    block_call_ids = {part.tool_call_id for part in parts if isinstance(part, ToolPart)}
    extra_calls = [call for call in _kwargs_calls(kwargs) if call.tool_call_id not in block_call_ids]
    block_extras = [block_extra for _, block_extra in pairs]
    if extra_calls or any(rest is not None for rest in block_extras):
        return [*parts, *extra_calls], block_extras
    return parts, None


def _kwargs_calls(kwargs: Json) -> Iterator[ToolPart]:
    """Iterate over tool calls in additional kwargs, in the form of OpenAI, LlamaIndex or Anthropic."""
    calls = kwargs.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        if not isinstance(call, dict):
            continue
        inner = call.get("function")
        merged: Json = {**call, **(inner if isinstance(inner, dict) else {})}
        arguments = next((merged[key] for key in ("arguments", "tool_kwargs", "input") if key in merged), None)
        call_id = next((merged[key] for key in ("id", "tool_id", "tool_call_id") if merged.get(key)), None)
        yield tool_call_part(call_id, merged.get("name") or merged.get("tool_name"), arguments)


def _restore(record: Message, fields: Json) -> ChatMessage:
    block_extras = fields.get("blocks")
    blocks: list[Any]
    if record.role == "tool":
        output = "".join(part.output for part in record.tool_results)
        blocks = [TextBlock(text=output)] if block_extras is None else [load_block(data) for data in block_extras]
    else:
        extras = [None] * len(record.parts) if block_extras is None else block_extras
        blocks = [join_block(part, extra) for part, extra in zip(record.parts, extras, strict=False)]
    return _build_message(fields["role"], blocks, copy.deepcopy(fields.get("kwargs") or {}))


def _build_message(role: str, blocks: Sequence[Any], kwargs: Json) -> ChatMessage:
    # Blocks and kwargs are new objects; validating them would only copy them again.
    return ChatMessage.model_construct(role=MessageRole(role), blocks=list(blocks), additional_kwargs=kwargs)


def _convert(record: Message) -> Iterable[ChatMessage]:
    """Convert a message that another API stored or the engine wrote."""
    calls = [part for part in record.parts if isinstance(part, ToolPart)]
    results = [*(call.result() for call in calls if call.has_result), *record.tool_results]
    blocks = list(_to_blocks(record.parts))
    if blocks or calls or record.role != "tool":
        yield _message_with_calls(record.role if record.role != "tool" else "user", blocks, calls)
    for result in results:
        yield _build_message("tool", [TextBlock(text=result.output)], {"tool_call_id": result.tool_call_id})


def _message_with_calls(role: str, blocks: list[Any], calls: Sequence[ToolPart]) -> ChatMessage:
    if TOOL_CALL_BLOCK is not None:
        call_blocks = [
            TOOL_CALL_BLOCK(
                tool_call_id=call.tool_call_id, tool_name=call.tool_name, tool_kwargs=copy.deepcopy(call.input)
            )
            for call in calls
        ]
        return _build_message(role, [*blocks, *call_blocks], {})
    call_dicts = [
        {
            "id": call.tool_call_id,
            "type": "function",
            "function": {"name": call.tool_name, "arguments": compact_arguments(call)},
        }
        for call in calls
    ]
    return _build_message(role, blocks, {"tool_calls": call_dicts} if call_dicts else {})


def _to_blocks(parts: Iterable[MessagePart]) -> Iterator[Any]:
    text: list[str] = []
    for part in parts:
        if isinstance(part, TextPart):
            text.append(part.text)
            continue
        if text:
            yield TextBlock(text="".join(text))
            text = []
        block = _to_block(part)
        if block is not None:
            yield block
    if text:
        yield TextBlock(text="".join(text))


def _to_block(part: MessagePart) -> Any:
    match part:
        case ImagePart():
            return ImageBlock(
                image=part.data.encode() if part.data else None,
                url=part.url,
                image_mimetype=part.media_type,
                detail=part.detail,
            )
        case ReasoningPart() if "thinking" in BLOCKS:
            signature = (part.provider or {}).get("signature")
            information = {"signature": signature} if signature else {}
            return BLOCKS["thinking"](content=part.text, additional_information=information)
        case FilePart():
            if part.data is None:
                return TextBlock(text=f"[File {part.name}]\n{part.text or ''}")
            return DocumentBlock(data=part.data.encode(), title=part.name, document_mimetype=part.media_type)
        case FileRefPart():
            return TextBlock(text=f"[File {part.path} ({part.content_id})]\n{part.exploration_summary}")
        case DataPart():
            return TextBlock(text=part.text) if part.text else None
        case _:
            return None
