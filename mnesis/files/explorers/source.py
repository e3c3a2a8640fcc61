"""The file an explorer reads: in pieces, within a time, decoded as far as it can be."""

from __future__ import annotations

import codecs
import time
from collections.abc import Iterator
from pathlib import Path

from mnesis.files.explorers.report import size_text

CHUNK_BYTES = 1 << 20
HEAD_BYTES = 1 << 16

_MARKS = (  # UTF-32 before UTF-16: its mark begins with the other's
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_CONTROLS = bytes(set(range(32)) - {7, 8, 9, 10, 11, 12, 13, 27})


class Source:
    """A regular file and the moment until which it may be read.

    encoding: a codec's name, or None for content that is no text. mark: the bytes of a byte order mark. sha256: in hex, if
    it is known.
    """

    def __init__(self, path: Path, deadline_seconds: float, sha256: str = "") -> None:
        self.path = path
        self.sha256 = sha256
        self.size = path.stat().st_size
        self._scanned = 0
        self._until = time.monotonic() + deadline_seconds
        self.head = self.read(0, HEAD_BYTES)
        self.mark, self.encoding = encoding_of(self.head, whole=self.size <= HEAD_BYTES)

    @property
    def expired(self) -> bool:
        return time.monotonic() > self._until

    @property
    def seconds_left(self) -> float:
        return max(self._until - time.monotonic(), 0.0)

    @property
    def encoding_note(self) -> str:
        if self.encoding == "latin-1":
            return "not valid UTF-8, read as Latin-1"
        return f"{(self.encoding or '').upper()}{' with a byte order mark' if self.mark else ''}"

    def read(self, offset: int, length: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def chunks(self) -> Iterator[bytes]:
        """The whole file as far as the time allows, a megabyte at a time. `reached` tells how far the newest pass came."""
        self._scanned = 0
        with self.path.open("rb", buffering=0) as file:
            while not self.expired and (chunk := file.read(CHUNK_BYTES)):
                self._scanned += len(chunk)
                yield chunk

    @property
    def reached(self) -> str:
        """To be said after a figure; empty when it is of the whole file."""
        return "" if self._scanned >= self.size else f" counted in the first {size_text(self._scanned)}"

    def text_chunks(self) -> Iterator[bytes]:
        """The same as bytes in which ASCII characters are single bytes: wide encodings become UTF-8; no mark."""
        decoder = codecs.getincrementaldecoder(self.codec)("replace") if self.is_wide else None
        skip = len(self.mark)
        for chunk in self.chunks():
            piece, skip = chunk[skip:], 0
            yield decoder.decode(piece).encode("utf-8", "replace") if decoder else piece

    @property
    def codec(self) -> str:
        return self.encoding or "latin-1"

    @property
    def is_wide(self) -> bool:
        return self.codec.startswith(("utf-16", "utf-32"))

    def decode(self, chunk: bytes) -> str:
        """Text of a piece of `text_chunks`; what cannot be decoded becomes U+FFFD."""
        return chunk.decode("utf-8" if self.is_wide else self.codec, "replace")

    def text(self, max_bytes: int) -> str:
        """The beginning of the file as text, line ends as they are."""
        return self.read(len(self.mark), max_bytes).decode(self.codec, "replace")

    def tail_text(self, max_bytes: int) -> str:
        """The end of the file as text."""
        start = max(self.size - max_bytes, len(self.mark))
        start -= (start - len(self.mark)) % 4 if self.is_wide else 0
        return self.read(start, max_bytes + 4).decode(self.codec, "replace")


def encoding_of(head: bytes, *, whole: bool) -> tuple[bytes, str | None]:
    """(byte order mark, codec) of content that begins like this; the codec is None when it is no text."""
    for mark, codec in _MARKS:
        if head.startswith(mark):
            return mark, codec
    controls = len(head) - len(head.translate(None, _CONTROLS))
    if controls * 200 > len(head):
        return b"", None
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, final=whole)
    except UnicodeDecodeError:
        return b"", "latin-1"
    return b"", "utf-8"
