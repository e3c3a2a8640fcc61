"""The number of members of the outermost value of a JSON document.

It is counted from brackets and commas in one pass over the bytes, without building values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mnesis.files.explorers.report import plural
from mnesis.files.explorers.source import Source

MAX_SECONDS = 5.0
_MAX_OPEN = 1_000
_MAX_PASSES = 64
_NOT_STRUCTURAL = bytes(set(range(256)) - set(b"[]{},"))
_INNERMOST = re.compile(rb"\[[^][{}]*+\]|\{[^][{}]*+\}")


def describe_members(source: Source) -> str:
    """Describe the outermost value, such as `array of 3 items` or `object of 1 key`.

    Returns "" if it is neither, is empty or nested too deeply, or cannot be counted in time.
    """
    min_remaining_seconds = source.remaining_seconds - MAX_SECONDS
    outermost, marks, commas = b"", b"", 0
    for piece in _structural_bytes(source):
        marks += piece
        if not outermost:
            outermost, marks = marks[:1], marks[1:]
        marks = _remove_closed(marks)
        # Commas before the next opening bracket separate members of the outermost value; later ones are ignored.
        opened = min((at for at in (marks.find(b"["), marks.find(b"{")) if at >= 0), default=len(marks))
        commas += marks.count(b",", 0, opened)
        marks = marks.replace(b",", b"")
        if len(marks) > _MAX_OPEN or source.remaining_seconds < min_remaining_seconds:
            return ""
    if not commas or source.progress_note or outermost + marks not in (b"[]", b"{}"):
        return ""
    return f"array of {plural(commas + 1, 'item')}" if marks == b"]" else f"object of {plural(commas + 1, 'key')}"


def _structural_bytes(source: Source) -> Iterator[bytes]:
    """Yield the brackets and commas outside strings."""
    escape, inside_string = b"", False
    for chunk in source.text_chunks():
        bare = (escape + chunk).rstrip(b"\\")
        # An odd number of backslashes at the end of a piece escapes the first character of the next.
        escape = b"\\" * ((len(escape) + len(chunk) - len(bare)) % 2)
        parts = bare.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')
        yield b"".join(parts[int(inside_string) :: 2]).translate(None, _NOT_STRUCTURAL)
        inside_string ^= len(parts) % 2 == 0


def _remove_closed(marks: bytes) -> bytes:
    """Remove closed values, innermost first. Some remain if they are nested very deeply."""
    for _ in range(_MAX_PASSES):
        marks, closed = _INNERMOST.subn(b"", marks)
        if not closed:
            break
    return marks
