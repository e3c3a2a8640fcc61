"""Reading stored files in pages, from a line or a byte on, in bounded memory. Blocking; call it off the event loop."""

from __future__ import annotations

import codecs
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from mnesis.errors import ConfigurationError
from mnesis.files.explorers.source import CHUNK_BYTES, Source
from mnesis.files.storage import StoredFile
from mnesis.validation import check_integer

MAX_CHARS = 20_000
MAX_LINES = 2_000
SEEK_SECONDS = 10.0
HEX_BYTES_PER_LINE = 16
HEX_CHARS_PER_LINE = 80
NEWLINE = 10


@dataclass(frozen=True, slots=True)
class FilePage:
    """A stretch of a stored file as text; of binary content as a dump of its bytes in hex.

    `offset` is the byte it begins at, `end` the byte after it, `first_line` the number of its first line (from 1; 0 where
    it is not known). `next_cursor` goes on after it; None at the end of the file.
    """

    content_id: str
    size_bytes: int
    offset: int
    end: int
    first_line: int
    text: str
    is_binary: bool
    next_cursor: str | None


class Content:
    """A stored file, decoded so that every stretch of text says exactly how many bytes it is."""

    def __init__(self, stored: StoredFile) -> None:
        self._source = Source(stored.path, SEEK_SECONDS)
        self.size = stored.size_bytes
        self.start = len(self._source.mark)
        self.is_binary = self._source.encoding is None
        self._codec = self._source.codec
        # Bytes that are no UTF-8 stand for themselves until the text is shown; in wide encodings each is as wide as U+FFFD.
        self._errors = "surrogateescape" if self._codec == "utf-8" else "replace"

    @cached_property
    def width(self) -> int:
        """Bytes of the smallest character."""
        return {"utf-16": 2, "utf-32": 4}.get(self._codec[:6], 1)

    def aligned(self, offset: int) -> int:
        """The byte at which the character unit of this byte begins; past the byte order mark."""
        offset = max(offset, self.start)
        return offset - (offset - self.start) % self.width

    def raw(self, offset: int, length: int) -> bytes:
        return self._source.read(offset, length)

    def text(self, offset: int, max_bytes: int) -> str:
        """What stands at `offset`, whole characters only."""
        chunk = self.raw(offset, max_bytes)
        decoder = codecs.getincrementaldecoder(self._codec)(self._errors)
        return decoder.decode(chunk, final=offset + len(chunk) >= self.size)

    def byte_length(self, text: str) -> int:
        """The bytes that a text of this file is."""
        return len(text.encode(self._codec, self._errors))

    def shown(self, text: str) -> str:
        """The text with U+FFFD for every byte that is no text."""
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace") if self._codec == "utf-8" else text

    def line_start(self, line: int) -> int:
        """The byte at which a line (from 1) begins. Raises `ConfigurationError` if there are fewer, or it is too far to
        count."""
        at, number, until = self.start, 1, time.monotonic() + SEEK_SECONDS
        while number < line:
            chunk = self.raw(at, CHUNK_BYTES)
            if not chunk:
                raise ConfigurationError(f"there is no line {line:,}: the file has {number:,}")
            if time.monotonic() > until:
                raise ConfigurationError(
                    f"line {line:,} is too far from the beginning to be counted; search for it, or give an offset in bytes"
                    f" (line {number:,} begins near byte {at:,} of {self.size:,})"
                )
            units = self._units(chunk)
            found = units.count(NEWLINE)
            if number + found < line:
                number, at = number + found, at + len(chunk)
            else:
                return at + (_nth(units, line - number) + 1) * self.width
        return at

    def _units(self, chunk: bytes) -> Sequence[int]:
        if self.width == 1:
            return chunk
        units = array("H" if self.width == 2 else "I", chunk[: len(chunk) // self.width * self.width])
        if self._codec.endswith("be"):
            units.byteswap()
        return units


def _nth(units: Sequence[int], wanted: int) -> int:
    """The index of the `wanted`-th end of a line (from 1)."""
    at = -1
    for _ in range(wanted):
        at = units.index(NEWLINE, at + 1)
    return at


def read_page(
    stored: StoredFile,
    *,
    line: int | None = None,
    offset: int | None = None,
    cursor: str | None = None,
    max_chars: int = MAX_CHARS,
    max_lines: int = MAX_LINES,
) -> FilePage:
    """The page that begins at a line, a byte or a cursor (the beginning by default): at most so many characters and lines.

    Raises `ConfigurationError` for a place that is not in the file.
    """
    content = Content(stored)
    at, first_line = _place(content, line, offset, cursor)
    if content.is_binary:
        length = max(max_chars // HEX_CHARS_PER_LINE, 1) * HEX_BYTES_PER_LINE
        chunk = content.raw(at, length)
        return _page(stored, at, at + len(chunk), 0, hex_lines(chunk, at), is_binary=True)
    text = _cut(content.text(at, max(max_chars, 1) * 4 + 4), max(max_chars, 1), max(max_lines, 1))
    end = min(at + content.byte_length(text), content.size)
    next_line = first_line and first_line + text.count("\n")
    return _page(stored, at, end, first_line, content.shown(text), next_line=next_line)


def _page(
    stored: StoredFile,
    at: int,
    end: int,
    first_line: int,
    text: str,
    *,
    is_binary: bool = False,
    next_line: int = 0,
) -> FilePage:
    more = f"{end}.{next_line}" if at < end < stored.size_bytes else None
    return FilePage(stored.content_id, stored.size_bytes, at, end, first_line, text, is_binary, more)


def _cut(text: str, max_chars: int, max_lines: int) -> str:
    """The beginning of a text, to the end of a line where one ends in it."""
    kept, end = text[:max_chars], -1
    if len(kept) < len(text):
        kept = kept[: kept.rfind("\n") + 1] or kept
    for _ in range(max_lines):
        end = kept.find("\n", end + 1)
        if end < 0:
            return kept
    return kept[: end + 1]


def _place(content: Content, line: int | None, offset: int | None, cursor: str | None) -> tuple[int, int]:
    if sum(given is not None for given in (line, offset, cursor)) > 1:
        raise ConfigurationError("give one of line, offset and cursor")
    if cursor is not None:
        at, number = _parsed(cursor)
        return _inside(content, at), number
    if offset is not None:
        check_integer("offset", offset, least=0)
        return content.aligned(_inside(content, offset)), 0
    line = 1 if line is None else line
    check_integer("line", line, least=1)
    if content.is_binary and line > 1:
        raise ConfigurationError("this file is binary and has no lines; give an offset in bytes")
    return content.line_start(line), line


def _parsed(cursor: str) -> tuple[int, int]:
    parts = cursor.split(".") if isinstance(cursor, str) else []
    if len(parts) != 2 or not all(p.isascii() and p.isdigit() and len(p) < 19 for p in parts):
        raise ConfigurationError(f"{str(cursor)[:80]!r} is no cursor of a page; pass next_cursor of the page before")
    return int(parts[0]), int(parts[1])


def _inside(content: Content, offset: int) -> int:
    if offset > content.size:
        raise ConfigurationError(f"byte {offset:,} is past the end: the file has {content.size:,} bytes")
    return offset


def hex_lines(chunk: bytes, offset: int) -> str:
    """Bytes as lines of sixteen: where they are, in hex, and as far as they are printable ASCII."""
    rows = [chunk[at : at + HEX_BYTES_PER_LINE] for at in range(0, len(chunk), HEX_BYTES_PER_LINE)]
    return "".join(
        f"{offset + number * HEX_BYTES_PER_LINE:010x}  {row.hex(' '):<47}  {_printable(row)}\n"
        for number, row in enumerate(rows)
    )


def _printable(row: bytes) -> str:
    return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
