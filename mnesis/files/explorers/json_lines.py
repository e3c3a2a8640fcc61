"""JSON Lines: how many records, and the merged shape of records spread over the file."""

from __future__ import annotations

import json
from dataclasses import dataclass

from mnesis.files.explorers import json_shape
from mnesis.files.explorers.detect import Kind
from mnesis.files.explorers.json_document import add_shape
from mnesis.files.explorers.report import Report, plural, size_text
from mnesis.files.explorers.source import CHUNK_BYTES, Source

EXACT_BYTES = 4 << 20
"""Up to here every record is read."""
_PIECE_BYTES = 1 << 16
_MAX_CHECKED_CHARS = 1 << 18
"""Checking a line builds its values, some twenty times its size; of longer lines only the beginning is looked at."""


@dataclass(slots=True)
class _Reading:
    collector: json_shape.Collector
    records: int = 0
    broken: int = 0


def explore(source: Source, report: Report, kind: Kind) -> Kind:
    reading = _Reading(json_shape.Collector())
    exact = source.size <= EXACT_BYTES
    if exact:
        _feed(reading, source.text(EXACT_BYTES).split("\n"))
        count = plural(reading.records, "record")
    else:
        lines = _pass(source, reading)
        count = plural(lines, "line") + source.reached
    if not reading.collector.root.kinds:
        raise ValueError("no line is a JSON value")
    report.add(f"{kind.label}, {size_text(source.size)}, {count}")
    if not exact:
        report.add(
            f"Shape and ranges of {plural(reading.records, 'record')} spread over the file; the line count is of all"
        )
    if reading.broken:
        report.add(f"{plural(reading.broken, 'line')} of those read {'is' if reading.broken == 1 else 'are'} no JSON")
    add_shape(report, reading.collector, "Record")
    report.section("First record:", [line for line in source.text(4096).split("\n") if line.strip()][:1], 1)
    return kind


def _pass(source: Source, reading: _Reading) -> int:
    """Counts all lines, and reads those of some pieces: half a megabyte, and more of larger files."""
    pieces = 8 + source.size // (512 * _PIECE_BYTES)
    stride = max(source.size // CHUNK_BYTES // pieces, 1)
    lines, last = 0, b"\n"
    for number, chunk in enumerate(source.text_chunks()):
        lines += chunk.count(b"\n")
        last = chunk[-1:] or last
        if number % stride == 0:
            piece = source.decode(chunk[:_PIECE_BYTES]).split("\n")
            # Only the first piece begins with a line; the last line of each is cut, and read where it is all there is.
            _feed(reading, piece[1:-1] if number else piece[:-1] or piece, is_cut=len(piece) == 1)
    return lines + (last != b"\n")


def _feed(reading: _Reading, lines: list[str], *, is_cut: bool = False) -> None:
    for line in filter(str.strip, lines):
        if is_cut or _is_json(line):
            reading.collector.feed(line, is_cut=is_cut)
            reading.records += 1
        else:
            reading.broken += 1


def _is_json(line: str) -> bool:
    if len(line) > _MAX_CHECKED_CHARS:
        return line.lstrip().startswith(("{", "["))
    try:
        json.loads(line)
    except ValueError:
        return False
    except RecursionError:  # deep, and as far as it was read well formed; the collector needs no recursion
        return True
    return True
