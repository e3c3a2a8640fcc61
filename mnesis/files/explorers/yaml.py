"""Explorer of YAML, by parser events. Nothing is constructed, so aliases are not expanded and tags create no objects."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from mnesis.files.explorers.detect import Kind
from mnesis.files.explorers.report import Report, clean_line, format_size, plural
from mnesis.files.explorers.source import Source

MAX_BYTES = 1 << 20
MAX_DEPTH = 200
"""The parser's time is quadratic in the depth of brackets."""
_SHOWN_DEPTH = 3


@dataclass(slots=True)
class _Node:
    """An open mapping or sequence. `key` is the latest key of a mapping."""

    is_mapping: bool
    line: int
    count: int = 0
    key: str | None = None
    awaits_value: bool = False


@dataclass(slots=True)
class _Outline:
    lines: list[tuple[int, str]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    stack: list[_Node] = field(default_factory=list)
    max_depth: int = 0
    stop_reason: str = ""


def explore(source: Source, report: Report, kind: Kind) -> Kind:
    """Describe the file in the report, and return its type."""
    text = source.read_text(MAX_BYTES)
    outline, failure = _read_events(source, text)
    if failure is not None and (end := _nesting_error_offset(failure)):
        # Newer versions of libyaml fail at 1,000 open brackets, before they report the first of them. Without the last
        # bracket, they report all others, and the limit of this explorer applies.
        outline, failure = _read_events(source, text[:end])
    if failure is not None:
        if source.size_bytes <= MAX_BYTES and not outline.lines:
            raise failure
        outline.stop_reason = "" if source.size_bytes > MAX_BYTES else f"It breaks off: {clean_line(str(failure), 150)}"
    _write_report(source, report, kind, outline)
    return kind


def _read_events(source: Source, text: str) -> tuple[_Outline, Exception | None]:
    """Read the events of a text up to the limits. Returns the error if it is not valid YAML."""
    import yaml

    outline = _Outline()
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            _handle_event(outline, event)
            if len(outline.stack) > MAX_DEPTH:
                outline.stop_reason = f"It is nested more than {MAX_DEPTH} deep; it was read up to there"
            elif source.is_expired:
                outline.stop_reason = "It was read as far as the time allowed"
            if outline.stop_reason:
                break
    except yaml.YAMLError as failure:
        return outline, failure
    return outline, None


def _nesting_error_offset(failure: Exception) -> int | None:
    """Return the offset at which the parser's own limit of nesting was exceeded, or None for other errors."""
    mark = getattr(failure, "problem_mark", None)
    is_nesting_error = "nesting" in str(getattr(failure, "problem", ""))
    return int(mark.index) if is_nesting_error and mark is not None else None


def _handle_event(outline: _Outline, event: Any) -> None:
    name = type(event).__name__
    outline.counts[name] += 1
    if name in ("ScalarEvent", "AliasEvent"):
        _add_scalar(outline, event.value if name == "ScalarEvent" else f"*{event.anchor}")
    elif name in ("MappingStartEvent", "SequenceStartEvent"):
        _open_node(outline, name == "MappingStartEvent")
    elif name in ("MappingEndEvent", "SequenceEndEvent") and outline.stack:
        _close_node(outline)


def _add_scalar(outline: _Outline, value: str) -> None:
    node = outline.stack[-1] if outline.stack else None
    if node is None:
        outline.lines.append((0, f"value: {clean_line(value, 80)}"))
    elif not node.is_mapping:
        node.count += 1
        if len(outline.stack) <= _SHOWN_DEPTH and node.count <= 3:
            outline.lines.append((len(outline.stack) - 1, f"- {clean_line(value, 80)}"))
    elif node.awaits_value:
        node.awaits_value = False
        if len(outline.stack) <= _SHOWN_DEPTH:
            outline.lines.append((len(outline.stack) - 1, f"{clean_line(node.key or '', 60)}: {clean_line(value, 80)}"))
    else:
        node.key, node.awaits_value = value, True
        node.count += 1


def _open_node(outline: _Outline, is_mapping: bool) -> None:
    depth = len(outline.stack)
    parent = outline.stack[-1] if outline.stack else None
    label = "-"
    if parent is not None and parent.is_mapping:
        label = f"{clean_line(parent.key or '', 60)}:" if parent.awaits_value else "?"
        parent.count += not parent.awaits_value
        parent.awaits_value = not parent.awaits_value
    elif parent is not None:
        parent.count += 1
    is_shown = depth < _SHOWN_DEPTH and (parent is None or parent.is_mapping or parent.count <= 3)
    if is_shown:
        outline.lines.append((max(depth - 1, 0), label if parent else "Document:"))
    outline.stack.append(_Node(is_mapping, len(outline.lines) - 1 if is_shown else -1))
    outline.max_depth = max(outline.max_depth, depth + 1)


def _close_node(outline: _Outline) -> None:
    node = outline.stack.pop()
    if node.line >= 0:
        indent, label = outline.lines[node.line]
        noun = "mapping of " + plural(node.count, "key") if node.is_mapping else "list of " + plural(node.count, "item")
        outline.lines[node.line] = (indent, f"{label} {noun}")


def _write_report(source: Source, report: Report, kind: Kind, outline: _Outline) -> None:
    documents = plural(outline.counts["DocumentStartEvent"], "document")
    aliases = outline.counts["AliasEvent"]
    report.add_line(
        f"{kind.label}, {format_size(source.size_bytes)}, {documents}, nested {plural(outline.max_depth, 'level')} deep"
    )
    if source.size_bytes > MAX_BYTES:
        report.add_line(f"What follows describes the first {format_size(MAX_BYTES)}")
    if aliases:
        report.add_line(f"{plural(aliases, 'alias', 'aliases')}, not expanded")
    if outline.stop_reason:
        report.add_line(outline.stop_reason)
    for indent, line in outline.lines:
        report.add_line(line, indent)
        if report.is_full:
            return
