"""Explorer of JSON Lines: the number of records, and the merged shape of records sampled across the file."""

from __future__ import annotations

import json
from dataclasses import dataclass

from mnesis.files.explorers import json_shape
from mnesis.files.explorers.detect import Kind
from mnesis.files.explorers.json_document import add_shape
from mnesis.files.explorers.report import Report, format_size, plural
from mnesis.files.explorers.source import CHUNK_BYTES, Source

EXACT_BYTES = 4 << 20
"""Up to this size every record is read."""
_PIECE_BYTES = 1 << 16
_MAX_CHECKED_CHARS = 1 << 18
"""Validating a line builds its values, which take about twenty times its size, so only the beginning of longer lines is
checked."""


@dataclass(slots=True)
class _RecordReader:
    collector: json_shape.ShapeCollector
    records: int = 0
    invalid_lines: int = 0


def explore(source: Source, report: Report, kind: Kind) -> Kind:
    """Describe the file in the report, and return its type."""
    reading = _RecordReader(json_shape.ShapeCollector())
    exact = source.size_bytes <= EXACT_BYTES
    if exact:
        _feed_lines(reading, source.read_text(EXACT_BYTES).split("\n"))
        count = plural(reading.records, "record")
    else:
        lines = _read_sampled(source, reading)
        count = plural(lines, "line") + source.progress_note
    if not reading.collector.root.kinds:
        raise ValueError("no line is a JSON value")
    report.add_line(f"{kind.label}, {format_size(source.size_bytes)}, {count}")
    if not exact:
        report.add_line(
            f"Shape and ranges of {plural(reading.records, 'record')} spread over the file; the line count is of all"
        )
    if reading.invalid_lines:
        report.add_line(
            f"{plural(reading.invalid_lines, 'line')} of those read {'is' if reading.invalid_lines == 1 else 'are'} no JSON"
        )
    add_shape(report, reading.collector, "Record")
    report.add_section("First record:", [line for line in source.read_text(4096).split("\n") if line.strip()][:1], 1)
    return kind


def _read_sampled(source: Source, reading: _RecordReader) -> int:
    """Count all lines, and read those of some pieces: half a megabyte in all, more in larger files."""
    pieces = 8 + source.size_bytes // (512 * _PIECE_BYTES)
    stride = max(source.size_bytes // CHUNK_BYTES // pieces, 1)
    lines, last = 0, b"\n"
    for number, chunk in enumerate(source.text_chunks()):
        lines += chunk.count(b"\n")
        last = chunk[-1:] or last
        if number % stride == 0:
            piece = source.decode(chunk[:_PIECE_BYTES]).split("\n")
            # Only the first piece begins at the start of a line. The last line is cut; it is read if it is the only one.
            _feed_lines(reading, piece[1:-1] if number else piece[:-1] or piece, is_cut=len(piece) == 1)
    return lines + (last != b"\n")


def _feed_lines(reading: _RecordReader, lines: list[str], *, is_cut: bool = False) -> None:
    for line in filter(str.strip, lines):
        if is_cut or _is_json(line):
            reading.collector.feed(line, is_cut=is_cut)
            reading.records += 1
        else:
            reading.invalid_lines += 1


def _is_json(line: str) -> bool:
    if len(line) > _MAX_CHECKED_CHARS:
        return line.lstrip().startswith(("{", "["))
    try:
        json.loads(line)
    except ValueError:
        return False
    except RecursionError:  # nested deeply, and well-formed so far; the collector does not use recursion
        return True
    return True
