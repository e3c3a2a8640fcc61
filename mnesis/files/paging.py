"""Read stored files in pages, from a line or byte, in bounded memory. Blocking; call it off the event loop."""

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
from mnesis.models.cursor import Cursor, parse_cursor
from mnesis.models.page_sizes import MAX_PAGE_CHARS, MAX_PAGE_LINES
from mnesis.validation import check_integer

MAX_SEEK_SECONDS = 10.0
HEX_BYTES_PER_LINE = 16
HEX_CHARS_PER_LINE = 80
NEWLINE = 10


@dataclass(frozen=True, slots=True)
class FilePage:
    """A page of a stored file: text, or a hex dump if the content is binary.

    `offset` is its first byte, `end` the byte after it. `first_line` is the number of its first line (from 1; 0 if
    unknown). `next_cursor` continues after this page; None at the end of the file.
    """

    content_id: str
    size_bytes: int
    offset: int
    end: int
    first_line: int
    text: str
    is_binary: bool
    next_cursor: str | None


class FileContent:
    """A stored file, decoded so that the exact number of bytes of any part of its text is known."""

    def __init__(self, stored: StoredFile) -> None:
        self._source = Source(stored, MAX_SEEK_SECONDS)
        self.size = stored.size_bytes
        self.start = len(self._source.byte_order_mark)
        self.is_binary = self._source.encoding is None
        self._codec = self._source.codec
        # In UTF-8, invalid bytes are kept as surrogates until the text is shown. In wide encodings U+FFFD has the same width.
        self._errors = "surrogateescape" if self._codec == "utf-8" else "replace"

    @cached_property
    def unit_bytes(self) -> int:
        """The number of bytes of a code unit."""
        return {"utf-16": 2, "utf-32": 4}.get(self._codec[:6], 1)

    def align(self, offset: int) -> int:
        """Return the first byte of the code unit at an offset, at the earliest after the byte order mark."""
        offset = max(offset, self.start)
        return offset - (offset - self.start) % self.unit_bytes

    def read_bytes(self, offset: int, length: int) -> bytes:
        """Read bytes at an offset."""
        return self._source.read(offset, length)

    def read_text(self, offset: int, max_bytes: int) -> str:
        """Read text at an offset, whole characters only."""
        chunk = self.read_bytes(offset, max_bytes)
        decoder = codecs.getincrementaldecoder(self._codec)(self._errors)
        return decoder.decode(chunk, final=offset + len(chunk) >= self.size)

    def byte_length(self, text: str) -> int:
        """Return the number of bytes in the file that a text from it takes."""
        return len(text.encode(self._codec, self._errors))

    def replace_undecodable(self, text: str) -> str:
        """Replace undecodable bytes with U+FFFD."""
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace") if self._codec == "utf-8" else text

    def find_line_start(self, line: int) -> int:
        """Return the byte at which a line (from 1) begins.

        Raises `ConfigurationError` if the file has fewer lines, or if counting to the line takes too long.
        """
        offset, number, deadline = self.start, 1, time.monotonic() + MAX_SEEK_SECONDS
        while number < line:
            chunk = self.read_bytes(offset, CHUNK_BYTES)
            if not chunk:
                raise ConfigurationError(f"there is no line {line:,}: the file has {number:,} lines")
            if time.monotonic() > deadline:
                raise ConfigurationError(
                    f"line {line:,} is too far from the beginning to be counted; search for it, or pass an offset in bytes"
                    f" (line {number:,} begins near byte {offset:,} of {self.size:,})"
                )
            units = self._code_units(chunk)
            newline_count = units.count(NEWLINE)
            if number + newline_count < line:
                number, offset = number + newline_count, offset + len(chunk)
            else:
                return offset + (_nth_newline(units, line - number) + 1) * self.unit_bytes
        return offset

    def _code_units(self, chunk: bytes) -> Sequence[int]:
        if self.unit_bytes == 1:
            return chunk
        units = array("H" if self.unit_bytes == 2 else "I", chunk[: len(chunk) // self.unit_bytes * self.unit_bytes])
        if self._codec.endswith("be"):
            units.byteswap()
        return units


def _nth_newline(units: Sequence[int], number: int) -> int:
    """Return the index of a line end, given its number (from 1)."""
    index = -1
    for _ in range(number):
        index = units.index(NEWLINE, index + 1)
    return index


def read_page(
    stored: StoredFile,
    *,
    line: int | None = None,
    offset: int | None = None,
    cursor: str | None = None,
    max_chars: int = MAX_PAGE_CHARS,
    max_lines: int = MAX_PAGE_LINES,
) -> FilePage:
    """Read the page that begins at a line, a byte offset or a cursor; by default, at the beginning of the file.

    Raises `ConfigurationError` if that position is not in the file, or if more than one is given.
    """
    content = FileContent(stored)
    start, first_line = _resolve_start(content, line, offset, cursor)
    if content.is_binary:
        length = max(max_chars // HEX_CHARS_PER_LINE, 1) * HEX_BYTES_PER_LINE
        chunk = content.read_bytes(start, length)
        return _build_page(stored, start, start + len(chunk), 0, hex_dump(chunk, start), is_binary=True)
    text = _truncate(content.read_text(start, max(max_chars, 1) * 4 + 4), max(max_chars, 1), max(max_lines, 1))
    end = min(start + content.byte_length(text), content.size)
    next_line = first_line and first_line + text.count("\n")
    return _build_page(stored, start, end, first_line, content.replace_undecodable(text), next_line=next_line)


def _build_page(
    stored: StoredFile,
    offset: int,
    end: int,
    first_line: int,
    text: str,
    *,
    is_binary: bool = False,
    next_line: int = 0,
) -> FilePage:
    next_cursor = str(Cursor((end, next_line))) if offset < end < stored.size_bytes else None
    return FilePage(stored.content_id, stored.size_bytes, offset, end, first_line, text, is_binary, next_cursor)


def _truncate(text: str, max_chars: int, max_lines: int) -> str:
    """Truncate a text to the limits, at the end of a line if there is one."""
    kept, end = text[:max_chars], -1
    if len(kept) < len(text):
        kept = kept[: kept.rfind("\n") + 1] or kept
    for _ in range(max_lines):
        end = kept.find("\n", end + 1)
        if end < 0:
            return kept
    return kept[: end + 1]


def _resolve_start(content: FileContent, line: int | None, offset: int | None, cursor: str | None) -> tuple[int, int]:
    if sum(given is not None for given in (line, offset, cursor)) > 1:
        raise ConfigurationError("line, offset and cursor exclude each other; pass only one of them")
    if cursor is not None:
        start, number = parse_cursor(cursor, 2, of="a file page").numbers
        return _check_offset(content, start), number
    if offset is not None:
        check_integer("offset", offset, minimum=0)
        return content.align(_check_offset(content, offset)), 0
    line = 1 if line is None else line
    check_integer("line", line, minimum=1)
    if content.is_binary and line > 1:
        raise ConfigurationError("the file is binary and has no lines; pass an offset in bytes")
    return content.find_line_start(line), line


def _check_offset(content: FileContent, offset: int) -> int:
    if offset > content.size:
        raise ConfigurationError(f"byte {offset:,} is past the end of the file, which has {content.size:,} bytes")
    return offset


def hex_dump(chunk: bytes, offset: int) -> str:
    """Format bytes as lines of sixteen: the offset, the bytes in hex, and the printable ASCII characters."""
    rows = [chunk[start : start + HEX_BYTES_PER_LINE] for start in range(0, len(chunk), HEX_BYTES_PER_LINE)]
    return "".join(
        f"{offset + number * HEX_BYTES_PER_LINE:010x}  {row.hex(' '):<47}  {_printable(row)}\n"
        for number, row in enumerate(rows)
    )


def _printable(row: bytes) -> str:
    return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
