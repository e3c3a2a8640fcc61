"""Search a stored file for a pattern, block by block, in bounded memory and time. Blocking; call it off the event loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from mnesis.files.paging import FileContent
from mnesis.files.storage import StoredFile
from mnesis.models.cursor import Cursor, parse_cursor, request_fingerprint

BLOCK_BYTES = 1 << 20
"""Longer lines are searched in parts of this size."""
BLOCK_SECONDS = 1.0
"""The minimum time for each block, far more than most patterns need, so that a block that starts late is not
skipped."""
MAX_SHOWN_CHARS = 300

FindMatches = Callable[[str, float], Iterator[Any]]


@dataclass(frozen=True, slots=True)
class FileMatch:
    """A matching line.

    `line` is its number (from 1), `offset` the position of the match in bytes. `text` is the line, or the part around the
    match if it is long. `next_cursor` continues the search after this match.
    """

    line: int
    offset: int
    text: str
    next_cursor: str


@dataclass(frozen=True, slots=True)
class FileMatches:
    """A page of matching lines in file order.

    `next_cursor` continues after this page; None at the end of the file. `timed_out` means that the time limit ended the
    search. `searched_bytes` is the position that the search has reached.
    """

    content_id: str
    matches: tuple[FileMatch, ...]
    searched_bytes: int
    next_cursor: str | None = None
    timed_out: bool = False


@dataclass
class _PageScan:
    """The scan for one page. Its current block begins at byte `offset`, in line `line`.

    The first `skip_matches` matches of that block were on earlier pages.
    """

    content: FileContent
    find_matches: FindMatches
    limit: int
    deadline: float
    block_seconds: float
    fingerprint: str
    offset: int
    line: int
    skip_matches: int
    matches: list[FileMatch] = field(default_factory=list)

    def run(self) -> tuple[str | None, bool]:
        """Scan until the page is full. Return the cursor of the next page, and whether the time limit was reached."""
        while (block := self._read_block()) is not None:
            end, last_line = self.offset + self.content.byte_length(block), self.line + block.count("\n")
            try:
                if (next_cursor := self._scan_block(block)) is not None:
                    return next_cursor, False
            except (TimeoutError, MemoryError):
                # Skip the block that takes too long; otherwise the next page would fail at it again.
                self.offset, self.line, self.skip_matches = end, last_line, 0
                return self._cursor(0), True
            self.offset, self.line, self.skip_matches = end, last_line, 0
            if time.monotonic() > self.deadline and self.offset < self.content.size:
                return self._cursor(0), True
        return None, False

    def _read_block(self) -> str | None:
        """Read whole lines, or a part of a line that is longer than a block. Returns None at the end of the file."""
        if self.offset >= self.content.size:
            return None
        text = self.content.read_text(self.offset, BLOCK_BYTES)
        at_end = self.offset + BLOCK_BYTES >= self.content.size
        return (text if at_end else text[: text.rfind("\n") + 1] or text) or None

    def _scan_block(self, block: str) -> str | None:
        """Add the matches of a block. Returns the cursor of the next page if the page is full, else None."""
        line, counted_to, line_end = self.line, 0, -1
        # `$` matches before "\n" only. The replacement has the same length, so offsets stay valid.
        searched_text = block.replace("\r\n", "\n\n")
        seconds = max(self.deadline - time.monotonic(), self.block_seconds)
        for number, match in enumerate(self.find_matches(searched_text, seconds)):
            if match.end() == match.start() or match.start() < line_end:
                continue
            end = block.find("\n", match.start())
            line_end = end if end >= 0 else len(block)
            if number < self.skip_matches:
                continue
            if len(self.matches) == self.limit:
                return self._cursor(number)
            line, counted_to = line + block.count("\n", counted_to, match.start()), match.start()
            offset = self.offset + self.content.byte_length(block[: match.start()])
            excerpt = self.content.replace_undecodable(_line_excerpt(block, match.start(), match.end()))
            self.matches.append(FileMatch(line, offset, excerpt, self._cursor(number + 1)))
        return None

    def _cursor(self, skip: int) -> str:
        return str(Cursor((self.offset, self.line, skip), self.fingerprint))


def search_file(
    stored: StoredFile,
    find_matches: FindMatches,
    *,
    request: object,
    limit: int,
    cursor: str | None,
    timeout_seconds: float,
) -> FileMatches:
    """Return one page of matching lines. `request` identifies the search that a cursor belongs to.

    Raises `ConfigurationError` for a cursor of another search.
    """
    content = FileContent(stored)
    fingerprint = request_fingerprint((stored.content_id, request))
    offset, line, skip_matches = content.start, 1, 0
    if cursor is not None:
        offset, line, skip_matches = parse_cursor(cursor, 3, of="this search", fingerprint=fingerprint).numbers
    deadline, block_seconds = time.monotonic() + timeout_seconds, min(timeout_seconds, BLOCK_SECONDS)
    scan = _PageScan(content, find_matches, limit, deadline, block_seconds, fingerprint, offset, line, skip_matches)
    next_cursor, timed_out = scan.run()
    return FileMatches(stored.content_id, tuple(scan.matches), min(scan.offset, content.size), next_cursor, timed_out)


def _line_excerpt(block: str, match_start: int, match_end: int) -> str:
    start = max(block.rfind("\n", 0, match_start) + 1, match_start - MAX_SHOWN_CHARS // 3)
    end = block.find("\n", match_end)
    end = min(end if end >= 0 else len(block), start + MAX_SHOWN_CHARS)
    return block[start:end].rstrip("\r")
