"""The changes of other middleware to a request: which messages of the state remain, their new forms, and additions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from langchain_core.messages import BaseMessage


@dataclass(frozen=True, slots=True)
class RequestChanges:
    """The messages of a request, compared with those of the state.

    `shown` are the state's messages in the order of the request, and `forms` are the changed messages that the request
    contains instead, by index in `shown`. `withheld` are the state's messages that the request does not contain.
    `additions` are the messages that the state does not contain, each with the number of shown messages before it.
    """

    shown: tuple[BaseMessage, ...]
    forms: dict[int, BaseMessage]
    withheld: tuple[BaseMessage, ...]
    additions: tuple[tuple[int, BaseMessage], ...]


def compare_request(state: Sequence[BaseMessage], request: Sequence[BaseMessage]) -> RequestChanges:
    """Compare the messages of a request with those of the state. A message is recognised by its id or by its identity
    as an object.
    """
    if len(state) == len(request) and all(a is b for a, b in zip(state, request, strict=True)):
        return RequestChanges(tuple(state), {}, (), ())
    by_object = {id(message): message for message in state}
    by_id = {message.id: message for message in state if message.id is not None}
    shown: list[BaseMessage] = []
    forms: dict[int, BaseMessage] = {}
    additions: list[tuple[int, BaseMessage]] = []
    used: set[int] = set()
    for message in request:
        original = by_object.get(id(message)) or by_id.get(message.id or "") or _equal_message(state, message, used)
        if original is None or id(original) in used:
            additions.append((len(shown), message))
            continue
        used.add(id(original))
        if original is not message and not is_equal(original, message):
            forms[len(shown)] = message
        shown.append(original)
    withheld = tuple(message for message in state if id(message) not in used)
    return RequestChanges(tuple(shown), forms, withheld, tuple(additions))


def is_equal(one: BaseMessage, other: BaseMessage) -> bool:
    """Return whether two messages are equal. Values whose comparison has no single truth value count as different."""
    try:
        return one is other or one == other
    except ValueError:
        return False


def _equal_message(state: Sequence[BaseMessage], message: BaseMessage, used: set[int]) -> BaseMessage | None:
    """Return an equal message without an id, for middleware that copies messages."""
    if message.id is not None:
        return None
    return next((m for m in state if m.id is None and id(m) not in used and is_equal(m, message)), None)
