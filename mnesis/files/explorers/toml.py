"""TOML: its tables and the types of their values; large or broken files by their headings."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping

from mnesis.files.explorers.detect import Kind
from mnesis.files.explorers.report import Report, clean, plural, size_text
from mnesis.files.explorers.source import Source

MAX_PARSED_BYTES = 256 << 10
"""The parser is written in Python and holds some two hundred times its input in memory."""
MAX_KEY_LINE_CHARS = 2_000
"""The parser's time grows with the square of the parts of a dotted key."""
MAX_PATTERN_BYTES = 4 << 20

_HEADING = re.compile(r"^[ \t]*(\[\[?[^\]\n]{1,200}\]\]?)", re.MULTILINE)
_KEY = re.compile(r"^[ \t]*[\w\"'.-]{1,200}[ \t]*=", re.MULTILINE)


def explore(source: Source, report: Report, kind: Kind) -> Kind:
    text = source.text(MAX_PATTERN_BYTES)
    report.add(f"{kind.label}, {size_text(source.size)}, {plural(text.count(chr(10)) + 1, 'line')}")
    why = _unparsable(source, text)
    if not why:
        try:
            document = tomllib.loads(text.replace("\r\n", "\n"))
        except (ValueError, RecursionError) as failure:
            why = clean(f"it does not parse: {failure}", 150)
        else:
            for indent, line in _described(document, 0):
                report.add(line, indent)
            return kind
    report.add(f"Read by patterns ({why}): {plural(len(_KEY.findall(text)), 'key')}")
    report.section("Tables:", _HEADING.findall(text), 100)
    return kind


def _unparsable(source: Source, text: str) -> str:
    if source.size > MAX_PARSED_BYTES:
        return f"over {MAX_PARSED_BYTES:,} bytes"
    longest = max((len(line) for line in text.split("\n") if line.count(".") > 100), default=0)
    return "very long dotted lines" if longest > MAX_KEY_LINE_CHARS else ""


def _described(table: Mapping[str, object], depth: int) -> Iterator[tuple[int, str]]:
    for key, value in table.items():
        yield depth, f"{clean(key, 60)}: {_value(value)}"
        if isinstance(value, dict) and depth < 3:
            yield from _described(value, depth + 1)


def _value(value: object) -> str:
    if isinstance(value, dict):
        return f"table of {plural(len(value), 'key')}"
    if isinstance(value, list):
        kinds = " or ".join(sorted({type(item).__name__.replace("dict", "table") for item in value}))
        return f"array of {plural(len(value), 'item')}{f' ({kinds})' if kinds else ''}"
    if isinstance(value, str):
        return f'"{clean(value, 80)}"'
    return clean(str(value).lower() if isinstance(value, bool) else str(value), 80)
