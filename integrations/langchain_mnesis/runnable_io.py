"""The messages in the inputs and outputs of a runnable. Pure functions, no I/O."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    BaseMessageChunk,
    HumanMessage,
    ToolMessage,
    convert_to_messages,
)
from langchain_core.prompt_values import PromptValue
from pydantic_core import to_jsonable_python

from mnesis.errors import InvalidMessageError

MESSAGES_KEY = "messages"
OUTPUT_KEY = "output"
RAW_OUTPUT_KEYS = {"raw", "parsed", "parsing_error"}
"""The keys of the output of `with_structured_output(…, include_raw=True)`."""


def input_messages(value: Any, key: str | None) -> list[BaseMessage]:
    """Return the messages of a runnable's input.

    An input is a string, a message, a list of values that LangChain accepts as messages, or a dict with one of these
    under `key`. Raises `InvalidMessageError` for any other value.
    """
    if isinstance(value, dict):
        name = key or (next(iter(value)) if len(value) == 1 else MESSAGES_KEY)
        if name not in value:
            raise InvalidMessageError(
                f"the input has the keys {sorted(map(str, value))} and not {name!r}; pass the key of the user's messages as"
                " input_messages_key"
            )
        value = value[name]
    if isinstance(value, str):
        return [HumanMessage(content=value)]
    if isinstance(value, BaseMessage):
        return [value]
    if isinstance(value, PromptValue):
        return value.to_messages()
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return convert_to_messages(list(value))
    raise InvalidMessageError(
        f"{str(value)[:80]!r} ({type(value).__name__}) is not a message or a list of messages; pass a string, a message, a"
        " list of messages, or a dict of one of these"
    )


def output_messages(value: Any, key: str | None, sent_messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """Return the messages that a runnable's output adds to `sent_messages`.

    Text becomes an `AIMessage`. Any other value without messages, such as the result of `with_structured_output`, becomes
    an `AIMessage` with the value as JSON text, and the value itself as `additional_kwargs["parsed"]`. With
    `include_raw=True`, the model's own message is stored, and the parsed value is the artifact of the result of its call.
    """
    sent_objects = {id(message) for message in sent_messages}
    sent_ids = {message.id for message in sent_messages if message.id is not None}
    messages = _messages_in(value, key)
    return [message for message in messages if id(message) not in sent_objects and message.id not in sent_ids]


def _messages_in(value: Any, key: str | None) -> list[BaseMessage]:
    if isinstance(value, BaseMessage):
        return [value]
    if isinstance(value, str):
        return [AIMessage(content=value)] if value else []
    if isinstance(value, dict):
        return _messages_in_dict(value, key)
    if isinstance(value, list | tuple) and value and all(isinstance(item, BaseMessage) for item in value):
        return list(value)
    return [] if value is None or (isinstance(value, list) and not value) else [_structured_message(value)]


def _messages_in_dict(value: dict[str, Any], key: str | None) -> list[BaseMessage]:
    if key is None and value.keys() == RAW_OUTPUT_KEYS and isinstance(value["raw"], BaseMessage):
        return _raw_messages(value["raw"], value["parsed"], value["parsing_error"])
    names = [key] if key else [MESSAGES_KEY, OUTPUT_KEY, *value] if len(value) == 1 else [MESSAGES_KEY, OUTPUT_KEY]
    name = next((name for name in names if name in value), None)
    if name is not None and not _is_update(value[name]):
        is_text_or_messages = isinstance(value[name], str | BaseMessage | dict | list | tuple | None)
        if is_text_or_messages or name in (key, MESSAGES_KEY, OUTPUT_KEY):
            return _messages_in(value[name], None)
    updates = [item[MESSAGES_KEY] for item in value.values() if _is_update(item)]
    if updates:  # the stream of a graph: one update per node
        return [message for update in updates for message in _messages_in(update, None)]
    return [] if key else [_structured_message(value)]


def _structured_message(value: Any) -> AIMessage:
    # ChatOpenAI also uses the key `parsed` (langchain_openai.chat_models.base, `_create_chat_result`).
    return AIMessage(content=_json_text(value), additional_kwargs={"parsed": value})


def _raw_messages(raw: BaseMessage, parsed: Any, error: BaseException | None) -> list[BaseMessage]:
    """Return the messages of an output with `include_raw=True`: the model's own message, and results for its calls."""
    results = [
        ToolMessage(
            content=str(error) if error is not None else _json_text(parsed),
            tool_call_id=call["id"],
            name=call["name"],
            artifact=parsed,
            status="error" if error is not None else "success",
        )
        for call in (raw.tool_calls if isinstance(raw, AIMessage) else [])
        if call["id"] is not None
    ]
    return [raw, *results]


def _json_text(value: Any) -> str:
    return json.dumps(to_jsonable_python(value, fallback=str), ensure_ascii=False)


def _is_update(value: Any) -> bool:
    return isinstance(value, dict) and MESSAGES_KEY in value


class StreamAccumulator:
    """The chunks of a stream so far. Chunks that can be added are merged; the others are kept separately."""

    def __init__(self) -> None:
        self._chunks: list[Any] = []

    def add(self, chunk: Any) -> None:
        """Add a chunk."""
        chunk = _unwrap_chunk(chunk)
        if self._chunks and _is_continuation(self._chunks[-1], chunk):
            try:
                self._chunks[-1] = self._chunks[-1] + chunk
                return
            except TypeError:
                pass
        self._chunks.append(chunk)

    def messages(self, key: str | None, sent_messages: Sequence[BaseMessage]) -> list[BaseMessage]:
        """Return the messages of the stream, each once."""
        messages: list[BaseMessage] = []
        for chunk in self._chunks:
            messages += output_messages(chunk, key, [*sent_messages, *messages])
        return messages

    def text(self, key: str | None, sent_messages: Sequence[BaseMessage]) -> str:
        """Return the text of the stream's messages."""
        return "".join(str(message.text) for message in self.messages(key, sent_messages))


def _unwrap_chunk(chunk: Any) -> Any:
    """Return the content of a chunk that a graph streams as a pair.

    A pair is a message and its metadata, or the name of a stream mode and its chunk.
    """
    if isinstance(chunk, tuple) and len(chunk) == 2:
        if isinstance(chunk[0], BaseMessage):
            return chunk[0]
        return _unwrap_chunk(chunk[1]) if isinstance(chunk[0], str) else chunk
    return chunk


def _is_continuation(previous: Any, chunk: Any) -> bool:
    """Return whether a chunk continues the previous one.

    Complete messages, lists of messages, and chunks of another message do not.
    """
    if isinstance(chunk, BaseMessageChunk):
        return isinstance(previous, BaseMessageChunk) and (chunk.id is None or chunk.id == previous.id)
    return not isinstance(chunk, BaseMessage | list)
