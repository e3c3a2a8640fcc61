"""Exact conversion of LangChain messages to JSON and back: class, all fields, extra fields, ids and missing ids.

Messages are rebuilt field by field without validation, because validating a stored message again changes it: cleared
tool calls return, and extras of tool calls disappear. Only the classes listed here are built. A message of another
class is returned as the listed class that it derives from, unless the reader allows its class.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    BaseMessageChunk,
    ChatMessage,
    ChatMessageChunk,
    FunctionMessage,
    FunctionMessageChunk,
    HumanMessage,
    HumanMessageChunk,
    RemoveMessage,
    SystemMessage,
    SystemMessageChunk,
    ToolMessage,
    ToolMessageChunk,
)

from langchain_mnesis.messages.values import (
    Types,
    build_model,
    dump_model,
    load_value,
    register_message_codec,
    type_name,
)

CLASSES: dict[str, type[BaseMessage]] = {
    "base": BaseMessage,
    "baseChunk": BaseMessageChunk,
    "human": HumanMessage,
    "ai": AIMessage,
    "system": SystemMessage,
    "tool": ToolMessage,
    "function": FunctionMessage,
    "chat": ChatMessage,
    "remove": RemoveMessage,
    "HumanMessageChunk": HumanMessageChunk,
    "AIMessageChunk": AIMessageChunk,
    "SystemMessageChunk": SystemMessageChunk,
    "ToolMessageChunk": ToolMessageChunk,
    "FunctionMessageChunk": FunctionMessageChunk,
    "ChatMessageChunk": ChatMessageChunk,
}
_NAMES: dict[type, str] = {kind: name for name, kind in CLASSES.items()}
_MESSAGE_CLASSES: dict[type, type[BaseMessage]] = {
    HumanMessageChunk: HumanMessage,
    AIMessageChunk: AIMessage,
    SystemMessageChunk: SystemMessage,
    ToolMessageChunk: ToolMessage,
    FunctionMessageChunk: FunctionMessage,
    ChatMessageChunk: ChatMessage,
}


def dump_message(message: BaseMessage, depth: int = 0) -> dict[str, Any]:
    """Convert a message to JSON. Never raises.

    The keys are `t` (the class), `f` (the fields that differ from their defaults), `x` (extra fields) and `c` (the name
    of a class that is not one of LangChain's own).
    """
    fields, extra = dump_model(message, depth)
    kind = _nearest_class(type(message))
    data: dict[str, Any] = {"t": _NAMES[kind], "f": fields}
    if extra:
        data["x"] = extra
    if type(message) is not kind:
        data["c"] = type_name(type(message))
    return data


def load_message(data: dict[str, Any], types: Types | None = None) -> BaseMessage:
    """Convert JSON of `dump_message` back to a message. `types` are further classes that may be built.

    Raises ValueError if `dump_message` of this version did not write the data.
    """
    try:
        return _build(data, types or {})
    except (KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"not a stored LangChain message: {str(data)[:120]}") from error


def _build(data: dict[str, Any], types: Types) -> BaseMessage:
    kind, allowed_class = CLASSES[data["t"]], types.get(data.get("c", ""))
    if allowed_class is not None and issubclass(allowed_class, BaseMessage):
        kind = allowed_class
    fields: dict[str, Any] = dict(load_value(data["f"], types).items())
    extra: dict[str, Any] = dict(load_value(data.get("x", {}), types).items())
    known = {name: fields.pop(name) for name in list(fields) if name in kind.model_fields}
    message: BaseMessage = build_model(kind, known, {**fields, **extra})
    return message


def chunk_to_message(message: BaseMessage) -> BaseMessage:
    """Convert a message chunk to a complete message. Any other message is returned unchanged."""
    kind = _MESSAGE_CLASSES.get(type(message))
    if kind is None:
        return message
    fields = {name: value for name, value in message.__dict__.items() if name in kind.model_fields and name != "type"}
    complete_message: BaseMessage = build_model(kind, fields, message.__pydantic_extra__ or {})
    return complete_message


@cache
def _nearest_class(kind: type[BaseMessage]) -> type[BaseMessage]:
    return next(base for base in kind.__mro__ if base in _NAMES)


register_message_codec(dump_message, load_message)
