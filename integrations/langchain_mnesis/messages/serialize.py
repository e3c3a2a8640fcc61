"""LangChain messages as JSON and back, exactly: class, every field, extra fields, ids and the lack of them.

Messages are rebuilt field by field without validation, because validating a stored message again changes it (cleared tool
calls come back to life, extras of tool calls disappear). Only the classes listed here are ever built; a message of
another class comes back as the listed class it derives from, unless the reader allows its class.
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
_WHOLE: dict[type, type[BaseMessage]] = {
    HumanMessageChunk: HumanMessage,
    AIMessageChunk: AIMessage,
    SystemMessageChunk: SystemMessage,
    ToolMessageChunk: ToolMessage,
    FunctionMessageChunk: FunctionMessage,
    ChatMessageChunk: ChatMessage,
}


def dump_message(message: BaseMessage, depth: int = 0) -> dict[str, Any]:
    """The JSON form: `t` the class, `f` the fields that differ from their defaults, `x` extra fields, `c` the name of a class
    that is not one of LangChain's own. Never raises."""
    fields, extra = dump_model(message, depth)
    kind = _listed(type(message))
    data: dict[str, Any] = {"t": _NAMES[kind], "f": fields}
    if extra:
        data["x"] = extra
    if type(message) is not kind:
        data["c"] = type_name(type(message))
    return data


def load_message(data: dict[str, Any], types: Types | None = None) -> BaseMessage:
    """The message back. `types` are further classes that may be built. Raises ValueError for anything `dump_message` did
    not write (a newer version's, for example)."""
    try:
        return _built(data, types or {})
    except (KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"not a stored LangChain message: {str(data)[:120]}") from error


def _built(data: dict[str, Any], allowed: Types) -> BaseMessage:
    kind, own = CLASSES[data["t"]], allowed.get(data.get("c", ""))
    if own is not None and issubclass(own, BaseMessage):
        kind = own
    fields: dict[str, Any] = dict(load_value(data["f"], allowed).items())
    extra: dict[str, Any] = dict(load_value(data.get("x", {}), allowed).items())
    known = {name: fields.pop(name) for name in list(fields) if name in kind.model_fields}
    made: BaseMessage = build_model(kind, known, {**fields, **extra})
    return made


def whole(message: BaseMessage) -> BaseMessage:
    """A chunk as the message it is a piece of, as streams should have left it; any other message as it is."""
    kind = _WHOLE.get(type(message))
    if kind is None:
        return message
    fields = {name: value for name, value in message.__dict__.items() if name in kind.model_fields and name != "type"}
    made: BaseMessage = build_model(kind, fields, message.__pydantic_extra__ or {})
    return made


@cache
def _listed(kind: type[BaseMessage]) -> type[BaseMessage]:
    return next(base for base in kind.__mro__ if base in _NAMES)


register_message_codec(dump_message, load_message)
