"""Explorer of JSON documents: the merged shape of their values, read as tokens, up to a limit."""

from __future__ import annotations

from mnesis.files.explorers import json_shape
from mnesis.files.explorers.detect import Kind
from mnesis.files.explorers.json_members import describe_members
from mnesis.files.explorers.report import Report, format_size, plural
from mnesis.files.explorers.source import Source

MAX_BYTES = 4 << 20
"""Reading this many bytes as tokens takes about one second, two in the worst case."""


def explore(source: Source, report: Report, kind: Kind) -> Kind:
    """Describe the file in the report, and return its type."""
    collector = json_shape.ShapeCollector()
    is_cut = source.size_bytes > MAX_BYTES
    collector.feed(source.read_text(MAX_BYTES), is_cut=is_cut)
    if not collector.root.kinds:
        raise ValueError("there is no JSON value in it")
    if not collector.max_depth and collector.unknown_words:
        raise ValueError("its words are not JSON's")
    part = f"; what follows describes the first {format_size(MAX_BYTES)}" if is_cut else ""
    report.add_line(
        f"{kind.label}, {format_size(source.size_bytes)}, nested {plural(collector.max_depth, 'level')} deep{part}"
    )
    if is_cut and (whole := describe_members(source)):
        report.add_line(f"The whole: {whole}")
    if collector.is_open and not is_cut:
        report.add_line("It ends inside a value: cut off, or not JSON")
    if collector.unknown_words and not is_cut:
        report.add_line(f"{plural(collector.unknown_words, 'word')} that JSON does not know")
    add_shape(report, collector, "Value")
    return kind


def add_shape(report: Report, collector: json_shape.ShapeCollector, name: str) -> None:
    """Write the collected shape to the report, as far as it fits."""
    if collector.max_depth > json_shape.MAX_DEPTH:
        report.add_line(f"Shape of the first {json_shape.MAX_DEPTH} levels:")
    for indent, line in json_shape.describe(collector.root, name, collector.root.kinds.total()):
        report.add_line(line, indent)
        if report.is_full:
            return
