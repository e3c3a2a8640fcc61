"""LlamaIndex messages as messages of the log, and back, exactly.

What the parts of a logged message cannot say stands in `extra["llama_index"]`: the role, what belongs beside each block,
the additional kwargs. Returned messages are new objects and carry nothing that was not put in.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
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
    call_part,
    dump_block,
    join,
    jsonable,
    load_block,
    split,
)

from mnesis.errors import InvalidMessageError
from mnesis.formats.openai import arguments_text
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
from mnesis.tokens.estimator import message_tokens

KEY = "llama_index"
MEDIA_TOKENS = {"audio": 256, "video": 2_048}
"""What LlamaIndex assumes for media whose length it cannot read (`aestimate_tokens` of the blocks)."""

_ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "tool": "tool"}
_RESULT_IDS = ("tool_call_id", "tool_id", "id")

Count = Callable[[str], int]


def to_record(message: ChatMessage) -> Message:
    """The message as it goes into the log, under a new id, not counted yet. Raises `InvalidMessageError` for anything else."""
    if not isinstance(message, ChatMessage):
        raise InvalidMessageError(f"a memory stores ChatMessage values, not {type(message).__name__}")
    role = MessageRole(message.role).value
    # `images` is a legacy way to pass what stands in the blocks by now.
    given = {name: value for name, value in message.additional_kwargs.items() if name != "images"}
    kwargs: Json = jsonable(given, "additional_kwargs")
    if role == "tool":
        parts, beside = _tool_parts(message, kwargs)
    else:
        parts, beside = _said_parts(message, kwargs)
    kept: Json = {"role": role}
    if beside is not None:
        kept["blocks"] = beside
    if kwargs:
        kept["kwargs"] = kwargs
    role_in_log = _ROLES.get(role, "assistant")
    return Message(id=new_id("msg"), role=role_in_log, parts=tuple(parts), created_at=now_ms(), extra={KEY: kept})


def counted(record: Message, count: Count) -> Message:
    """The message with its token counts: everything a provider may be sent, thinking and media included."""
    tokens, tool_tokens = message_tokens(record, count)
    for part in record.parts:
        if isinstance(part, ReasoningPart) and part.provider is None:
            tokens += count(part.text)
        elif isinstance(part, DataPart):
            tokens += MEDIA_TOKENS.get(part.kind, 0)
    return record.model_copy(update={"token_count": tokens, "tool_tokens": tool_tokens})


def from_record(record: Message) -> list[ChatMessage]:
    """The LlamaIndex messages for a message of the log: the one that was put in, or, for what came through another door,
    one and a further one for each tool outcome it carries."""
    kept = record.extra.get(KEY)
    return [_original(record, kept)] if isinstance(kept, dict) else list(_foreign(record))


def shown(record: Message, stored: Message | None) -> list[ChatMessage]:
    """The messages for a message of a window. `stored` is what the log has under that id; where the engine shows it
    differently (an old output as a marker, a result without its call as text) it is what the engine shows."""
    if record is stored:
        return from_record(record)
    made = list(_foreign(record))
    if stored is not None and record.role == stored.role == "tool" and len(made) == 1 and KEY in stored.extra:
        original = from_record(stored)[0]
        original.blocks = made[0].blocks
        original.additional_kwargs.update(made[0].additional_kwargs)
        return [original]
    return made


def digests(record: Message) -> tuple[bytes, ...]:
    """What identifies the content of the LlamaIndex messages a log message stands for."""
    if KEY in record.extra:
        return (_digest(record),)
    return tuple(_digest(to_record(message)) for message in _foreign(record))


def digest(message: ChatMessage) -> bytes:
    """What identifies a message's content: role, blocks, additional kwargs."""
    return _digest(to_record(message))


def _digest(record: Message) -> bytes:
    parts = [part.model_dump(exclude_defaults=True) | {"type": part.type} for part in record.parts]
    text = json.dumps([record.extra[KEY], parts], sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _tool_parts(message: ChatMessage, kwargs: Json) -> tuple[list[MessagePart], list[Json | None] | None]:
    call_id = next((str(kwargs[name]) for name in _RESULT_IDS if kwargs.get(name)), "")
    result = ToolResultPart(
        tool_call_id=call_id,
        tool_name=str(kwargs.get("name") or ""),
        output=message.content or "",
        is_error=kwargs.get("is_error") is True,
    )
    plain = len(message.blocks) == 1 and type(message.blocks[0]) is TextBlock
    return [result], None if plain else [dump_block(block) for block in message.blocks]


def _said_parts(message: ChatMessage, kwargs: Json) -> tuple[list[MessagePart], list[Json | None] | None]:
    pairs = [split(block) for block in message.blocks]
    parts = [part for part, _ in pairs]
    known = {part.tool_call_id for part in parts if isinstance(part, ToolPart)}
    further = [call for call in _calls_in(kwargs) if call.tool_call_id not in known]
    beside = [rest for _, rest in pairs]
    if further or any(rest is not None for rest in beside):
        return [*parts, *further], beside
    return parts, None


def _calls_in(kwargs: Json) -> Iterator[ToolPart]:
    """Tool calls in the older dialect: OpenAI's, LlamaIndex's own selections, Anthropic's."""
    calls = kwargs.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        if not isinstance(call, dict):
            continue
        inner = call.get("function")
        merged: Json = {**call, **(inner if isinstance(inner, dict) else {})}
        arguments = next((merged[key] for key in ("arguments", "tool_kwargs", "input") if key in merged), None)
        call_id = next((merged[key] for key in ("id", "tool_id", "tool_call_id") if merged.get(key)), None)
        yield call_part(call_id, merged.get("name") or merged.get("tool_name"), arguments)


def _original(record: Message, kept: Json) -> ChatMessage:
    beside = kept.get("blocks")
    blocks: list[Any]
    if record.role == "tool":
        output = "".join(part.output for part in record.tool_results)
        blocks = [TextBlock(text=output)] if beside is None else [load_block(data) for data in beside]
    else:
        rests = [None] * len(record.parts) if beside is None else beside
        blocks = [join(part, rest) for part, rest in zip(record.parts, rests, strict=False)]
    return _made(kept["role"], blocks, copy.deepcopy(kept.get("kwargs") or {}))


def _made(role: str, blocks: Sequence[Any], kwargs: Json) -> ChatMessage:
    # Blocks and kwargs are this function's own; validating them again would only copy them.
    return ChatMessage.model_construct(role=MessageRole(role), blocks=list(blocks), additional_kwargs=kwargs)


def _foreign(record: Message) -> Iterable[ChatMessage]:
    """A message that came through another door, or that the engine wrote."""
    calls = [part for part in record.parts if isinstance(part, ToolPart)]
    results = [*(call.result() for call in calls if call.has_result), *record.tool_results]
    blocks = list(_blocks(record.parts))
    if blocks or calls or record.role != "tool":
        yield _with_calls(record.role if record.role != "tool" else "user", blocks, calls)
    for result in results:
        yield _made("tool", [TextBlock(text=result.output)], {"tool_call_id": result.tool_call_id})


def _with_calls(role: str, blocks: list[Any], calls: Sequence[ToolPart]) -> ChatMessage:
    if TOOL_CALL_BLOCK is not None:
        made = [
            TOOL_CALL_BLOCK(
                tool_call_id=call.tool_call_id, tool_name=call.tool_name, tool_kwargs=copy.deepcopy(call.input)
            )
            for call in calls
        ]
        return _made(role, [*blocks, *made], {})
    written = [
        {
            "id": call.tool_call_id,
            "type": "function",
            "function": {"name": call.tool_name, "arguments": arguments_text(call)},
        }
        for call in calls
    ]
    return _made(role, blocks, {"tool_calls": written} if written else {})


def _blocks(parts: Iterable[MessagePart]) -> Iterator[Any]:
    text: list[str] = []
    for part in parts:
        if isinstance(part, TextPart):
            text.append(part.text)
            continue
        if text:
            yield TextBlock(text="".join(text))
            text = []
        block = _block(part)
        if block is not None:
            yield block
    if text:
        yield TextBlock(text="".join(text))


def _block(part: MessagePart) -> Any:
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
            known = {"signature": signature} if signature else {}
            return BLOCKS["thinking"](content=part.text, additional_information=known)
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
