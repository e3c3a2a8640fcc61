"""Explorer of Markdown: headings, code blocks, links, and the beginning."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from mnesis.files.explorers.detect import Kind
from mnesis.files.explorers.report import Report, clean_line, format_size, plural
from mnesis.files.explorers.source import Source

MAX_BYTES = 4 << 20

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})\s*([\w+#.-]{0,30})")
_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(\S.*)")
_LINK = re.compile(r"\]\([^()\s]{1,1000}[^()\n]{0,200}\)")
_UNDERLINE = re.compile(r"(?P<one>=+)[ \t]*|-+[ \t]*")
_TABLE_RULE = re.compile(r"\|?[ \t]*:?-{3,}:?[ \t]*\|[-:| \t]*")


def explore(source: Source, report: Report, kind: Kind) -> Kind:
    """Describe the file in the report, and return its type."""
    text = source.read_text(MAX_BYTES)
    headings: list[tuple[int, str]] = []
    fences: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    beginning: list[str] = []
    for line in _outside_fences(text, fences, counts):
        _read_line(line, headings, counts, beginning)
    part = f"; what follows describes the first {format_size(MAX_BYTES)}" if source.size_bytes > MAX_BYTES else ""
    report.add_line(f"{kind.label}, {format_size(source.size_bytes)}, {plural(counts['lines'], 'line')}{part}")
    facts = [plural(len(headings), "heading"), plural(counts["links"], "link"), plural(counts["tables"], "table")]
    report.add_line(f"{', '.join(facts)}, {plural(fences.total(), 'code block')}{_languages(fences)}")
    report.add_section(
        "Headings:",
        [f"{'  ' * (level - 1)}{'#' * level} {clean_line(title, 120)}" for level, title in headings[:80]],
        80,
        len(headings),
    )
    report.add_section("It begins:", beginning, 6)
    return kind


def _outside_fences(text: str, fences: Counter[str], counts: Counter[str]) -> Iterator[str]:
    """Yield the lines outside code blocks, and count the blocks by language."""
    fence = ""
    for line in text.split("\n"):
        counts["lines"] += 1
        marker = _FENCE.match(line[:200])
        if fence:
            if marker and marker[1].startswith(fence) and not marker[2]:
                fence = ""
        elif marker:
            fence = marker[1]
            fences[marker[2]] += 1
        else:
            yield line
    counts["lines"] -= text.endswith("\n") or not text


def _read_line(line: str, headings: list[tuple[int, str]], counts: Counter[str], beginning: list[str]) -> None:
    line = line.rstrip("\r")
    counts["links"] += len(_LINK.findall(line)) if "](" in line else 0
    if heading := _HEADING.match(line[:500]):
        headings.append((len(heading[1]), heading[2].rstrip("# \t")))
    elif (underline := _UNDERLINE.fullmatch(line[:200])) and counts["text_before"] and beginning:
        headings.append((1 if underline["one"] else 2, beginning[-1]))
    elif _TABLE_RULE.fullmatch(line[:500]):
        counts["tables"] += 1
    elif line.strip() and len(beginning) < 6:
        beginning.append(clean_line(line, 160))
        counts["text_before"] = 1
        return
    counts["text_before"] = 0


def _languages(fences: Counter[str]) -> str:
    named = [f"{clean_line(language, 30)} {count:,}" for language, count in fences.most_common(8) if language]
    return f" ({', '.join(named)})" if named else ""
