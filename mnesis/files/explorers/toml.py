"""Explorer of TOML: tables and the types of their values; headings only if a file is large or broken."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping

from mnesis.files.explorers.detect import Kind
from mnesis.files.explorers.report import Report, clean_line, format_size, plural
from mnesis.files.explorers.source import Source

MAX_PARSED_BYTES = 256 << 10
"""The parser is written in Python and takes about two hundred times the size of its input."""
MAX_KEY_LINE_CHARS = 2_000
"""The parser's time is quadratic in the number of parts of a dotted key."""
MAX_PATTERN_BYTES = 4 << 20

_HEADING = re.compile(r"^[ \t]*(\[\[?[^\]\n]{1,200}\]\]?)", re.MULTILINE)
_KEY = re.compile(r"^[ \t]*[\w\"'.-]{1,200}[ \t]*=", re.MULTILINE)


def explore(source: Source, report: Report, kind: Kind) -> Kind:
    """Describe the file in the report, and return its type."""
    text = source.read_text(MAX_PATTERN_BYTES)
    report.add_line(f"{kind.label}, {format_size(source.size_bytes)}, {plural(text.count(chr(10)) + 1, 'line')}")
    reason = _reason_not_to_parse(source, text)
    if not reason:
        try:
            document = tomllib.loads(text.replace("\r\n", "\n"))
        except (ValueError, RecursionError) as failure:
            reason = clean_line(f"it does not parse: {failure}", 150)
        else:
            for indent, line in _describe_table(document, 0):
                report.add_line(line, indent)
            return kind
    report.add_line(f"Read by patterns ({reason}): {plural(len(_KEY.findall(text)), 'key')}")
    report.add_section("Tables:", _HEADING.findall(text), 100)
    return kind


def _reason_not_to_parse(source: Source, text: str) -> str:
    if source.size_bytes > MAX_PARSED_BYTES:
        return f"over {MAX_PARSED_BYTES:,} bytes"
    longest = max((len(line) for line in text.split("\n") if line.count(".") > 100), default=0)
    return "very long dotted lines" if longest > MAX_KEY_LINE_CHARS else ""


def _describe_table(table: Mapping[str, object], depth: int) -> Iterator[tuple[int, str]]:
    for key, value in table.items():
        yield depth, f"{clean_line(key, 60)}: {_describe_value(value)}"
        if isinstance(value, dict) and depth < 3:
            yield from _describe_table(value, depth + 1)


def _describe_value(value: object) -> str:
    if isinstance(value, dict):
        return f"table of {plural(len(value), 'key')}"
    if isinstance(value, list):
        kinds = " or ".join(sorted({type(item).__name__.replace("dict", "table") for item in value}))
        return f"array of {plural(len(value), 'item')}{f' ({kinds})' if kinds else ''}"
    if isinstance(value, str):
        return f'"{clean_line(value, 80)}"'
    return clean_line(str(value).lower() if isinstance(value, bool) else str(value), 80)
