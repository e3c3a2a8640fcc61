"""Which messages stand in what a runnable takes and gives. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, BaseMessageChunk, HumanMessage, convert_to_messages
from langchain_core.prompt_values import PromptValue

from mnesis.errors import InvalidMessageError
from mnesis.formats.parse import as_text

MESSAGES = "messages"
OUTPUT = "output"


def input_messages(value: Any, key: str | None) -> list[BaseMessage]:
    """The messages of an input: a string, a message, a list of anything LangChain takes for messages, or a dict that has
    them under `key`. Raises `InvalidMessageError` for anything else."""
    if isinstance(value, dict):
        name = key or (next(iter(value)) if len(value) == 1 else MESSAGES)
        if name not in value:
            raise InvalidMessageError(
                f"the input has the keys {sorted(map(str, value))}, none of them {name!r}; name the one that holds the"
                " user's message with input_messages_key"
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
    raise InvalidMessageError(f"{type(value).__name__} is no message or list of messages: {str(value)[:80]!r}")


def output_messages(value: Any, key: str | None, given: Sequence[BaseMessage]) -> list[BaseMessage]:
    """The messages an output adds to those that were `given`. Text becomes an `AIMessage`; other values that hold no messages
    become one with their JSON as text."""
    objects = {id(message) for message in given}
    ids = {message.id for message in given if message.id is not None}
    found = _messages_in(value, key)
    return [message for message in found if id(message) not in objects and message.id not in ids]


def _messages_in(value: Any, key: str | None) -> list[BaseMessage]:
    if isinstance(value, BaseMessage):
        return [value]
    if isinstance(value, str):
        return [AIMessage(content=value)] if value else []
    if isinstance(value, dict):
        return _in_dict(value, key)
    if isinstance(value, list | tuple) and value and all(isinstance(item, BaseMessage) for item in value):
        return list(value)
    return [] if value is None or value == [] else [AIMessage(content=as_text(value))]


def _in_dict(value: dict[str, Any], key: str | None) -> list[BaseMessage]:
    names = [key] if key else [MESSAGES, OUTPUT, *value] if len(value) == 1 else [MESSAGES, OUTPUT]
    name = next((name for name in names if name in value), None)
    if name is not None and not _is_update(value[name]):
        return _messages_in(value[name], None)
    updates = [item[MESSAGES] for item in value.values() if _is_update(item)]
    if updates:  # what a graph streams: one update per node
        return [message for update in updates for message in _messages_in(update, None)]
    return [] if key else [AIMessage(content=as_text(value))]


def _is_update(value: Any) -> bool:
    return isinstance(value, dict) and MESSAGES in value


class Gathered:
    """What a stream has given so far: pieces added up where they can be, side by side where they cannot."""

    def __init__(self) -> None:
        self._pieces: list[Any] = []

    def add(self, piece: Any) -> None:
        """Take in one more piece."""
        piece = _content(piece)
        if self._pieces and _continues(self._pieces[-1], piece):
            try:
                self._pieces[-1] = self._pieces[-1] + piece
                return
            except TypeError:
                pass
        self._pieces.append(piece)

    def messages(self, key: str | None, given: Sequence[BaseMessage]) -> list[BaseMessage]:
        """The messages of it all, each once."""
        found: list[BaseMessage] = []
        for piece in self._pieces:
            found += output_messages(piece, key, [*given, *found])
        return found

    def text(self, key: str | None, given: Sequence[BaseMessage]) -> str:
        """What was said in it."""
        return "".join(str(message.text) for message in self.messages(key, given))


def _content(piece: Any) -> Any:
    """What a graph streams in pairs: a message with its metadata, or the name of a mode with what it gives."""
    if isinstance(piece, tuple) and len(piece) == 2:
        if isinstance(piece[0], BaseMessage):
            return piece[0]
        return _content(piece[1]) if isinstance(piece[0], str) else piece
    return piece


def _continues(before: Any, piece: Any) -> bool:
    """Whether a piece goes on where the one before ended. Whole messages and lists of them stand for themselves, and so do
    pieces of another message."""
    if isinstance(piece, BaseMessageChunk):
        return isinstance(before, BaseMessageChunk) and (piece.id is None or piece.id == before.id)
    return not isinstance(piece, BaseMessage | list)
