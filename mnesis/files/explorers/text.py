"""Explorer of plain text and logs: exact line counts, first and last lines, recurring shapes of sampled lines."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from mnesis.files.explorers.detect import KINDS, Kind
from mnesis.files.explorers.report import Report, clean_line, format_size, plural
from mnesis.files.explorers.source import CHUNK_BYTES, Source

SAMPLED_CHUNKS = 16
SAMPLED_BYTES_PER_CHUNK = 24 << 10
"""Lines sampled evenly across the file, because finding the shape of a line takes about thirty times as long as
counting it."""
EXACT_BYTES = 32 << 20
"""In larger files only two level words are counted, because each costs about as much as counting lines."""

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
class LineStats:
    """Counts of one pass over the bytes, with sampled lines."""

    newlines: int = 0
    carriage_returns: int = 0
    last_byte: bytes = b""
    levels: Counter[str] = field(default_factory=Counter)
    sample: list[str] = field(default_factory=list)

    @property
    def lines(self) -> int:
        """The number of lines."""
        # Lines of files from old systems end with a carriage return only.
        ends = self.newlines or self.carriage_returns
        return ends + (1 if self.last_byte not in (b"", b"\n", b"\r") else 0)


def explore(source: Source, report: Report, kind: Kind) -> Kind:
    """Describe the file in the report, and return its type."""
    stats = _scan_lines(source)
    is_log = _looks_like_log(stats.sample)
    refined_kind = KINDS["log" if is_log else "text"]
    report.add_line(
        f"{'Log' if is_log else 'Plain text'}, {format_size(source.size_bytes)}, {plural(stats.lines, 'line')}{source.progress_note}"
    )
    report.add_line(f"Encoding: {source.encoding_note}")
    if is_log:
        _write_log_facts(source, report, stats)
    report.add_section("First lines:", islice(_clean_lines(source.read_text(4096)), 8 if is_log else 15), 15)
    if source.size_bytes > 8192:
        report.add_section("Last lines:", list(_clean_lines(source.read_tail(4096)))[1:][-5:], 5)
    _write_shapes(report, stats)
    return refined_kind


def _scan_lines(source: Source) -> LineStats:
    stats = LineStats()
    stride = max(source.size_bytes // CHUNK_BYTES // SAMPLED_CHUNKS, 1)
    levels = _LEVELS if source.size_bytes <= EXACT_BYTES else _LEVELS[:_ALWAYS_COUNTED]
    end = b""
    for number, chunk in enumerate(source.text_chunks()):
        stats.newlines += chunk.count(b"\n")
        if not stats.newlines:
            stats.carriage_returns += chunk.count(b"\r")
        stats.last_byte = chunk[-1:] or stats.last_byte
        for level in levels:
            # A word may span two chunks.
            across = (end[1 - len(level) :] + chunk[: len(level) - 1]).count(level)
            stats.levels[level.decode()] += chunk.count(level) + across
        end = chunk[-16:]
        if number % stride == 0:
            stats.sample += _sample_lines(source.decode(chunk[: _piece_bytes(source.size_bytes)]), number > 0)
    return stats


def _piece_bytes(size: int) -> int:
    """Return the number of bytes to read of each sampled chunk; all of a small file."""
    chunks = min(max(size // CHUNK_BYTES, 1), SAMPLED_CHUNKS)
    return CHUNK_BYTES if size <= CHUNK_BYTES else SAMPLED_CHUNKS * SAMPLED_BYTES_PER_CHUNK // chunks


def _sample_lines(text: str, starts_inside: bool) -> list[str]:
    lines = [line[:500] for line in text.splitlines()]
    return [line for line in lines[1 if starts_inside else 0 :] if line.strip()]


def _looks_like_log(sample: list[str]) -> bool:
    marked_lines = sum(1 for line in sample[:500] if _STAMP.search(line[:80]) or _LEVEL.search(line[:80]))
    return len(sample) >= 3 and marked_lines * 2 >= min(len(sample), 500)


def _write_log_facts(source: Source, report: Report, stats: LineStats) -> None:
    first, last = _timestamps(source.read_text(1 << 14)), _timestamps(source.read_tail(1 << 14))
    if first and last:
        report.add_line(f"Time span: {first[0]} to {last[-1]}")
    levels = [f"{level} {count:,}" for level, count in stats.levels.items() if count]
    if levels:
        rest = "" if source.size_bytes <= EXACT_BYTES else "; others are not counted in a file of this size"
        report.add_line(f"Level words: {', '.join(levels)}{rest}")


def _timestamps(text: str) -> list[str]:
    return [stamp.group() for stamp in _STAMP.finditer(text)]


def _clean_lines(text: str) -> Iterator[str]:
    return (clean_line(line, 160) for line in text.splitlines() if line.strip())


def _write_shapes(report: Report, stats: LineStats) -> None:
    shapes = Counter(mask(line) for line in stats.sample)
    recurring = [
        (shape, count) for shape, count in shapes.most_common(8) if count > 1 and count * 200 >= len(stats.sample)
    ]
    sampled = f"Recurring shapes of {plural(len(stats.sample), 'line')} read:"
    report.add_section(sampled, [f"{count:,}× {clean_line(shape, 140)}" for shape, count in recurring], 8)


def mask(line: str) -> str:
    """Replace times, ids, addresses and numbers in a line with the names of their kinds."""
    # A line without digits has nothing to mask; checking that first is fast for prose.
    return line if not _DIGIT.search(line) else _MASKED.sub(lambda found: f"<{found.lastgroup}>", line)
