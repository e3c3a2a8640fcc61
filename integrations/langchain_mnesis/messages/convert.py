"""LangChain messages as messages of the log, and messages of a window as LangChain's. Pure.

A logged message keeps the whole LangChain message in `extra`, except a text content, which stands in its parts already.
What comes out of a window is the exact original, unless the engine shows it differently there (an old tool output as a
marker, an oversized message as an excerpt, an orphaned result as text): then it is what the engine shows.
"""

from __future__ import annotations

import logging
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage, convert_to_messages
from langchain_core.messages.ai import UsageMetadata

from langchain_mnesis.messages.parts import parts_of, role_of, usage_of
from langchain_mnesis.messages.serialize import dump_message, load_message, whole
from langchain_mnesis.messages.values import TAG, Types
from mnesis.formats.openai import chat_message
from mnesis.ids import new_id, now_ms
from mnesis.models.message import Message, ToolResultPart
from mnesis.models.usage import TokenUsage

logger = logging.getLogger(__name__)

KEY = "langchain"
ORIGIN_KEY = "origin"
VERSION = 1
SUMMARY_MARK = {"lc_source": "summarization"}
"""How LangChain itself marks messages that stand for others."""


def to_record(message: BaseMessage, *, id: str | None = None, origin: str | None = None) -> Message:
    """The message as it goes into the log, under `id` (its own id or a new one by default). `origin` says what wrote it."""
    return Message(
        id=id or log_id(message) or new_id("msg"),
        role=role_of(message),
        parts=parts_of(message),
        created_at=now_ms(),
        tokens=usage_of(message),
        model_id=_metadata(message, "model_name", "model"),
        finish_reason=_metadata(message, "finish_reason", "stop_reason") or None,
        extra={KEY: {"v": VERSION, **payload(message)}} | ({ORIGIN_KEY: origin} if origin else {}),
    )


def payload(message: BaseMessage) -> dict[str, Any]:
    """What is stored of a message beside its parts."""
    data = dump_message(message)
    if type(message.content) is str:
        del data["f"]["content"]
    return data


def log_id(message: BaseMessage) -> str | None:
    """The message's own id where it can be one in the log."""
    name = message.id
    if not isinstance(name, str) or not name:
        return None
    try:
        name.encode()
    except UnicodeEncodeError:
        return None
    return name


def same(stored: Message, message: BaseMessage, *, from_checkpoint: bool = False) -> bool:
    """Whether a message of the log is exactly this one, or with `from_checkpoint` this one before it was in a checkpoint."""
    wanted = to_record(message, id=stored.id)
    if (stored.role, stored.parts) != (wanted.role, wanted.parts):
        return False
    data, other = stored.extra.get(KEY), wanted.extra[KEY]
    return data == other or (from_checkpoint and isinstance(data, dict) and lasting(data) == lasting(other))


def lasting(data: dict[str, Any]) -> Any:
    """A stored message without what checkpoints change: they give tuples back as lists, and some artifacts as other objects."""
    fields = data.get("f")
    kept = {name: value for name, value in fields.items() if name != "artifact"} if isinstance(fields, dict) else fields
    return _with_lists({**data, "f": kept})


def _with_lists(data: Any) -> Any:
    if isinstance(data, list):
        return [_with_lists(item) for item in data]
    if not isinstance(data, dict):
        return data
    return (
        _with_lists(data["v"]) if data.get(TAG) == "tuple" else {key: _with_lists(item) for key, item in data.items()}
    )


def own_id(record: Message) -> str | None:
    """The id LangChain knows the message by; that of the log where it came through another door."""
    data = record.extra.get(KEY)
    fields = data.get("f") if isinstance(data, dict) else None
    if not isinstance(fields, dict):
        return record.id
    name = fields.get("id")
    return name if isinstance(name, str) else None


def original(record: Message, types: Types | None = None) -> BaseMessage | None:
    """The LangChain message that was stored; None if it came through another door, or from a newer version."""
    data = record.extra.get(KEY)
    if not isinstance(data, dict) or data.get("v") != VERSION:
        return None
    fields = data.get("f")
    if isinstance(fields, dict) and "content" not in fields:
        data = {**data, "f": {"content": _text(record), **fields}}
    try:
        return load_message(data, types)
    except ValueError:
        logger.warning("message %s of session %s cannot be read as it was stored", record.id, record.session_id)
        return None


def from_record(record: Message, types: Types | None = None, *, keep_chunks: bool = True) -> list[BaseMessage]:
    """The LangChain messages for one message of a log or window: usually one, more where it carries tool outcomes."""
    message = original(record, types)
    if message is None:
        return _plain(record)
    if not shows_whole(record, message):
        return _changed(record, message)
    return [message if keep_chunks else whole(message)]


def shows_whole(record: Message, message: BaseMessage) -> bool:
    """Whether a record of a window shows this message unchanged."""
    return role_of(message) == record.role and parts_of(message) == record.parts


def usage_metadata(usage: TokenUsage) -> UsageMetadata:
    """Usage as LangChain reports it."""
    return UsageMetadata(
        input_tokens=usage.request_tokens,
        output_tokens=usage.output,
        total_tokens=usage.effective_total(),
        input_token_details={"cache_read": usage.cache_read, "cache_creation": usage.cache_write},
    )


def _text(record: Message) -> str:
    if record.role == "tool":
        return "".join(part.output for part in record.parts if isinstance(part, ToolResultPart))
    return record.text_content()


def _changed(record: Message, message: BaseMessage) -> list[BaseMessage]:
    results = record.tool_results
    if isinstance(message, ToolMessage) and len(results) == len(record.parts) == 1:
        shown = {"content": results[0].output, "tool_call_id": results[0].tool_call_id}
        return [message.model_copy(update=shown)]
    made = _plain(record)
    made[0].id, made[0].name = message.id, message.name
    return made


def _plain(record: Message) -> list[BaseMessage]:
    made = convert_to_messages(chat_message(record))
    for number, message in enumerate(made):
        message.id = record.id if number == 0 else f"{record.id}_{number}"
    first = made[0]
    if record.is_summary:
        first.additional_kwargs = dict(SUMMARY_MARK)
    if isinstance(first, AIMessage) and record.tokens is not None:
        first.usage_metadata = usage_metadata(record.tokens)
    return made


def _metadata(message: BaseMessage, *names: str) -> str:
    found = (message.response_metadata.get(name) for name in names)
    return next((value for value in found if isinstance(value, str)), "")
