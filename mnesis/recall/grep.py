"""Search the log with regular expressions, off the event loop, under a time limit that holds for any pattern."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby

from anyio import to_thread

from mnesis.errors import ConfigurationError
from mnesis.formats.text import message_text
from mnesis.models.context import Cover, find_cover
from mnesis.models.cursor import Cursor, parse_cursor, request_fingerprint
from mnesis.models.message import Message
from mnesis.models.page_sizes import GREP_TIMEOUT_SECONDS
from mnesis.models.search import GrepGroup, GrepMatch, GrepPage
from mnesis.recall.regex import FindMatches, check_pattern, compile_pattern
from mnesis.search.pagination import page_limit
from mnesis.search.time_parameters import is_within
from mnesis.store.base import Store

PAGE_MESSAGES = 200
MAX_SHOWN_CHARS = 300


@dataclass(frozen=True, slots=True)
class GrepQuery:
    """A search for a pattern. `summary_id` limits it to the originals of a summary. The time limit applies to one page.

    Only messages from `after` until before `before` are searched, in milliseconds since 1970; None is no limit.
    """

    pattern: str
    summary_id: str | None = None
    ignore_case: bool = False
    limit: int = 50
    cursor: str | None = None
    timeout_seconds: float = GREP_TIMEOUT_SECONDS
    after: float | None = None
    before: float | None = None


@dataclass
class _PageScan:
    """The scan for one page. It begins at message `start_seq`, whose first `skip_matches` matches were on earlier pages."""

    find_matches: FindMatches
    limit: int
    deadline: float
    start_seq: int
    skip_matches: int
    matches: list[GrepMatch] = field(default_factory=list)
    stopped_at: tuple[int, int] | None = None
    timed_out: bool = False

    def scan(self, messages: Sequence[Message]) -> None:
        """Search messages until the page is full or the time limit is reached."""
        for message in messages:
            self._scan_message(message)
            if self.stopped_at is not None:
                return

    def _scan_message(self, message: Message) -> None:
        text, skip = message_text(message), self.skip_matches if message.seq == self.start_seq else 0
        try:
            for number, (start, end) in enumerate(self._match_spans(text)):
                if len(self.matches) == self.limit:
                    self.stopped_at = message.seq, number
                    return
                if number >= skip:
                    self.matches.append(_build_match(message, text, start, end))
        except (TimeoutError, MemoryError):
            # Skip the message that takes too long; otherwise the next page would fail at it again.
            self.stopped_at, self.timed_out = (message.seq + 1, 0), True

    def _match_spans(self, text: str) -> Iterator[tuple[int, int]]:
        remaining_seconds = self.deadline - time.monotonic()
        if remaining_seconds <= 0:
            raise TimeoutError
        for match in self.find_matches(text, remaining_seconds):
            if match.end() > match.start():
                yield match.span()


async def grep(store: Store, session_id: str, query: GrepQuery) -> GrepPage:
    """Return a page of all matches in log order, grouped by the summary that covers them now.

    Raises `ConfigurationError` for an invalid pattern, a limit below 1, or a cursor of another search.
    """
    limit = page_limit(query.limit)
    check_pattern(query.pattern)
    if not 0 < query.timeout_seconds < float("inf"):
        raise ConfigurationError(f"timeout_seconds must be a positive number, not {query.timeout_seconds!r}")
    fingerprint = request_fingerprint((query.pattern, query.summary_id, query.ignore_case))
    seq, skip = _start(query, fingerprint)
    find_matches = await to_thread.run_sync(partial(compile_pattern, query.pattern, ignore_case=query.ignore_case))
    scan = _PageScan(find_matches, limit, time.monotonic() + query.timeout_seconds, seq, skip)
    after_seq = seq - 1
    while scan.stopped_at is None:
        messages = await _read_messages(store, session_id, query.summary_id, after_seq)
        await to_thread.run_sync(scan.scan, [m for m in messages if is_within(m, query.after, query.before)])
        if len(messages) < PAGE_MESSAGES:
            break
        after_seq = messages[-1].seq
    covers = (await store.active_context(session_id)).covers
    cursor = None if scan.stopped_at is None else str(Cursor(scan.stopped_at, fingerprint))
    return GrepPage(tuple(_group_by_summary(scan.matches, covers)), cursor, scan.timed_out)


async def _read_messages(store: Store, session_id: str, summary_id: str | None, after_seq: int) -> list[Message]:
    if summary_id is None:
        return await store.messages(session_id, after_seq=after_seq, limit=PAGE_MESSAGES)
    return await store.covered_messages(session_id, summary_id, after_seq=after_seq, limit=PAGE_MESSAGES)


def _build_match(message: Message, text: str, start: int, end: int) -> GrepMatch:
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


def _group_by_summary(matches: Sequence[GrepMatch], covers: Sequence[Cover]) -> Iterator[GrepGroup]:
    def covering_summary(match: GrepMatch) -> str | None:
        cover = find_cover(covers, match.seq)
        return cover.summary_id if cover else None

    for summary_id, group in groupby(matches, covering_summary):
        yield GrepGroup(summary_id, tuple(group))


def _start(query: GrepQuery, fingerprint: str) -> tuple[int, int]:
    """Return the seq of the first message to search, and how many of its matches to skip."""
    if query.cursor is None:
        return 1, 0
    seq, skip = parse_cursor(query.cursor, 2, of="this pattern", fingerprint=fingerprint).numbers
    return max(seq, 1), skip
