"""A JSON document: the merged shape of its values, read as tokens. Large ones as far as the limit."""

from __future__ import annotations

from mnesis.files.explorers import json_shape
from mnesis.files.explorers.detect import Kind
from mnesis.files.explorers.json_members import members
from mnesis.files.explorers.report import Report, plural, size_text
from mnesis.files.explorers.source import Source

MAX_BYTES = 4 << 20
"""Reading their tokens takes about a second, and two for the worst of them."""


def explore(source: Source, report: Report, kind: Kind) -> Kind:
    collector = json_shape.Collector()
    is_cut = source.size > MAX_BYTES
    collector.feed(source.text(MAX_BYTES), is_cut=is_cut)
    if not collector.root.kinds:
        raise ValueError("there is no JSON value in it")
    if not collector.deepest and collector.strange:
        raise ValueError("its words are not JSON's")
    part = f"; what follows describes the first {size_text(MAX_BYTES)}" if is_cut else ""
    report.add(f"{kind.label}, {size_text(source.size)}, nested {plural(collector.deepest, 'level')} deep{part}")
    if is_cut and (whole := members(source)):
        report.add(f"The whole: {whole}")
    if collector.is_open and not is_cut:
        report.add("It ends inside a value: cut off, or not JSON")
    if collector.strange and not is_cut:
        report.add(f"{plural(collector.strange, 'word')} that JSON does not know")
    add_shape(report, collector, "Value")
    return kind


def add_shape(report: Report, collector: json_shape.Collector, name: str) -> None:
    if collector.deepest > json_shape.MAX_DEPTH:
        report.add(f"Shape of the first {json_shape.MAX_DEPTH} levels:")
    for indent, line in json_shape.describe(collector.root, name, collector.root.kinds.total()):
        report.add(line, indent)
        if report.full:
            return
