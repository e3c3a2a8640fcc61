"""Reports of explorers: short lines of cleaned text, within a limit of characters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

LINE_CHARS = 200
"""Longer lines are cut, so that one hostile name cannot displace the rest."""

_TRUNCATION_NOTE = "(more was found than fits here)"


@dataclass(frozen=True, slots=True)
class Exploration:
    """The summary of a file, for a model that has not read the file.

    `file_type` is the type by name and content, such as "python", "csv", "sqlite", "log", "text", "binary". `text` is
    the summary, within the limit; it does not contain the file's name. `is_prose` means that a model's summary would
    add information.
    """

    file_type: str
    text: str
    is_prose: bool


class Report:
    """A list of lines of at most `max_chars` in all. Later lines are left out, and a note says so."""

    def __init__(self, max_chars: int) -> None:
        self._available_chars = max_chars - len(_TRUNCATION_NOTE) - 1
        self._lines: list[str] = []
        self.is_full = False

    @property
    def available_chars(self) -> int:
        """The number of characters that still fit."""
        return max(self._available_chars, 0)

    def add_line(self, text: str, indent: int = 0) -> None:
        """Add one line. Line breaks in the text become spaces."""
        if self.is_full:
            return
        line = "  " * indent + clean_line(text)
        self._available_chars -= len(line) + 1
        if self._available_chars < 0:
            self.is_full = True
            line = _TRUNCATION_NOTE
        self._lines.append(line)

    def add_section(self, title: str, items: Iterable[str], max_items: int, total_items: int | None = None) -> None:
        """Add a title and indented items, one per line, or nothing if there are none. `total_items` None: all were passed."""
        shown = list(items)
        total = len(shown) if total_items is None else total_items
        if not shown:
            return
        shown = shown[:max_items]
        self.add_line(
            title if total <= len(shown) else f"{title.removesuffix(':')} (first {len(shown):,} of {total:,}):"
        )
        for item in shown:
            self.add_line(item, 1)

    def text(self, max_chars: int) -> str:
        """Return the report, with at most `max_chars`."""
        return "\n".join(self._lines)[: max(max_chars, 0)]


def clean_line(text: str, limit: int = LINE_CHARS) -> str:
    """Make text one printable line: white space is collapsed, and other invisible characters become "·"."""
    cut = text[: limit * 4]
    line = " ".join(cut.split())
    if not line.isprintable():
        line = "".join(char if char.isprintable() else "·" for char in line)
    return line if len(line) <= limit and len(cut) == len(text) else line[: limit - 1] + "…"


def format_size(count: int) -> str:
    """Format a number of bytes, with a unit from a kilobyte on."""
    size = float(count)
    for unit in ("bytes", "KB", "MB", "GB"):
        if size < 1024 or unit == "GB":
            return f"{count:,} bytes" if unit == "bytes" else f"{size:.1f} {unit} ({count:,} bytes)"
        size /= 1024
    raise AssertionError(count)


def total_note(count: int, shown: int) -> str:
    """Return the note after the first items of a long list, or "" if all are shown."""
    return f", … ({count:,} in all)" if count > shown else ""


def plural(count: int, noun: str, many: str | None = None) -> str:
    """Format a count with its noun, such as `3 rows` or `1 row`."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"
