"""Redaction of content that is read in chunks, in bounded memory."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator

from mnesis.redaction import Redaction

MAX_SECRET_BYTES = 1 << 17
"""Longer secrets may be cut between two windows. Private keys, the longest in the catalogue, have at most half of this
length."""
WINDOW_BYTES = 1 << 20
MAX_CUTS = 8


def redact_chunks(chunks: Iterable[bytes], redaction: Redaction) -> Iterator[bytes]:
    """Yield content with its secrets replaced. Bytes that are not part of a secret never change.

    UTF-8 and UTF-16 (with a byte order mark) are decoded; other bytes pass unchanged.
    """
    pending, text_codec = b"", _Codec("utf-8")
    is_first = True
    for chunk in chunks:
        pending += chunk
        if is_first and len(pending) >= 2:
            is_first = False
            text_codec = _Codec.for_content(pending)
        if len(pending) >= WINDOW_BYTES + MAX_SECRET_BYTES:
            redacted, pending = _redact_beginning(pending, text_codec, redaction)
            yield redacted
    if pending:
        yield text_codec.redact(pending, redaction)


def _redact_beginning(pending: bytes, text_codec: _Codec, redaction: Redaction) -> tuple[bytes, bytes]:
    """Return the redacted beginning of a window, and the rest. No secret is cut: both parts together equal the whole."""
    whole = text_codec.redact(pending, redaction)
    cut = len(pending) - MAX_SECRET_BYTES
    for _ in range(MAX_CUTS):
        cut = text_codec.line_start(pending, cut)
        if cut <= 0:
            break
        redacted = text_codec.redact(pending[:cut], redaction)
        if redacted + text_codec.redact(pending[cut:], redaction) == whole:
            return redacted, pending[cut:]
        cut -= text_codec.unit_bytes
    return whole, b""


class _Codec:
    """How bytes become text and come back exactly."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.unit_bytes = 2 if name.startswith("utf-16") else 1
        self._newline = "\n".encode(name)

    @classmethod
    def for_content(cls, head: bytes) -> _Codec:
        if head.startswith(codecs.BOM_UTF16_LE):
            return cls("utf-16-le")
        return cls("utf-16-be" if head.startswith(codecs.BOM_UTF16_BE) else "utf-8")

    def redact(self, content: bytes, redaction: Redaction) -> bytes:
        errors = "surrogatepass" if self.unit_bytes == 2 else "surrogateescape"
        try:
            text = content.decode(self.name, errors)
            redacted = redaction.text(text)
            return content if redacted == text else redacted.encode(self.name, errors)
        except UnicodeDecodeError:  # not UTF-16, although it has the mark
            return _Codec("utf-8").redact(content, redaction)

    def line_start(self, content: bytes, end: int) -> int:
        """Return the offset after the last newline before `end`, or 0."""
        position = content.rfind(self._newline, 0, end)
        while position > 0 and position % self.unit_bytes:
            position = content.rfind(self._newline, 0, position)
        return position + self.unit_bytes if position >= 0 else 0
