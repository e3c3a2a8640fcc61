"""Messages of Pydantic AI as messages of the log, and back. Pure functions, no I/O.

A `ModelRequest` can contain tool results and a user's message. In the log these are messages with different roles. So a
Pydantic AI message becomes one record for each run of parts with the same role. The first record contains the whole message,
in the form of Pydantic AI's own type adapter, and the others name the first one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, NamedTuple

from pydantic_ai.messages import (
    BinaryContent,
    ImageUrl,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    RetryPromptPart,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserContent,
    UserPromptPart,
)

from mnesis.formats.text import part_text, result_text
from mnesis.ids import new_id, now_ms
from mnesis.models import message as log
from mnesis.models.message import Message, MessagePart, Role, ToolPart, ToolResultPart
from mnesis.models.usage import TokenUsage

EXTRA_KEY = "pydantic_ai"
METADATA_KEY = "mnesis"
"""Marks messages that mnesis made for a request, so that they are not stored when they come back."""
MADE_AT = datetime.fromtimestamp(0, UTC)
"""The time of parts that mnesis made, which have no real time."""
MAX_DATA_CHARS = 2_000
"""The length to which a part without a counterpart in the log is cut for other APIs."""


def message_key(message: ModelMessage) -> str:
    """Return the identity of a message: its parts, which contain their times. A run changes the other fields."""
    data = dump_message(load_message(dump_message(message)))  # reading changes deprecated parts
    identity = [data["kind"], data["parts"], data.get("timestamp") if message.kind == "response" else None]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def without_made_parts(message: ModelMessage) -> ModelMessage | None:
    """Return the message without what mnesis made for a request: summaries, shortened parts, messages of other APIs.

    None if nothing is left. Pydantic AI may join a summary at the end of a history with the next prompt.
    """
    if METADATA_KEY in (message.metadata or {}):
        return None
    if isinstance(message, ModelResponse):
        return message
    parts = [part for part in message.parts if getattr(part, "timestamp", None) != MADE_AT]
    if len(parts) == len(message.parts):
        return message
    return replace(message, parts=parts) if parts else None


def dump_message(message: ModelMessage) -> dict[str, Any]:
    """Return the message as JSON values, as Pydantic AI's type adapter writes it."""
    data: list[dict[str, Any]] = ModelMessagesTypeAdapter.dump_python([message], mode="json")
    return data[0]


def load_message(data: Mapping[str, Any]) -> ModelMessage:
    """Return the message for the JSON values of `dump_message()`."""
    return ModelMessagesTypeAdapter.validate_python([data])[0]


def to_records(message: ModelMessage) -> list[Message]:
    """Convert a message to records of the log."""
    data = dump_message(message)
    message = load_message(data)  # converted once, so that the parts equal those of the message when it is read again
    first_id, records = new_id("msg"), []
    usage, model_id = (_usage(message), message.model_name or "") if isinstance(message, ModelResponse) else (None, "")
    for index, (role, parts) in enumerate(
        _runs(message) or [("user" if message.kind == "request" else "assistant", [])]
    ):
        extra: dict[str, Any] = {"of": first_id, "run": index}
        if index == 0:
            extra |= {"key": message_key(message), "message": data}
        record = Message(
            id=first_id if index == 0 else new_id("msg"),
            role=role,
            parts=tuple(native for part in parts for native in native_parts(part)),
            created_at=now_ms(),
            tokens=usage,
            model_id=model_id,
            extra={EXTRA_KEY: extra},
        )
        records.append(record)
    return records


def all_messages(records: Iterable[Message]) -> list[ModelMessage]:
    """Convert a log to messages in their stored form."""
    return [
        message
        for record in records
        if (extra := _extra(record)).get("run", 0) == 0
        for message in ([load_message(extra["message"])] if extra else _other_messages(record))
    ]


class StoredMessage(NamedTuple):
    """A message of a log: its key, and its JSON form."""

    key: str
    data: Mapping[str, Any]


def stored_message(record: Message) -> StoredMessage | None:
    """Return the message that a record begins; None for other records."""
    extra = _extra(record)
    return StoredMessage(extra["key"], extra["message"]) if "key" in extra else None


def group_records(records: Iterable[Message]) -> list[Sequence[Message]]:
    """Return the records of a window, grouped by message."""
    return [list(group) for _, group in groupby(records, key=lambda record: _extra(record).get("of"))]


def window_messages(
    records: Sequence[Message], stored: Mapping[str, StoredMessage], originals: Mapping[str, ModelMessage]
) -> list[ModelMessage]:
    """Convert a group of records of a window to messages.

    `stored` are the messages of the log by the id of their first record. `originals` are the message objects of the
    current run, by key: a message that the window shows unchanged is the same object.
    """
    first_id = _extra(records[0]).get("of")
    known = stored.get(first_id) if first_id is not None else None
    if known is None:
        return [message for record in records for message in _other_messages(record)]
    return _shown_messages(originals.get(known.key) or load_message(known.data), records)


def native_parts(part: Any) -> tuple[MessagePart, ...]:
    """Return the parts of the log that represent a part. The same part always gives the same result."""
    match part:
        case SystemPromptPart() | TextPart():
            return (log.TextPart(text=part.content),)
        case UserPromptPart():
            content = [part.content] if isinstance(part.content, str) else part.content
            return tuple(_native_content(item) for item in content)
        case ThinkingPart():
            provider = {"type": "thinking"} if part.signature else None
            return (log.ReasoningPart(text=part.content, provider=provider),)
        case ToolCallPart():
            return (_native_call(part),)
        case ToolReturnPart():
            return (_native_result(part, part.model_response_str(), is_error=part.outcome in ("failed", "retried")),)
        case RetryPromptPart():
            if part.tool_name is None:
                return (log.TextPart(text=part.model_response()),)
            return (_native_result(part, part.model_response(), is_error=True),)
    if hasattr(part, "model_response"):  # feedback without a tool call
        return (log.TextPart(text=part.model_response()),)
    return (_data_part(part),)


def _extra(record: Message) -> dict[str, Any]:
    extra = record.extra.get(EXTRA_KEY)
    return extra if isinstance(extra, dict) else {}


def _runs(message: ModelMessage) -> list[tuple[Role, list[Any]]]:
    """Return the parts of a message, split where the role changes."""
    return [(role, list(parts)) for role, parts in groupby(message.parts, key=lambda part: _role(message, part))]


def _role(message: ModelMessage, part: Any) -> Role:
    if isinstance(message, ModelResponse):
        return "assistant"
    if isinstance(part, ToolReturnPart) or (isinstance(part, RetryPromptPart) and part.tool_name is not None):
        return "tool"
    return "system" if isinstance(part, SystemPromptPart) else "user"


def _usage(message: ModelResponse) -> TokenUsage | None:
    usage = message.usage
    if not usage.has_values():
        return None
    # Pydantic AI includes cached tokens in the input tokens; the log counts them separately.
    cached_tokens = usage.cache_read_tokens + usage.cache_write_tokens
    return TokenUsage(
        input=max(usage.input_tokens - cached_tokens, 0),
        output=usage.output_tokens,
        cache_read=usage.cache_read_tokens,
        cache_write=usage.cache_write_tokens,
    )


def _native_content(item: UserContent) -> MessagePart:
    if isinstance(item, str):
        return log.TextPart(text=item)
    if isinstance(item, ImageUrl):
        return log.ImagePart(url=item.url)
    if isinstance(item, BinaryContent):
        if item.is_image:
            return log.ImagePart(data=item.base64, media_type=item.media_type)
        return log.FilePart(name=item.identifier, data=item.base64, media_type=item.media_type)
    text = getattr(item, "content", None)
    return log.TextPart(text=text) if isinstance(text, str) else _data_part(item)


def _native_call(part: ToolCallPart) -> ToolPart:
    arguments: Any = part.args or {}
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            arguments = None
    if not isinstance(arguments, dict):  # the text that a model wrote instead of an object
        arguments = {"input": part.args}
    return ToolPart(tool_name=part.tool_name, tool_call_id=part.tool_call_id, input=arguments)


def _native_result(part: ToolReturnPart | RetryPromptPart, output: str, *, is_error: bool) -> ToolResultPart:
    return ToolResultPart(
        tool_call_id=part.tool_call_id, tool_name=part.tool_name or "", output=output, is_error=is_error
    )


def _data_part(part: Any) -> log.DataPart:
    text = f"{type(part).__name__}: {part!r}"
    kind = getattr(part, "part_kind", None) or getattr(part, "kind", None) or type(part).__name__
    return log.DataPart(kind=f"pydantic_ai.{kind}", text=text[:MAX_DATA_CHARS])


def _shown_messages(message: ModelMessage, records: Sequence[Message]) -> list[ModelMessage]:
    """Return a message as a window shows it: the same object if nothing changed."""
    runs = _runs(message)
    expected = [tuple(native for part in parts for native in native_parts(part)) for _, parts in runs]
    shown = {
        (run := _extra(record)["run"]): _in_order(record, expected[run]) if run < len(expected) else record
        for record in records
    }
    if len(shown) == len(runs) and all(
        shown[index].role == role and shown[index].parts == expected[index] for index, (role, _) in enumerate(runs)
    ):
        return [message]
    parts: list[Any] = []
    others: list[ModelMessage] = []
    for index, (role, run_parts) in enumerate(runs):
        record = shown.get(index)
        if record is None:
            continue
        if record.role != role or len(record.parts) != len(expected[index]):
            others += _other_messages(record)
            continue
        parts += _shown_parts(run_parts, record.parts)
    metadata = (message.metadata or {}) | {METADATA_KEY: "shortened"}
    if not parts:
        return others
    fields: dict[str, Any] = {"parts": parts, "metadata": metadata}
    changed: ModelMessage = replace(message, **fields)
    return [changed, *others]


def _in_order(record: Message, expected: Sequence[MessagePart]) -> Message:
    """Return the record with its tool results in the order of the stored ones. A window has them in the order of the calls."""
    if record.role != "tool":
        return record
    positions = {part.tool_call_id: index for index, part in enumerate(expected) if isinstance(part, ToolResultPart)}
    results = sorted(record.tool_results, key=lambda part: positions.get(part.tool_call_id, len(positions)))
    return record.model_copy(update={"parts": tuple(results)}) if len(results) == len(record.parts) else record


def _shown_parts(parts: Sequence[Any], shown: Sequence[MessagePart]) -> Iterator[Any]:
    start = 0
    for part in parts:
        original = native_parts(part)
        natives = tuple(shown[start : start + len(original)])
        start += len(original)
        yield part if natives == original else _changed_part(part, natives)


def _changed_part(part: Any, natives: Sequence[MessagePart]) -> Any:
    native = natives[0]
    if isinstance(native, ToolResultPart):
        return ToolReturnPart(
            tool_name=part.tool_name,
            content=result_text(native),
            tool_call_id=native.tool_call_id,
            timestamp=MADE_AT,
        )
    if isinstance(native, ToolPart) and isinstance(part, ToolCallPart):
        return replace(part, args=native.input, tool_call_id=native.tool_call_id)
    text = "\n".join(part_text(each) for each in natives)
    if isinstance(part, TextPart):
        return replace(part, content=text)
    if isinstance(part, SystemPromptPart | UserPromptPart):
        return replace(part, content=text, timestamp=MADE_AT)
    return UserPromptPart(content=text, timestamp=MADE_AT) if hasattr(part, "timestamp") else TextPart(content=text)


def _other_messages(record: Message) -> list[ModelMessage]:
    """Build messages for a record that another API stored, a summary, or a record that a window changed too much."""
    metadata = {METADATA_KEY: "summary" if record.is_summary else "other"}
    if record.role == "assistant":
        return _response_messages(record, metadata)
    parts: list[Any] = []
    content: list[UserContent] = []
    for part in record.parts:
        if isinstance(part, ToolResultPart):
            parts.append(_return_part(part))
        elif record.role == "system":
            parts.append(SystemPromptPart(content=part_text(part), timestamp=MADE_AT))
        else:
            content.append(_user_content(part))
    if content:
        text = content[0] if len(content) == 1 and isinstance(content[0], str) else content
        parts.append(UserPromptPart(content=text, timestamp=MADE_AT))
    return [ModelRequest(parts=parts, metadata=metadata)] if parts else []


def _response_messages(record: Message, metadata: dict[str, Any]) -> list[ModelMessage]:
    parts: list[Any] = []
    results: list[ToolReturnPart] = []
    for part in record.parts:
        if isinstance(part, ToolPart):
            arguments = part.raw_input if part.raw_input is not None else part.input
            parts.append(ToolCallPart(tool_name=part.tool_name, args=arguments, tool_call_id=part.tool_call_id))
            if part.has_result:
                results.append(_return_part(part.result()))
        elif not isinstance(part, log.ReasoningPart):  # it belongs to the model that wrote it
            parts.append(TextPart(content=part_text(part)))
    messages: list[ModelMessage] = [ModelResponse(parts=parts, metadata=metadata)] if parts else []
    return [*messages, ModelRequest(parts=results, metadata=metadata)] if results else messages


def _return_part(part: ToolResultPart) -> ToolReturnPart:
    return ToolReturnPart(tool_name=part.tool_name or "tool", content=result_text(part), tool_call_id=part.tool_call_id)


def _user_content(part: MessagePart) -> UserContent:
    if isinstance(part, log.ImagePart):
        if part.url is not None:
            return ImageUrl(url=part.url)
        return BinaryContent.from_data_uri(f"data:{part.media_type};base64,{part.data}")
    if isinstance(part, log.FilePart) and part.data is not None:
        return BinaryContent.from_data_uri(f"data:{part.media_type};base64,{part.data}")
    return part_text(part)
