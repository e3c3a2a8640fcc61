"""Server-sent events, as streams of chat completions are sent. Pure functions, no I/O.

The format is that of html.spec.whatwg.org/multipage/server-sent-events.html: lines end with LF, CRLF or CR, an empty line
ends an event, its data lines are joined by LF, and lines that begin with a colon are comments.
"""

from __future__ import annotations

from collections.abc import Iterator


class EventParser:
    """Splits the bytes of a stream into the data of its events."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the data of each event that ends in this chunk."""
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            yield from self._read_line(line.rstrip(b"\r"))

    def finish(self) -> Iterator[bytes]:
        """Yield the data of the last event, if the stream ended without the empty line after it."""
        yield from self._read_line(self._rest.rstrip(b"\r"))
        yield from self._read_line(b"")

    def _read_line(self, line: bytes) -> Iterator[bytes]:
        if line.startswith(b"data:"):
            self._data.append(line[5:].strip())
        elif not line and self._data:
            data, self._data = b"\n".join(self._data), []
            yield data
