"""The file that an explorer reads: in chunks, within a deadline, decoded as far as possible."""

from __future__ import annotations

import codecs
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol

from mnesis.files.explorers.report import format_size
from mnesis.system.open_files import open_file

CHUNK_BYTES = 1 << 20
HEAD_BYTES = 1 << 16

_BYTE_ORDER_MARKS = (  # UTF-32 before UTF-16: its mark begins with the other's
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_CONTROLS = bytes(set(range(32)) - {7, 8, 9, 10, 11, 12, 13, 27})


class Readable(Protocol):
    """Content that can be opened, at any position, any number of times."""

    @property
    def size_bytes(self) -> int: ...

    @property
    def plain_path(self) -> Path | None:
        """The path of a file with exactly this content, or None if there is none."""
        ...

    def open(self) -> AbstractContextManager[BinaryIO]:
        """Open the content for reading."""
        ...


class _PlainFile:
    """A regular file on disk."""

    def __init__(self, path: Path) -> None:
        self.plain_path = path
        self.size_bytes = path.stat().st_size

    def open(self) -> AbstractContextManager[BinaryIO]:
        return open_file(self.plain_path)


class Source:
    """Content and the deadline for reading it.

    `encoding` is the name of a codec, or None for content that is not text. `byte_order_mark` holds its bytes, if any.
    `sha256` is the hash in hex, or "" if it is not known.
    """

    def __init__(self, content: Path | Readable, deadline_seconds: float, sha256: str = "") -> None:
        readable = _PlainFile(content) if isinstance(content, Path) else content
        self.open = readable.open
        self.path = readable.plain_path
        self.sha256 = sha256
        self.size_bytes = readable.size_bytes
        self._scanned_bytes = 0
        self._deadline = time.monotonic() + deadline_seconds
        self.head = self.read(0, HEAD_BYTES)
        self.byte_order_mark, self.encoding = detect_encoding(self.head, is_complete=self.size_bytes <= HEAD_BYTES)

    @property
    def is_expired(self) -> bool:
        """Whether the deadline has passed."""
        return time.monotonic() > self._deadline

    @property
    def remaining_seconds(self) -> float:
        """The time until the deadline, at least 0."""
        return max(self._deadline - time.monotonic(), 0.0)

    @property
    def encoding_note(self) -> str:
        """The encoding, for the report."""
        if self.encoding == "latin-1":
            return "not valid UTF-8, read as Latin-1"
        return f"{(self.encoding or '').upper()}{' with a byte order mark' if self.byte_order_mark else ''}"

    def read(self, offset: int, length: int) -> bytes:
        """Read a part of the file."""
        with self.open() as file:
            file.seek(offset)
            return file.read(length)

    def chunks(self) -> Iterator[bytes]:
        """Yield the file in chunks of a megabyte until the deadline. `progress_note` says how far the latest pass got."""
        self._scanned_bytes = 0
        with self.open() as file:
            while not self.is_expired and (chunk := file.read(CHUNK_BYTES)):
                self._scanned_bytes += len(chunk)
                yield chunk

    @property
    def progress_note(self) -> str:
        """A note to add to a figure of the latest pass, or "" if it read the whole file."""
        return (
            ""
            if self._scanned_bytes >= self.size_bytes
            else f" counted in the first {format_size(self._scanned_bytes)}"
        )

    def text_chunks(self) -> Iterator[bytes]:
        """Yield chunks in which ASCII characters are single bytes: wide encodings become UTF-8, without a byte order mark."""
        decoder = codecs.getincrementaldecoder(self.codec)("replace") if self.is_wide else None
        skip = len(self.byte_order_mark)
        for chunk in self.chunks():
            piece, skip = chunk[skip:], 0
            yield decoder.decode(piece).encode("utf-8", "replace") if decoder else piece

    @property
    def codec(self) -> str:
        """The codec that decodes the file; Latin-1 decodes any bytes."""
        return self.encoding or "latin-1"

    @property
    def is_wide(self) -> bool:
        """Whether a character takes two or four bytes."""
        return self.codec.startswith(("utf-16", "utf-32"))

    def decode(self, chunk: bytes) -> str:
        """Decode a piece of `text_chunks`. Undecodable bytes become U+FFFD."""
        return chunk.decode("utf-8" if self.is_wide else self.codec, "replace")

    def read_text(self, max_bytes: int) -> str:
        """Read the beginning of the file as text, with line ends unchanged."""
        return self.read(len(self.byte_order_mark), max_bytes).decode(self.codec, "replace")

    def read_tail(self, max_bytes: int) -> str:
        """Read the end of the file as text."""
        start = max(self.size_bytes - max_bytes, len(self.byte_order_mark))
        start -= (start - len(self.byte_order_mark)) % 4 if self.is_wide else 0
        return self.read(start, max_bytes + 4).decode(self.codec, "replace")


def detect_encoding(head: bytes, *, is_complete: bool) -> tuple[bytes, str | None]:
    """Return the byte order mark and the codec of content that begins with `head`. The codec is None if it is not text."""
    for mark, codec in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return mark, codec
    controls = len(head) - len(head.translate(None, _CONTROLS))
    if controls * 200 > len(head):
        return b"", None
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, final=is_complete)
    except UnicodeDecodeError:
        return b"", "latin-1"
    return b"", "utf-8"
