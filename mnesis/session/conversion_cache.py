"""`ConversionCache`: the messages of a framework that an adapter has made from the records of a window.

Most of a window was in the previous one. An adapter converts a record once, and each reader gets copies, so that no reader can
change what another one receives.
"""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from mnesis.formats.copy_plan import Make, plan_copy
from mnesis.models.message import Message, MessagePart
from mnesis.store.context_cache import copy_message

T = TypeVar("T")

MAX_CACHED_SESSIONS = 64
"""The number of conversations in the cache: the active ones of a server. Each keeps the messages of its newest
window."""


class _Conversion(NamedTuple):
    """Records, and the functions that copy the messages made from them. None: the messages cannot be copied."""

    records: Sequence[Message]
    make: Make | None


class ConversionCache(Generic[T]):
    """Converted messages of the newest window of each session. May be shared between threads.

    A conversion is used only for records equal to those that it was made from. Records may be shared with other
    readers. The returned messages contain none of their dicts or lists. Copies and pickles of a cache are empty.
    """

    def __init__(self) -> None:
        self._windows: OrderedDict[str, dict[str, _Conversion]] = OrderedDict()
        self.conversions = 0
        """The number of groups of records that were converted for the first time, or again because they had changed."""

    def read(
        self, session_id: str, groups: Iterable[Sequence[Message]], convert: Callable[[Sequence[Message]], list[T]]
    ) -> list[list[T]]:
        """Return the messages that each group of records of a window becomes, new ones at each call."""
        known = self._windows.get(session_id, {})
        window: dict[str, _Conversion] = {}
        messages: list[list[T]] = []
        for records in groups:
            key = records[0].id
            conversion = known.get(key)
            if conversion is None or not _are_same(conversion.records, records):
                if conversion is None or not _are_equal(conversion.records, records):
                    self.conversions += 1
                    conversion = _Conversion(records, plan_copy(convert(records)))
                # Equal records replace those that were compared: the next window will probably show the same objects.
                conversion = _Conversion(records, conversion.make)
            # Messages that cannot be copied are converted each time, from records that no other reader has.
            messages.append(convert(list(map(copy_message, records))) if conversion.make is None else conversion.make())
            window[key] = conversion
        self._windows.pop(session_id, None)  # moved to the end, as the newest
        self._windows[session_id] = window
        while len(self._windows) > MAX_CACHED_SESSIONS:
            self._windows.popitem(last=False)
        return messages

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), ())


def _are_same(known: Sequence[Message], records: Sequence[Message]) -> bool:
    return len(known) == len(records) and all(map(operator.is_, known, records))


def _are_equal(known: Sequence[Message], records: Sequence[Message]) -> bool:
    return len(known) == len(records) and all(map(_is_equal, known, records))


def _is_equal(known: Message, record: Message) -> bool:
    """Return whether a record converts to the same messages, because all its visible fields are equal."""
    # Comparing pydantic models takes several times as long as comparing their fields.
    return known is record or (
        len(known.parts) == len(record.parts)
        and all(map(_is_equal_part, known.parts, record.parts))
        and known.extra == record.extra
        and (known.role, known.is_summary, known.seq, known.tokens)
        == (record.role, record.is_summary, record.seq, record.tokens)
    )


def _is_equal_part(known: MessagePart, part: MessagePart) -> bool:
    return known is part or (type(known) is type(part) and known.__dict__ == part.__dict__)
