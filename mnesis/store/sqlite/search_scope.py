"""The scope of a search: logs, and spans of keys of the index. A key is session_pk << 32 | seq. Pure functions, no
I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from mnesis.store.forks import Segment

SEQ_BITS = 32

Span = tuple[int, int]


def key_of(session_pk: int, seq: int) -> int:
    """Return the index key of a message."""
    return session_pk << SEQ_BITS | seq


def seq_of(key: int) -> int:
    """Return the seq of the message with this key."""
    return key & (1 << SEQ_BITS) - 1


@dataclass(frozen=True, slots=True)
class LogRange:
    """The messages from `first_seq` to `last_seq` that one session stores, to search.

    `session_id` is the session whose log they are part of, and `owner_id` the one that stores them; a fork shares
    messages of others.
    """

    pk: int
    session_id: str
    last_seq: int
    first_seq: int = 1
    owner_id: str = ""

    @property
    def span(self) -> Span:
        """The keys of the first and the last message."""
        return key_of(self.pk, self.first_seq), key_of(self.pk, self.last_seq)

    @property
    def count(self) -> int:
        """The number of its messages."""
        return self.last_seq - self.first_seq + 1


@dataclass(frozen=True)
class SearchScope:
    """The logs of one search, which it orders by key.

    `fork_pk` is the key of a fork, if the logs are the parts of its log: other sessions may have keys between them.
    """

    logs: tuple[LogRange, ...]
    fork_pk: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "logs", tuple(sorted(self.logs, key=lambda log: log.pk)))

    @cached_property
    def total(self) -> int:
        """The number of messages in all logs."""
        return sum(log.count for log in self.logs)

    @cached_property
    def span(self) -> Span:
        """The keys from the first message to the last; an empty span if there are no logs."""
        return (self.logs[0].span[0], self.logs[-1].span[1]) if self.logs else (1, 0)

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """The spans of keys to read: one for each part of a fork's log, else one for all logs."""
        return (self.span,) if self.fork_pk is None else tuple(log.span for log in self.logs)

    def log(self, key: int) -> LogRange:
        """Return the log that a key belongs to."""
        return self._by_pk[key >> SEQ_BITS]

    def message_count(self, session_pk: int) -> float:
        """Return the number of messages of a log; infinity for one that is not searched."""
        log = self._by_pk.get(session_pk)
        return log.count if log is not None else float("inf")

    @cached_property
    def _by_pk(self) -> dict[int, LogRange]:
        return {log.pk: log for log in self.logs}

    def contains(self, key: int) -> bool:
        """Return whether a key belongs to a message of the scope."""
        log = self._by_pk.get(key >> SEQ_BITS)
        return log is not None and log.first_seq <= seq_of(key) <= log.last_seq


def fork_scope(pk: int, session_id: str, segments: Sequence[tuple[Segment, str]], last_seq: int) -> SearchScope:
    """Return the scope of a search of a fork up to `last_seq`. `segments` come with the sessions that store them."""
    parts = [
        LogRange(each.source_pk, session_id, min(each.last_seq, last_seq), each.first_seq, owner_id)
        for each, owner_id in segments
    ]
    own_first = segments[-1][0].last_seq + 1 if segments else 1
    parts.append(LogRange(pk, session_id, last_seq, own_first, session_id))
    return SearchScope(tuple(part for part in parts if part.count > 0), pk)
