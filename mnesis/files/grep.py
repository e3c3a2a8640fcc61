"""Searching a stored file for a pattern, a block at a time: bounded memory, a time limit, a cursor to go on. Blocking."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from mnesis.errors import ConfigurationError
from mnesis.files.paging import Content
from mnesis.files.storage import StoredFile

BLOCK_BYTES = 1 << 20
"""A line longer than this is searched in pieces of this size."""
BLOCK_SECONDS = 1.0
"""A block always gets so much time, far more than most patterns need: one begun late is not passed over for being late."""
MAX_SHOWN_CHARS = 300

Find = Callable[[str, float], Iterator[Any]]


@dataclass(frozen=True, slots=True)
class FileMatch:
    """A line that matches: its number (from 1), the place of the match in bytes, and the line, of a long one the part
    around the match. A search that goes on after it begins at `next_cursor`."""

    line: int
    offset: int
    text: str
    next_cursor: str


@dataclass(frozen=True, slots=True)
class FileMatches:
    """Matching lines in order. `next_cursor` goes on where this page ends, None at the end of the file; `timed_out` says
    that time ran out, `searched_bytes` how far the search has come."""

    content_id: str
    matches: tuple[FileMatch, ...]
    searched_bytes: int
    next_cursor: str | None = None
    timed_out: bool = False


@dataclass
class _Search:
    """A page being made: the block it is in begins at byte `at`, in line `line`; `skip` matches of it were shown before."""

    content: Content
    find: Find
    limit: int
    until: float
    block_seconds: float
    mark: str
    at: int
    line: int
    skip: int
    matches: list[FileMatch] = field(default_factory=list)

    def run(self) -> tuple[str | None, bool]:
        """Where the next page begins, and whether the time ran out."""
        while (block := self._block()) is not None:
            end, last_line = self.at + self.content.byte_length(block), self.line + block.count("\n")
            try:
                if (full := self._look_into(block)) is not None:
                    return full, False
            except (TimeoutError, MemoryError):
                # A block that takes too long is passed over, or the next page would hang in it again.
                self.at, self.line, self.skip = end, last_line, 0
                return self._cursor(0), True
            self.at, self.line, self.skip = end, last_line, 0
            if time.monotonic() > self.until and self.at < self.content.size:
                return self._cursor(0), True
        return None, False

    def _block(self) -> str | None:
        """Whole lines from here on; a piece of a line that is longer than a block; None at the end."""
        if self.at >= self.content.size:
            return None
        text = self.content.text(self.at, BLOCK_BYTES)
        at_end = self.at + BLOCK_BYTES >= self.content.size
        return (text if at_end else text[: text.rfind("\n") + 1] or text) or None

    def _look_into(self, block: str) -> str | None:
        """Note what matches; the cursor if the page is full."""
        line, counted, line_end = self.line, 0, -1
        # `$` stands before a line feed alone. Two of them are as long as the end of a line they stand for here.
        searched = block.replace("\r\n", "\n\n")
        for number, found in enumerate(self.find(searched, max(self.until - time.monotonic(), self.block_seconds))):
            if found.end() == found.start() or found.start() < line_end:
                continue
            end = block.find("\n", found.start())
            line_end = end if end >= 0 else len(block)
            if number < self.skip:
                continue
            if len(self.matches) == self.limit:
                return self._cursor(number)
            line, counted = line + block.count("\n", counted, found.start()), found.start()
            offset = self.at + self.content.byte_length(block[: found.start()])
            shown = self.content.shown(_shown_line(block, found.start(), found.end()))
            self.matches.append(FileMatch(line, offset, shown, self._cursor(number + 1)))
        return None

    def _cursor(self, skip: int) -> str:
        return f"{self.at}.{self.line}.{skip}.{self.mark}"


def search_file(
    stored: StoredFile,
    find: Find,
    *,
    asked: object,
    limit: int,
    cursor: str | None,
    timeout_seconds: float,
) -> FileMatches:
    """One page of matching lines. `asked` is what makes two searches the same: a cursor belongs to its search.

    Raises `ConfigurationError` for a cursor of another search.
    """
    content = Content(stored)
    mark = hashlib.sha256(repr((stored.content_id, asked)).encode("utf-8", "surrogatepass")).hexdigest()[:12]
    at, line, skip = (content.start, 1, 0) if cursor is None else _parsed(cursor, mark)
    until, block_seconds = time.monotonic() + timeout_seconds, min(timeout_seconds, BLOCK_SECONDS)
    search = _Search(content, find, limit, until, block_seconds, mark, at, line, skip)
    next_cursor, timed_out = search.run()
    return FileMatches(stored.content_id, tuple(search.matches), min(search.at, content.size), next_cursor, timed_out)


def _shown_line(block: str, match_start: int, match_end: int) -> str:
    start = max(block.rfind("\n", 0, match_start) + 1, match_start - MAX_SHOWN_CHARS // 3)
    end = block.find("\n", match_end)
    end = min(end if end >= 0 else len(block), start + MAX_SHOWN_CHARS)
    return block[start:end].rstrip("\r")


def _parsed(cursor: str, mark: str) -> tuple[int, int, int]:
    parts = cursor.split(".") if isinstance(cursor, str) else []
    if len(parts) != 4 or parts[3] != mark or not all(p.isascii() and p.isdigit() and len(p) < 19 for p in parts[:3]):
        raise ConfigurationError(
            f"{str(cursor)[:80]!r} is no cursor of this search; pass next_cursor of its page before, or None"
        )
    return int(parts[0]), int(parts[1]), int(parts[2])
