"""Conversion of LangChain messages to messages of the log, and of window messages to LangChain. Pure functions, no I/O.

A logged message keeps the complete LangChain message in `extra`, except text content, which is already in its parts. A
window message becomes the exact original, unless the engine shows it differently: an old tool output as a marker, an
oversized message as an excerpt, an orphaned result as text. In these cases the result is what the engine shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage, convert_to_messages
from langchain_core.messages.ai import UsageMetadata

from langchain_mnesis.messages.parts import message_parts, message_role, message_usage
from langchain_mnesis.messages.serialize import chunk_to_message, dump_message, load_message
from langchain_mnesis.messages.values import TAG, Types
from mnesis.formats.openai import chat_message
from mnesis.ids import new_id, now_ms
from mnesis.models.message import Message, ToolResultPart
from mnesis.models.usage import TokenUsage
from mnesis.redaction import get_logger

if TYPE_CHECKING:
    from mnesis.session.session import MnesisSession

logger = get_logger(__name__)

EXTRA_KEY = "langchain"
ORIGIN_KEY = "origin"
FORMAT_VERSION = 1
SUMMARY_MARKER = {"lc_source": "summarization"}
"""LangChain's own mark of messages that replace others."""


def to_record(message: BaseMessage, *, id: str | None = None, origin: str | None = None) -> Message:
    """Convert a message to a message of the log.

    `id` defaults to the message's own id, or a new one. `origin` identifies the state that the message comes from.
    """
    return Message(
        id=id or log_id(message) or new_id("msg"),
        role=message_role(message),
        parts=message_parts(message),
        created_at=now_ms(),
        tokens=message_usage(message),
        model_id=_first_metadata(message, "model_name", "model"),
        finish_reason=_first_metadata(message, "finish_reason", "stop_reason") or None,
        extra={EXTRA_KEY: {"v": FORMAT_VERSION, **payload(message)}} | ({ORIGIN_KEY: origin} if origin else {}),
    )


def redact_messages(session: MnesisSession, messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """Return the messages as the session would store them: without secrets if it is configured so."""
    if session.config.redaction is None and session.engine.config.redaction is None:
        return list(messages)
    records = [to_record(message) for message in messages]
    redacted = session.redact(records)
    return [
        message if new is old else from_record(new)[0].model_copy(update={"id": message.id})
        for message, old, new in zip(messages, records, redacted, strict=True)
    ]


def payload(message: BaseMessage) -> dict[str, Any]:
    """Return the data of a message that is stored alongside its parts."""
    data = dump_message(message)
    if type(message.content) is str:
        del data["f"]["content"]
    return data


def payload_of(record: Message) -> Any:
    """Return the data that `payload()` stored with a message of the log; None if another API stored it."""
    return record.extra.get(EXTRA_KEY)


def log_id(message: BaseMessage) -> str | None:
    """Return the message's own id; None if it has none that the log accepts."""
    message_id = message.id
    if not isinstance(message_id, str) or not message_id:
        return None
    try:
        message_id.encode()
    except UnicodeEncodeError:
        return None
    return message_id


def is_same_message(stored: Message, message: BaseMessage, *, from_checkpoint: bool = False) -> bool:
    """Return whether a message of the log is exactly `message`.

    With `from_checkpoint`, differences that a checkpoint makes are ignored.
    """
    expected = to_record(message, id=stored.id)
    if (stored.role, stored.parts) != (expected.role, expected.parts):
        return False
    data, other = stored.extra.get(EXTRA_KEY), expected.extra[EXTRA_KEY]
    return data == other or (
        from_checkpoint and isinstance(data, dict) and checkpoint_stable_form(data) == checkpoint_stable_form(other)
    )


def checkpoint_stable_form(data: dict[str, Any]) -> Any:
    """Return the data of a stored message without the parts that a checkpoint changes.

    Checkpoints return tuples as lists, and some artifacts as other objects.
    """
    fields = data.get("f")
    stable_fields = (
        {name: value for name, value in fields.items() if name != "artifact"} if isinstance(fields, dict) else fields
    )
    return _tuples_to_lists({**data, "f": stable_fields})


def _tuples_to_lists(data: Any) -> Any:
    if isinstance(data, list):
        return [_tuples_to_lists(item) for item in data]
    if not isinstance(data, dict):
        return data
    return (
        _tuples_to_lists(data["v"])
        if data.get(TAG) == "tuple"
        else {key: _tuples_to_lists(item) for key, item in data.items()}
    )


def langchain_id(record: Message) -> str | None:
    """Return the id of a message in LangChain. A message stored through another API has the id of the log."""
    data = record.extra.get(EXTRA_KEY)
    fields = data.get("f") if isinstance(data, dict) else None
    if not isinstance(fields, dict):
        return record.id
    message_id = fields.get("id")
    return message_id if isinstance(message_id, str) else None


def original(record: Message, types: Types | None = None) -> BaseMessage | None:
    """Return the LangChain message that was stored; None if another API or a newer version stored it."""
    data = record.extra.get(EXTRA_KEY)
    if not isinstance(data, dict) or data.get("v") != FORMAT_VERSION:
        return None
    fields = data.get("f")
    if isinstance(fields, dict) and "content" not in fields:
        data = {**data, "f": {"content": record_text(record), **fields}}
    try:
        return load_message(data, types)
    except ValueError:
        logger.warning(
            "message %s of session %s cannot be restored; its text is used instead", record.id, record.session_id
        )
        return None


def from_record(record: Message, types: Types | None = None, *, keep_chunks: bool = True) -> list[BaseMessage]:
    """Convert a message of a log or window to LangChain: one message, or several if it contains tool results."""
    message = original(record, types)
    if message is None:
        return _render(record)
    if not has_same_state(record, message):
        return _with_engine_changes(record, message)
    return [message if keep_chunks else chunk_to_message(message)]


def has_same_state(record: Message, message: BaseMessage) -> bool:
    """Return whether a window message shows this LangChain message unchanged."""
    return message_role(message) == record.role and message_parts(message) == record.parts


def usage_metadata(usage: TokenUsage) -> UsageMetadata:
    """Convert usage to LangChain's form."""
    return UsageMetadata(
        input_tokens=usage.request_tokens,
        output_tokens=usage.output,
        total_tokens=usage.effective_total(),
        input_token_details={"cache_read": usage.cache_read, "cache_creation": usage.cache_write},
    )


def record_text(record: Message) -> str:
    """Return the text content of a stored message, as LangChain has it."""
    if record.role == "tool":
        return "".join(part.output for part in record.parts if isinstance(part, ToolResultPart))
    return record.text_content()


def _with_engine_changes(record: Message, message: BaseMessage) -> list[BaseMessage]:
    results = record.tool_results
    if isinstance(message, ToolMessage) and len(results) == len(record.parts) == 1:
        changes = {"content": results[0].output, "tool_call_id": results[0].tool_call_id}
        return [message.model_copy(update=changes)]
    messages = _render(record)
    messages[0].id, messages[0].name = message.id, message.name
    return messages


def _render(record: Message) -> list[BaseMessage]:
    messages = convert_to_messages(chat_message(record))
    for number, message in enumerate(messages):
        message.id = record.id if number == 0 else f"{record.id}_{number}"
    first = messages[0]
    if record.is_summary:
        first.additional_kwargs = dict(SUMMARY_MARKER)
    if isinstance(first, AIMessage) and record.tokens is not None:
        first.usage_metadata = usage_metadata(record.tokens)
    return messages


def _first_metadata(message: BaseMessage, *names: str) -> str:
    values = (message.response_metadata.get(name) for name in names)
    return next((value for value in values if isinstance(value, str)), "")
