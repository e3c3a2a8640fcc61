"""YAML by its events: nothing is composed or constructed, so aliases stay names and tags make no objects."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from mnesis.files.explorers.detect import Kind
from mnesis.files.explorers.report import Report, clean, plural, size_text
from mnesis.files.explorers.source import Source

MAX_BYTES = 1 << 20
MAX_DEPTH = 200
"""The parser's time grows with the square of the depth of brackets."""
_SHOWN_DEPTH = 3


@dataclass(slots=True)
class _Node:
    """An open mapping or sequence. `key` is the key whose value comes next."""

    is_mapping: bool
    line: int
    count: int = 0
    key: str | None = None
    awaits_value: bool = False


@dataclass(slots=True)
class _Reading:
    lines: list[tuple[int, str]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    stack: list[_Node] = field(default_factory=list)
    deepest: int = 0
    stopped: str = ""


def explore(source: Source, report: Report, kind: Kind) -> Kind:
    import yaml

    reading = _Reading()
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        for event in yaml.parse(source.text(MAX_BYTES), Loader=loader):
            _take(reading, event)
            if len(reading.stack) > MAX_DEPTH:
                reading.stopped = f"It is nested more than {MAX_DEPTH} deep; it was read up to there"
            elif source.expired:
                reading.stopped = "It was read as far as the time allowed"
            if reading.stopped:
                break
    except yaml.YAMLError as failure:
        if source.size <= MAX_BYTES and not reading.lines:
            raise
        reading.stopped = "" if source.size > MAX_BYTES else f"It breaks off: {clean(str(failure), 150)}"
    _write(source, report, kind, reading)
    return kind


def _take(reading: _Reading, event: Any) -> None:
    name = type(event).__name__
    reading.counts[name] += 1
    if name in ("ScalarEvent", "AliasEvent"):
        _value(reading, event.value if name == "ScalarEvent" else f"*{event.anchor}")
    elif name in ("MappingStartEvent", "SequenceStartEvent"):
        _open(reading, name == "MappingStartEvent")
    elif name in ("MappingEndEvent", "SequenceEndEvent") and reading.stack:
        _close(reading)


def _value(reading: _Reading, value: str) -> None:
    node = reading.stack[-1] if reading.stack else None
    if node is None:
        reading.lines.append((0, f"value: {clean(value, 80)}"))
    elif not node.is_mapping:
        node.count += 1
        if len(reading.stack) <= _SHOWN_DEPTH and node.count <= 3:
            reading.lines.append((len(reading.stack) - 1, f"- {clean(value, 80)}"))
    elif node.awaits_value:
        node.awaits_value = False
        if len(reading.stack) <= _SHOWN_DEPTH:
            reading.lines.append((len(reading.stack) - 1, f"{clean(node.key or '', 60)}: {clean(value, 80)}"))
    else:
        node.key, node.awaits_value = value, True
        node.count += 1


def _open(reading: _Reading, is_mapping: bool) -> None:
    depth = len(reading.stack)
    parent = reading.stack[-1] if reading.stack else None
    label = "-"
    if parent is not None and parent.is_mapping:
        label = f"{clean(parent.key or '', 60)}:" if parent.awaits_value else "?"
        parent.count += not parent.awaits_value
        parent.awaits_value = not parent.awaits_value
    elif parent is not None:
        parent.count += 1
    is_shown = depth < _SHOWN_DEPTH and (parent is None or parent.is_mapping or parent.count <= 3)
    if is_shown:
        reading.lines.append((max(depth - 1, 0), label if parent else "Document:"))
    reading.stack.append(_Node(is_mapping, len(reading.lines) - 1 if is_shown else -1))
    reading.deepest = max(reading.deepest, depth + 1)


def _close(reading: _Reading) -> None:
    node = reading.stack.pop()
    if node.line >= 0:
        indent, label = reading.lines[node.line]
        noun = "mapping of " + plural(node.count, "key") if node.is_mapping else "list of " + plural(node.count, "item")
        reading.lines[node.line] = (indent, f"{label} {noun}")


def _write(source: Source, report: Report, kind: Kind, reading: _Reading) -> None:
    documents = plural(reading.counts["DocumentStartEvent"], "document")
    aliases = reading.counts["AliasEvent"]
    report.add(f"{kind.label}, {size_text(source.size)}, {documents}, nested {plural(reading.deepest, 'level')} deep")
    if source.size > MAX_BYTES:
        report.add(f"What follows describes the first {size_text(MAX_BYTES)}")
    if aliases:
        report.add(f"{plural(aliases, 'alias', 'aliases')}, not expanded")
    if reading.stopped:
        report.add(reading.stopped)
    for indent, line in reading.lines:
        report.add(line, indent)
        if report.full:
            return
