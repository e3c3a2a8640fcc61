"""The conversation of a session: the stored messages, and the items of the context that replace them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mnesis.models.context import ActiveContext, Cover
from mnesis.models.message import ImagePart, Message
from mnesis.models.session import Interruption, SessionRecord
from mnesis.store.base import Store

CHUNK_MESSAGES = 60
"""The number of messages in one chunk. The page holds six chunks at most, so its size does not grow with the log."""
_IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
"""Types that a browser shows without running anything; SVG is not among them."""
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]+={0,2}\s*")


@dataclass(frozen=True, slots=True)
class ContextState:
    """The active context, as the log page needs it."""

    covers: tuple[Cover, ...]
    prunes: frozenset[tuple[int, int]]
    pins: frozenset[int]

    @classmethod
    def of(cls, context: ActiveContext) -> ContextState:
        """Return the state of an active context that the log page needs."""
        return cls(context.covers, frozenset(context.prunes), context.pins)


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A message of the log. `cover` is the span of the context that hides it, or None; `pruned` are the indexes of its
    pruned parts.
    """

    message: Message
    cover: Cover | None
    pruned: frozenset[int]
    is_pinned: bool
    interruptions: tuple[Interruption, ...] = ()


@dataclass(frozen=True, slots=True)
class LogChunk:
    """Consecutive messages. `end` is the seq of the newest message of the log."""

    session: SessionRecord
    entries: tuple[LogEntry, ...]
    end: int

    @property
    def first(self) -> int:
        """The seq of the first message, or the end of the log if there is none."""
        return self.entries[0].message.seq if self.entries else self.end + 1

    @property
    def last(self) -> int:
        """The seq of the last message, or the end of the log if there is none."""
        return self.entries[-1].message.seq if self.entries else self.end


async def read_chunk(store: Store, session_id: str, *, after: int | None = None, before: int | None = None) -> LogChunk:
    """Read the messages after a seq, or those before one, or the newest."""
    session = await store.session(session_id)
    if after is None:
        before = session.last_seq + 1 if before is None else min(before, session.last_seq + 1)
        after = max(0, before - 1 - CHUNK_MESSAGES)
        until = before - 1
    else:
        until = after + CHUNK_MESSAGES
    messages = await store.messages(session_id, after_seq=after, until_seq=until) if until > after else []
    return LogChunk(session, await describe(store, session, messages), session.last_seq)


async def read_chunk_around(store: Store, session_id: str, seq: int) -> LogChunk:
    """Read the chunk in whose middle a message is."""
    return await read_chunk(store, session_id, after=max(0, seq - 1 - CHUNK_MESSAGES // 2))


async def describe(store: Store, session: SessionRecord, messages: Sequence[Message]) -> tuple[LogEntry, ...]:
    """Add to each message its state in the context, and the calls after it that gave no reply."""
    if not messages:
        return ()
    context = await store.active_context(session.id)
    state = ContextState.of(context)
    interruptions: dict[int, list[Interruption]] = {}
    for each in await store.interruptions(session.id):
        interruptions.setdefault(each.after_seq, []).append(each)
    return tuple(entry_of(message, state, tuple(interruptions.get(message.seq, ()))) for message in messages)


def entry_of(message: Message, state: ContextState, interruptions: tuple[Interruption, ...] = ()) -> LogEntry:
    """Combine a message with the state of the context."""
    seq = message.seq
    cover = next((cover for cover in state.covers if cover.first_seq <= seq <= cover.last_seq), None)
    pruned = frozenset(index for index in range(len(message.parts)) if (seq, index) in state.prunes)
    return LogEntry(message, cover, pruned, seq in state.pins, interruptions)


def image_source(part: ImagePart) -> str | None:
    """Return a `data:` URL for an image that is stored in the message, or None if it is not shown.

    Images at other addresses are never loaded: that would report to their server that the page was opened.
    """
    if part.data is None or part.media_type not in _IMAGE_TYPES or not _BASE64.fullmatch(part.data):
        return None
    return f"data:{part.media_type};base64,{''.join(part.data.split())}"
