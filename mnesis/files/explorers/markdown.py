"""Markdown: its headings, code blocks, links, and how it begins."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from mnesis.files.explorers.detect import Kind
from mnesis.files.explorers.report import Report, clean, plural, size_text
from mnesis.files.explorers.source import Source

MAX_BYTES = 4 << 20

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})\s*([\w+#.-]{0,30})")
_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(\S.*)")
_LINK = re.compile(r"\]\([^()\s]{1,1000}[^()\n]{0,200}\)")
_UNDERLINE = re.compile(r"(?P<one>=+)[ \t]*|-+[ \t]*")
_TABLE_RULE = re.compile(r"\|?[ \t]*:?-{3,}:?[ \t]*\|[-:| \t]*")


def explore(source: Source, report: Report, kind: Kind) -> Kind:
    text = source.text(MAX_BYTES)
    headings: list[tuple[int, str]] = []
    fences: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    beginning: list[str] = []
    for line in _outside_fences(text, fences, counts):
        _take(line, headings, counts, beginning)
    part = f"; what follows describes the first {size_text(MAX_BYTES)}" if source.size > MAX_BYTES else ""
    report.add(f"{kind.label}, {size_text(source.size)}, {plural(counts['lines'], 'line')}{part}")
    facts = [plural(len(headings), "heading"), plural(counts["links"], "link"), plural(counts["tables"], "table")]
    report.add(f"{', '.join(facts)}, {plural(fences.total(), 'code block')}{_languages(fences)}")
    report.section(
        "Headings:",
        [f"{'  ' * (level - 1)}{'#' * level} {clean(title, 120)}" for level, title in headings[:80]],
        80,
        len(headings),
    )
    report.section("It begins:", beginning, 6)
    return kind


def _outside_fences(text: str, fences: Counter[str], counts: Counter[str]) -> Iterator[str]:
    """Lines that are no code; counts the blocks by their language on the way."""
    fence = ""
    for line in text.split("\n"):
        counts["lines"] += 1
        found = _FENCE.match(line[:200])
        if fence:
            if found and found[1].startswith(fence) and not found[2]:
                fence = ""
        elif found:
            fence = found[1]
            fences[found[2]] += 1
        else:
            yield line
    counts["lines"] -= text.endswith("\n") or not text


def _take(line: str, headings: list[tuple[int, str]], counts: Counter[str], beginning: list[str]) -> None:
    line = line.rstrip("\r")
    counts["links"] += len(_LINK.findall(line)) if "](" in line else 0
    if found := _HEADING.match(line[:500]):
        headings.append((len(found[1]), found[2].rstrip("# \t")))
    elif (underline := _UNDERLINE.fullmatch(line[:200])) and counts["text_before"] and beginning:
        headings.append((1 if underline["one"] else 2, beginning[-1]))
    elif _TABLE_RULE.fullmatch(line[:500]):
        counts["tables"] += 1
    elif line.strip() and len(beginning) < 6:
        beginning.append(clean(line, 160))
        counts["text_before"] = 1
        return
    counts["text_before"] = 0


def _languages(fences: Counter[str]) -> str:
    named = [f"{clean(language, 30)} {count:,}" for language, count in fences.most_common(8) if language]
    return f" ({', '.join(named)})" if named else ""
