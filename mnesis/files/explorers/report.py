"""What an explorer writes: short lines of cleaned text, within a number of characters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

LINE_CHARS = 200
"""A longer line is cut; one hostile name cannot push out the rest."""

_LEFT_OUT = "(more was found than fits here)"


@dataclass(frozen=True, slots=True)
class Exploration:
    """What is known of a file without reading it all to a model.

    file_type: what it is by name and content, such as "python", "csv", "sqlite", "log", "text", "binary".
    text: the summary; never longer than asked for. It does not repeat the file's name.
    is_prose: a model's own summary would add something.
    """

    file_type: str
    text: str
    is_prose: bool


class Report:
    """Lines until `max_chars` are used up; what comes later is left out, and the text says so."""

    def __init__(self, max_chars: int) -> None:
        self._left = max_chars - len(_LEFT_OUT) - 1
        self._lines: list[str] = []
        self.full = False

    @property
    def room(self) -> int:
        """Characters that still fit."""
        return max(self._left, 0)

    def add(self, text: str, indent: int = 0) -> None:
        """One line. Whatever is in it, it stays one line."""
        if self.full:
            return
        line = "  " * indent + clean(text)
        self._left -= len(line) + 1
        if self._left < 0:
            self.full = True
            line = _LEFT_OUT
        self._lines.append(line)

    def section(self, title: str, items: Iterable[str], at_most: int, of: int | None = None) -> None:
        """A title and its items, one per line, indented; nothing when there are none. `of`: how many there are in all."""
        shown = list(items)
        total = len(shown) if of is None else of
        if not shown:
            return
        shown = shown[:at_most]
        self.add(title if total <= len(shown) else f"{title.removesuffix(':')} (first {len(shown):,} of {total:,}):")
        for item in shown:
            self.add(item, 1)

    def text(self, max_chars: int) -> str:
        return "\n".join(self._lines)[: max(max_chars, 0)]


def clean(text: str, limit: int = LINE_CHARS) -> str:
    """One printable line: runs of white space become a space, other control and invisible characters become "·"."""
    cut = text[: limit * 4]
    line = " ".join(cut.split())
    if not line.isprintable():
        line = "".join(char if char.isprintable() else "·" for char in line)
    return line if len(line) <= limit and len(cut) == len(text) else line[: limit - 1] + "…"


def size_text(count: int) -> str:
    """A number of bytes as people write it, exact below a kilobyte."""
    size = float(count)
    for unit in ("bytes", "KB", "MB", "GB"):
        if size < 1024 or unit == "GB":
            return f"{count:,} bytes" if unit == "bytes" else f"{size:.1f} {unit} ({count:,} bytes)"
        size /= 1024
    raise AssertionError(count)


def more(count: int, shown: int) -> str:
    """What follows the first items of a long list."""
    return f", … ({count:,} in all)" if count > shown else ""


def plural(count: int, noun: str, many: str | None = None) -> str:
    """`3 rows`, `1 row`."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"
