"""Active contexts that a connection has decoded, so that reading a window decodes only new items.

An entry counts only if hashes prove that the database still holds it: the head of the records (covers, summaries, prunes, pins)
is the same, and the head of the log is the cached one extended by the hashes of the messages after it (`mnesis.store.chain`).
Every write moves one of the two, in any process, so nothing has to be invalidated.

The rows that a connection appends to such a session are kept until the next reader decodes them, which then need not read them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mnesis.models.context import Cover, Prune
from mnesis.models.message import DataPart, Message, MessagePart, ToolPart, ToolResultPart
from mnesis.models.summary import Summary
from mnesis.store.chain import extend_chain

MAX_CACHED_BYTES = 16_000_000
"""The total size of the stored forms of a connection's cached messages. The decoded values take up to four times as
much memory."""
MAX_CACHED_CONTEXTS = 256
MAX_APPENDED_ROWS = 64
"""Rows of a session to keep for its next reader. If more are appended before it reads, it reads them from the database."""

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class CachedContext:
    """The decoded context of a session, with the hashes it had when it was read."""

    log_head: bytes
    record_head: bytes
    last_seq: int
    covers: tuple[Cover, ...]
    items: tuple[Summary | Message, ...]
    prunes: dict[tuple[int, int], Prune]
    pins: frozenset[int]
    size_bytes: int
    with_containers: frozenset[int]
    """The seqs of messages with dicts or lists in them. Readers may get copies of these; all other items are shared."""
    empty_extras: tuple[dict[str, Any], ...] = ()
    """The empty dicts of all messages without containers, which a reader may have filled."""

    def copy_items(self) -> tuple[Summary | Message, ...]:
        """Return the items, with copies of all containers, so that no reader can change what another one receives.

        Without containers, these are the same items at each call, in the same tuple.
        """
        if not self.with_containers and not any(self.empty_extras):
            return self.items
        return tuple([self._copy_item(item) for item in self.items])

    def share_items(self) -> tuple[Summary | Message, ...]:
        """Return the items themselves, for readers that change nothing."""
        if any(self.empty_extras):
            return tuple([self._copy_item(item) if self._is_changed(item) else item for item in self.items])
        return self.items

    def extend(self, log_head: bytes, last_seq: int, messages: Sequence[Message], size_bytes: int) -> CachedContext:
        """Return the context after the next messages of the log, whose stored form takes `size_bytes`."""
        with_containers = seqs_with_containers(messages)
        return replace(
            self,
            log_head=log_head,
            last_seq=last_seq,
            items=(*self.items, *messages),
            size_bytes=self.size_bytes + size_bytes,
            with_containers=self.with_containers | with_containers if with_containers else self.with_containers,
            empty_extras=(*self.empty_extras, *find_empty_extras(messages, with_containers)),
        )

    def _is_changed(self, item: Summary | Message) -> bool:
        """Return whether a reader has added something to the empty dict of a shared message."""
        return bool(isinstance(item, Message) and item.extra and item.seq not in self.with_containers)

    def _copy_item(self, item: Summary | Message) -> Summary | Message:
        if isinstance(item, Summary):
            return item
        if item.seq in self.with_containers:
            return copy_message(item)
        return item.model_copy(update={"extra": {}}) if self._is_changed(item) else item


@dataclass(slots=True)
class _AppendedRows:
    """Rows that a connection appended to a session, and the heads of the log before and after them."""

    old_head: bytes
    new_head: bytes
    rows: list[Row]


class ContextCache:
    """Decoded contexts by row or id of their session, the least recently used ones first. For one thread."""

    def __init__(self) -> None:
        self._contexts: OrderedDict[int | str, CachedContext] = OrderedDict()
        self._appended: dict[int | str, _AppendedRows] = {}
        self._size_bytes = 0

    def get(self, session: int | str) -> CachedContext | None:
        """Return the context of a session as it was last decoded, without reading the database."""
        context = self._contexts.get(session)
        if context is not None:
            self._contexts.move_to_end(session)
        return context

    def find(self, session_pk: int, record_head: bytes) -> CachedContext | None:
        """Return the context of a session if its covers, summaries, prunes and pins are unchanged."""
        context = self.get(session_pk)
        return context if context is not None and context.record_head == record_head else None

    def note_append(self, session: int | str, old_head: bytes, new_head: bytes, rows: Sequence[Row]) -> None:
        """Keep rows that were appended to a log with the head `old_head`, if the context of the session is cached.

        The heads also show a reader whether the transaction that appended them was rolled back.
        """
        if session not in self._contexts:
            return
        appended = self._appended.get(session)
        if appended is None or appended.new_head != old_head or len(appended.rows) + len(rows) > MAX_APPENDED_ROWS:
            self._appended[session] = _AppendedRows(old_head, new_head, list(rows))
        else:
            appended.rows.extend(rows)
            appended.new_head = new_head

    def appended_rows(self, session: int | str, old_head: bytes, new_head: bytes) -> list[Row] | None:
        """Return the rows between two heads of a log. None if they are not kept."""
        appended = self._appended.get(session)
        is_known = appended is not None and (appended.old_head, appended.new_head) == (old_head, new_head)
        return appended.rows if appended is not None and is_known else None

    def put(self, session: int | str, context: CachedContext) -> None:
        """Keep a context, and drop the least recently used ones if the cache is full. Larger contexts are not kept at
        all.
        """
        self.remove(session)
        if context.size_bytes > MAX_CACHED_BYTES:
            return
        self._contexts[session] = context
        self._size_bytes += context.size_bytes
        while self._size_bytes > MAX_CACHED_BYTES or len(self._contexts) > MAX_CACHED_CONTEXTS:
            self.remove(next(iter(self._contexts)))

    def remove(self, session: int | str) -> None:
        """Drop the context of a session, if there is one."""
        context = self._contexts.pop(session, None)
        self._appended.pop(session, None)
        self._size_bytes -= 0 if context is None else context.size_bytes


class SharedContextCache:
    """A `ContextCache` for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cache = ContextCache()

    def get(self, session: int | str) -> CachedContext | None:
        """See `ContextCache.get`."""
        with self._lock:
            return self._cache.get(session)

    def put(self, session: int | str, context: CachedContext) -> None:
        """See `ContextCache.put`."""
        with self._lock:
            self._cache.put(session, context)


def is_continuation(log_head: bytes, message_hashes: Iterable[bytes], new_log_head: bytes) -> bool:
    """Return whether a log is an earlier log extended by messages with these hashes."""
    for message_hash in message_hashes:
        log_head = extend_chain(log_head, message_hash)
    return log_head == new_log_head


def seqs_with_containers(messages: Iterable[Message]) -> frozenset[int]:
    """Return the seqs of the messages with dicts or lists, which frozen values cannot protect from changes."""
    return frozenset(message.seq for message in messages if _holds_containers(message))


def find_empty_extras(messages: Iterable[Message], with_containers: frozenset[int]) -> tuple[dict[str, Any], ...]:
    """Return the empty dicts of the messages without containers."""
    return tuple([message.extra for message in messages if message.seq not in with_containers])


def _holds_containers(message: Message) -> bool:
    return bool(message.extra) or any(_part_holds_containers(part) for part in message.parts)


def _part_holds_containers(part: MessagePart) -> bool:
    return (
        isinstance(part, ToolPart | DataPart)
        or getattr(part, "provider", None) is not None
        or (isinstance(part, ToolResultPart) and bool(part.output_parts))
    )


def copy_message(message: Message) -> Message:
    """Return a message that shares no dict and no list with this one."""
    parts = tuple(_copy_part(part) if _part_holds_containers(part) else part for part in message.parts)
    return message.model_copy(update={"parts": parts, "extra": _copy_json(message.extra)})


def _copy_part(part: Any) -> Any:
    names = [name for name in ("provider", "input", "data") if isinstance(getattr(part, name, None), dict)]
    update = {name: _copy_json(getattr(part, name)) for name in names}
    if isinstance(part, ToolPart | ToolResultPart):
        update["output_parts"] = tuple(_copy_part(output) for output in part.output_parts)
    return part.model_copy(update=update) if update else part


def _copy_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy_json(inner) for key, inner in value.items()}
    return [_copy_json(inner) for inner in value] if isinstance(value, list) else value
