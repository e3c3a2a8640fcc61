"""How many members the outermost value of a JSON document has, told from its brackets and commas alone: in one pass over
the bytes, without building a value."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mnesis.files.explorers.report import plural
from mnesis.files.explorers.source import Source

MAX_SECONDS = 5.0
_MAX_OPEN = 1_000
_MAX_PASSES = 64
_NOT_MARKS = bytes(set(range(256)) - set(b"[]{},"))
_INNERMOST = re.compile(rb"\[[^][{}]*+\]|\{[^][{}]*+\}")


def members(source: Source) -> str:
    """`array of 3 items`, `object of 1 key`; empty where it is neither, empty, nested too deep, or not counted in time."""
    until = source.seconds_left - MAX_SECONDS
    outermost, marks, commas = b"", b"", 0
    for piece in _marks(source):
        marks += piece
        if not outermost:
            outermost, marks = marks[:1], marks[1:]
        marks = _without_closed(marks)
        # Commas before the next opening mark divide members of the outermost value; later ones are of no use.
        opened = min((at for at in (marks.find(b"["), marks.find(b"{")) if at >= 0), default=len(marks))
        commas += marks.count(b",", 0, opened)
        marks = marks.replace(b",", b"")
        if len(marks) > _MAX_OPEN or source.seconds_left < until:
            return ""
    if not commas or source.reached or outermost + marks not in (b"[]", b"{}"):
        return ""
    return f"array of {plural(commas + 1, 'item')}" if marks == b"]" else f"object of {plural(commas + 1, 'key')}"


def _marks(source: Source) -> Iterator[bytes]:
    """The brackets and commas outside strings."""
    escape, inside_string = b"", False
    for chunk in source.text_chunks():
        bare = (escape + chunk).rstrip(b"\\")
        # An odd backslash at the end of a piece escapes what the next begins with; a pair stands for itself.
        escape = b"\\" * ((len(escape) + len(chunk) - len(bare)) % 2)
        parts = bare.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')
        yield b"".join(parts[int(inside_string) :: 2]).translate(None, _NOT_MARKS)
        inside_string ^= len(parts) % 2 == 0


def _without_closed(marks: bytes) -> bytes:
    """Less the values that are closed, innermost first; of what is nested very deep some are left."""
    for _ in range(_MAX_PASSES):
        marks, closed = _INNERMOST.subn(b"", marks)
        if not closed:
            break
    return marks
