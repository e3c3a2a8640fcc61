"""Regular expressions over the log, off the event loop and under a time limit that no pattern escapes."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby

from anyio import to_thread

from mnesis.errors import ConfigurationError
from mnesis.formats.text import readable
from mnesis.models.context import Cover
from mnesis.models.message import Message
from mnesis.models.search import GrepGroup, GrepMatch, GrepPage
from mnesis.recall.regex import Find, check_pattern, compiled
from mnesis.search.pagination import page_limit
from mnesis.store.base import Store

PAGE_MESSAGES = 200
MAX_SHOWN_CHARS = 300
TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Grep:
    """One search for a pattern. `summary_id` narrows it to what stands behind a summary. The time limit is for one page."""

    pattern: str
    summary_id: str | None = None
    ignore_case: bool = False
    limit: int = 50
    cursor: str | None = None
    timeout_seconds: float = TIMEOUT_SECONDS


@dataclass
class _Run:
    """A page being made. It starts at message `seq`, of which `skip` matches were shown before."""

    find: Find
    limit: int
    deadline: float
    seq: int
    skip: int
    matches: list[GrepMatch] = field(default_factory=list)
    stopped_at: tuple[int, int] | None = None
    timed_out: bool = False

    def read(self, messages: Sequence[Message]) -> None:
        """Look through messages until the page is full or the time is over."""
        for message in messages:
            self._read_one(message)
            if self.stopped_at is not None:
                return

    def _read_one(self, message: Message) -> None:
        text, skip = readable(message), self.skip if message.seq == self.seq else 0
        try:
            for number, (start, end) in enumerate(self._spans(text)):
                if len(self.matches) == self.limit:
                    self.stopped_at = message.seq, number
                    return
                if number >= skip:
                    self.matches.append(_match(message, text, start, end))
        except (TimeoutError, MemoryError):
            # The message that takes too long is passed over, or the next page would hang in it again.
            self.stopped_at, self.timed_out = (message.seq + 1, 0), True

    def _spans(self, text: str) -> Iterator[tuple[int, int]]:
        remaining = self.deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        for found in self.find(text, remaining):
            if found.end() > found.start():
                yield found.span()


async def grep(store: Store, session_id: str, wanted: Grep) -> GrepPage:
    """Every place that matches, in order of the log, grouped by the summary that covers it now.

    Raises `ConfigurationError` for a pattern that cannot be read, a limit below 1 or a cursor of another search.
    """
    limit = page_limit(wanted.limit)
    check_pattern(wanted.pattern)
    if not 0 < wanted.timeout_seconds < float("inf"):
        raise ConfigurationError(f"timeout_seconds is a positive number of seconds, not {wanted.timeout_seconds!r}")
    seq, skip = _parse_cursor(wanted)
    find = await to_thread.run_sync(partial(compiled, wanted.pattern, ignore_case=wanted.ignore_case))
    run = _Run(find, limit, time.monotonic() + wanted.timeout_seconds, seq, skip)
    after_seq = seq - 1
    while run.stopped_at is None:
        messages = await _messages(store, session_id, wanted.summary_id, after_seq)
        await to_thread.run_sync(run.read, messages)
        if len(messages) < PAGE_MESSAGES:
            break
        after_seq = messages[-1].seq
    covers = (await store.active_context(session_id)).covers
    cursor = None if run.stopped_at is None else "{}.{}.{}".format(*run.stopped_at, _mark(wanted))
    return GrepPage(tuple(_grouped(run.matches, covers)), cursor, run.timed_out)


async def _messages(store: Store, session_id: str, summary_id: str | None, after_seq: int) -> list[Message]:
    if summary_id is None:
        return await store.messages(session_id, after_seq=after_seq, limit=PAGE_MESSAGES)
    return await store.covered_messages(session_id, summary_id, after_seq=after_seq, limit=PAGE_MESSAGES)


def _match(message: Message, text: str, start: int, end: int) -> GrepMatch:
    line_start = max(text.rfind("\n", 0, start) + 1, start - MAX_SHOWN_CHARS // 3)
    line_end = text.find("\n", end)
    line_end = min(line_end if line_end >= 0 else len(text), line_start + MAX_SHOWN_CHARS)
    return GrepMatch(
        message_id=message.id,
        seq=message.seq,
        role=message.role,
        start=start,
        end=end,
        text=text[start : min(end, start + MAX_SHOWN_CHARS)],
        line=text[line_start:line_end],
    )


def _grouped(matches: Sequence[GrepMatch], covers: Sequence[Cover]) -> Iterator[GrepGroup]:
    def covering(match: GrepMatch) -> str | None:
        return next((c.summary_id for c in covers if c.first_seq <= match.seq <= c.last_seq), None)

    for summary_id, group in groupby(matches, covering):
        yield GrepGroup(summary_id, tuple(group))


def _parse_cursor(wanted: Grep) -> tuple[int, int]:
    if wanted.cursor is None:
        return 1, 0
    parts = wanted.cursor.split(".") if isinstance(wanted.cursor, str) else []
    if (
        len(parts) != 3
        or parts[2] != _mark(wanted)
        or not all(p.isascii() and p.isdigit() and len(p) < 19 for p in parts[:2])
    ):
        raise ConfigurationError(
            f"{str(wanted.cursor)[:80]!r} is no cursor of this pattern; pass next_cursor of its page before, or None"
        )
    return max(int(parts[0]), 1), int(parts[1])


def _mark(wanted: Grep) -> str:
    asked = repr((wanted.pattern, wanted.summary_id, wanted.ignore_case)).encode("utf-8", "surrogatepass")
    return hashlib.sha256(asked).hexdigest()[:12]
