"""Explorer of XML, read as a stream: the tree of its tags. Reading stops where a document declares entities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

from mnesis.files.explorers.detect import Kind
from mnesis.files.explorers.report import Report, clean_line, format_size, plural
from mnesis.files.explorers.source import Source

MAX_BYTES = 64 << 20
MAX_PATHS = 400
MAX_DEPTH = 10_000
MAX_TAG_BYTES = 2 << 20
MAX_NAMES = 50_000
"""Distinct names. The parser keeps open tags, the current tag and all names, so each of them has a limit."""
_SHOWN_DEPTH = 6
_CODECS = {"utf-8": None, "latin-1": "iso-8859-1", "utf-16-le": "utf-16", "utf-16-be": "utf-16"}


class _EntityDeclaredError(ValueError):
    pass


@dataclass(slots=True)
class _Tags:
    """Paths of tags with their counts, in document order."""

    paths: dict[tuple[str, ...], int] = field(default_factory=dict)
    attributes: dict[tuple[str, ...], Counter[str]] = field(default_factory=dict)
    stack: list[str] = field(default_factory=list)
    elements: int = 0
    max_depth: int = 0
    uncollected: int = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.stack.append(tag)
        self.elements += 1
        self.max_depth = max(self.max_depth, len(self.stack))
        if len(self.stack) > _SHOWN_DEPTH:
            return
        path = tuple(self.stack)
        if path not in self.paths and len(self.paths) >= MAX_PATHS:
            self.uncollected += 1
            return
        self.paths[path] = self.paths.get(path, 0) + 1
        if attributes:
            self.attributes.setdefault(path, Counter()).update(list(attributes)[:20])

    def end(self, tag: str) -> None:
        self.stack.pop()


def explore(source: Source, report: Report, kind: Kind) -> Kind:
    """Describe the file in the report, and return its type."""
    tags = _Tags()
    stopped = _parse(source, tags)
    if not tags.elements and "entities" not in stopped:
        raise ValueError(stopped or "there is no element in it")
    report.add_line(
        f"{kind.label}, {format_size(source.size_bytes)}, {plural(tags.elements, 'element')}, nested {plural(tags.max_depth, 'level')} deep"
    )
    if stopped:
        report.add_line(stopped)
    for indent, line in _tree_lines(tags):
        report.add_line(line, indent)
        if report.is_full:
            break
    if tags.uncollected:
        report.add_line(f"… and {plural(tags.uncollected, 'element')} on further paths")
    return kind


def _parse(source: Source, tags: _Tags) -> str:
    """Parse the document. Returns the reason for stopping early, or ""."""
    parser = expat.ParserCreate(_CODECS.get(source.codec))
    parser.StartElementHandler = tags.start
    parser.EndElementHandler = tags.end
    parser.EntityDeclHandler = _refuse_entities
    fed_bytes = 0
    try:
        for chunk in source.chunks():
            fed_bytes += len(chunk)
            parser.Parse(chunk, False)
            if reason := _exceeded_limit(parser, tags, fed_bytes):
                return f"{reason}: read up to there"
            if fed_bytes >= MAX_BYTES:
                break
        if fed_bytes >= source.size_bytes:
            parser.Parse(b"", True)
    except expat.ExpatError as failure:
        return f"It breaks off: {clean_line(str(failure), 150)}"
    except _EntityDeclaredError:
        return "It declares entities: read up to there, and none is expanded"
    return "" if fed_bytes >= source.size_bytes else f"Counted in the first {format_size(fed_bytes)}"


def _exceeded_limit(parser: expat.XMLParserType, tags: _Tags, fed: int) -> str:
    if tags.max_depth > MAX_DEPTH:
        return f"It is nested more than {MAX_DEPTH:,} deep"
    if fed - parser.CurrentByteIndex > MAX_TAG_BYTES:
        return f"It has a tag or text of more than {format_size(MAX_TAG_BYTES)}"
    return f"It has more than {MAX_NAMES:,} names" if len(parser.intern) > MAX_NAMES else ""


def _refuse_entities(*declaration: object) -> None:
    raise _EntityDeclaredError


def _tree_lines(tags: _Tags) -> Iterator[tuple[int, str]]:
    """Yield (indent, line) for each path, with children below their parents."""
    children: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for path in tags.paths:
        children.setdefault(path[:-1], []).append(path)
    todo = list(reversed(children.get((), [])))
    while todo:
        path = todo.pop()
        names = [clean_line(name, 30) for name in list(tags.attributes.get(path, ()))[:8]]
        attributes = f" ({', '.join(names)})" if names else ""
        yield len(path) - 1, f"<{clean_line(path[-1], 60)}> × {tags.paths[path]:,}{attributes}"
        todo += reversed(children.get(path, []))
