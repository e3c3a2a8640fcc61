"""Results computed from the messages of an agent's state, cached by their exact content.

Most messages of a state were in the previous one. A checkpointer rebuilds them as new objects at each run, and users
and other middleware may change them in place, so neither the identity of a message nor its id proves that it is
unchanged. The key of the cache is therefore the content alone. Reading the content takes a fraction of the time of
computing a fingerprint.
"""

from __future__ import annotations

import hashlib
import marshal
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from langchain_core.messages import BaseMessage

from langchain_mnesis.messages.convert import has_same_state, log_id
from langchain_mnesis.messages.values import TAG
from langchain_mnesis.state_view import Fingerprint, canonical_json, fingerprint
from mnesis.models.message import Message, MessagePart, Role

MARSHAL_VERSION = 2
"""The newest version that writes equal values as equal bytes: later ones depend on how often an object is referenced
(https://docs.python.org/3/library/marshal.html#marshal.version)."""

StateKey = tuple[str | None, Fingerprint]
"""The identity of a message of a state: its id and its content."""
Content = tuple[type[BaseMessage], bytes]
"""The class of a message, and a hash of all its fields."""


class ShownMessage(NamedTuple):
    """A message that a view shows: its seq in the log, and the object of the state with its fingerprint."""

    seq: int
    message: BaseMessage
    fingerprint: Fingerprint


class _Comparison(NamedTuple):
    """Whether parts of a window are those of a message."""

    fingerprint: Fingerprint
    role: Role
    parts: tuple[MessagePart, ...]
    is_same: bool

    def is_about(self, record: Message, candidate: ShownMessage) -> bool:
        return (
            self.fingerprint == candidate.fingerprint
            and self.role == record.role
            and _are_equal(self.parts, record.parts)
        )


class KnownMessages:
    """Fingerprints of the messages of the newest state, and their comparisons with the newest window.

    `fingerprints` and `comparisons` count the computations.
    """

    def __init__(self) -> None:
        self.fingerprints = 0
        self.comparisons = 0
        self._fingerprints: dict[Content, Fingerprint] = {}
        self._used: set[Content] = set()
        self._comparisons: dict[int, _Comparison] = {}

    def key(self, message: BaseMessage) -> StateKey:
        """Return the id and the current fingerprint of a message."""
        content = _content(message)
        if content is not None:
            self._used.add(content)
            if content in self._fingerprints:
                return log_id(message), self._fingerprints[content]
        text = canonical_json(message)
        self.fingerprints += 1
        # `marshal` writes arrays and other buffers as bytes, without their type. It writes all other values as
        # different bytes if they differ.
        if content is not None and TAG not in text:
            self._fingerprints[content] = fingerprint(text)
        return log_id(message), fingerprint(text)

    def forget_unused(self) -> None:
        """Forget the fingerprints of messages that were not asked for since the last call."""
        self._fingerprints = {key: self._fingerprints[key] for key in self._used if key in self._fingerprints}
        self._used = set()

    def find_unchanged(self, records: Iterable[Message], shown: Mapping[int, ShownMessage]) -> dict[int, BaseMessage]:
        """Return the messages, by seq, that the records of a window show unchanged. `shown` are the candidates by seq."""
        comparisons: dict[int, _Comparison] = {}
        for record in records:
            candidate = shown.get(record.seq)
            if candidate is None or record.is_summary:
                continue
            known = self._comparisons.get(record.seq)
            if known is None or not known.is_about(record, candidate):
                self.comparisons += 1
                is_same = has_same_state(record, candidate.message)
                known = _Comparison(candidate.fingerprint, record.role, record.parts, is_same)
            comparisons[record.seq] = known
        self._comparisons = comparisons
        return {seq: shown[seq].message for seq, comparison in comparisons.items() if comparison.is_same}


def _content(message: BaseMessage) -> Content | None:
    """Return the values of all fields of a message; None if one of them is not plain data."""
    fields: dict[str, Any] = message.__dict__
    if "artifact" in fields:  # often an object, and not part of a fingerprint
        fields = {name: value for name, value in fields.items() if name != "artifact"}
    try:
        data = marshal.dumps((fields, message.__pydantic_extra__), MARSHAL_VERSION)
    except ValueError:
        return None
    return type(message), hashlib.sha256(data).digest()


def _are_equal(known: tuple[MessagePart, ...], parts: tuple[MessagePart, ...]) -> bool:
    # Comparing pydantic models takes several times as long as comparing their fields.
    return known is parts or (
        len(known) == len(parts)
        and all(a is b or (type(a) is type(b) and a.__dict__ == b.__dict__) for a, b in zip(known, parts, strict=True))
    )
