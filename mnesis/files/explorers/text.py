"""Plain text and logs: how much, how it begins and ends, which lines recur. Line counts are exact, shapes are sampled."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from mnesis.files.explorers.detect import KINDS, Kind
from mnesis.files.explorers.report import Report, clean, plural, size_text
from mnesis.files.explorers.source import CHUNK_BYTES, Source

SAMPLED_CHUNKS = 16
SAMPLED_BYTES_PER_CHUNK = 24 << 10
"""Spread evenly over the file: the shape of a line costs some thirty times what counting it does."""
EXACT_BYTES = 32 << 20
"""Up to here every level word is counted; each costs about what counting lines costs, so beyond it only two are."""

_LEVELS = (b"ERROR", b"WARN", b"FATAL", b"CRITICAL", b"INFO", b"DEBUG", b"TRACE")
_ALWAYS_COUNTED = 2
_TIME = r"\d{4}[-/]\d\d[-/]\d\d(?:[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?)?"
_STAMP = re.compile(rf"{_TIME}|\d\d/[A-Z][a-z]{{2}}/\d{{4}}:\d\d:\d\d:\d\d|[A-Z][a-z]{{2}} [ \d]\d \d\d:\d\d:\d\d")
_LEVEL = re.compile(r"\b(?:FATAL|CRITICAL|ERROR|WARN(?:ING)?|INFO|DEBUG|TRACE)\b", re.IGNORECASE)
_DIGIT = re.compile(r"\d")
_MASKED = re.compile(
    rf"(?P<time>{_STAMP.pattern}|\d\d:\d\d:\d\d(?:[.,]\d+)?)"
    r"|(?P<uuid>\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b)"
    r"|(?P<ip>\b\d{1,3}(?:\.\d{1,3}){3}\b)"
    r"|(?P<hex>\b0x[0-9a-fA-F]+\b|\b(?=[a-fA-F]*\d)[0-9a-fA-F]{8,}\b)"
    r"|(?P<n>\d+(?:\.\d+)?)"
)


@dataclass(slots=True)
class Pass:
    """What one pass over the bytes counts. `last` is the last byte seen."""

    newlines: int = 0
    returns: int = 0
    last: bytes = b""
    levels: Counter[str] = field(default_factory=Counter)
    sample: list[str] = field(default_factory=list)

    @property
    def lines(self) -> int:
        # Files of old systems end their lines with a carriage return alone.
        ends = self.newlines or self.returns
        return ends + (1 if self.last not in (b"", b"\n", b"\r") else 0)


def explore(source: Source, report: Report, kind: Kind) -> Kind:
    counted = _count(source)
    is_log = _looks_like_log(counted.sample)
    found = KINDS["log" if is_log else "text"]
    report.add(
        f"{'Log' if is_log else 'Plain text'}, {size_text(source.size)}, {plural(counted.lines, 'line')}{source.reached}"
    )
    report.add(f"Encoding: {source.encoding_note}")
    if is_log:
        _log_facts(source, report, counted)
    report.section("First lines:", islice(_shown(source.text(4096)), 8 if is_log else 15), 15)
    if source.size > 8192:
        report.section("Last lines:", list(_shown(source.tail_text(4096)))[1:][-5:], 5)
    _shapes(report, counted)
    return found


def _count(source: Source) -> Pass:
    counted = Pass()
    every = max(source.size // CHUNK_BYTES // SAMPLED_CHUNKS, 1)
    levels = _LEVELS if source.size <= EXACT_BYTES else _LEVELS[:_ALWAYS_COUNTED]
    end = b""
    for number, chunk in enumerate(source.text_chunks()):
        counted.newlines += chunk.count(b"\n")
        if not counted.newlines:
            counted.returns += chunk.count(b"\r")
        counted.last = chunk[-1:] or counted.last
        for level in levels:
            # A word may begin in one piece and end in the next.
            across = (end[1 - len(level) :] + chunk[: len(level) - 1]).count(level)
            counted.levels[level.decode()] += chunk.count(level) + across
        end = chunk[-16:]
        if number % every == 0:
            counted.sample += _sampled(source.decode(chunk[: _piece_bytes(source.size)]), number > 0)
    return counted


def _piece_bytes(size: int) -> int:
    """Of each sampled chunk; all of a small file."""
    chunks = min(max(size // CHUNK_BYTES, 1), SAMPLED_CHUNKS)
    return CHUNK_BYTES if size <= CHUNK_BYTES else SAMPLED_CHUNKS * SAMPLED_BYTES_PER_CHUNK // chunks


def _sampled(text: str, starts_inside: bool) -> list[str]:
    lines = [line[:500] for line in text.splitlines()]
    return [line for line in lines[1 if starts_inside else 0 :] if line.strip()]


def _looks_like_log(sample: list[str]) -> bool:
    telling = sum(1 for line in sample[:500] if _STAMP.search(line[:80]) or _LEVEL.search(line[:80]))
    return len(sample) >= 3 and telling * 2 >= min(len(sample), 500)


def _log_facts(source: Source, report: Report, counted: Pass) -> None:
    first, last = _stamps(source.text(1 << 14)), _stamps(source.tail_text(1 << 14))
    if first and last:
        report.add(f"Time span: {first[0]} to {last[-1]}")
    levels = [f"{level} {count:,}" for level, count in counted.levels.items() if count]
    if levels:
        rest = "" if source.size <= EXACT_BYTES else "; others are not counted in a file of this size"
        report.add(f"Level words: {', '.join(levels)}{rest}")


def _stamps(text: str) -> list[str]:
    return [found.group() for found in _STAMP.finditer(text)]


def _shown(text: str) -> Iterator[str]:
    return (clean(line, 160) for line in text.splitlines() if line.strip())


def _shapes(report: Report, counted: Pass) -> None:
    shapes = Counter(mask(line) for line in counted.sample)
    recurring = [
        (shape, count) for shape, count in shapes.most_common(8) if count > 1 and count * 200 >= len(counted.sample)
    ]
    sampled = f"Recurring shapes of {plural(len(counted.sample), 'line')} read:"
    report.section(sampled, [f"{count:,}× {clean(shape, 140)}" for shape, count in recurring], 8)


def mask(line: str) -> str:
    """The line with times, ids, addresses and numbers named instead of said."""
    # Nothing is masked in a line without digits; looking for that first is what makes prose cheap.
    return line if not _DIGIT.search(line) else _MASKED.sub(lambda found: f"<{found.lastgroup}>", line)
