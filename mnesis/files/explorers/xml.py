"""XML as a stream: the tree of its tags. Entities are not declared here: a document that declares some is read up to there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

from mnesis.files.explorers.detect import Kind
from mnesis.files.explorers.report import Report, clean, plural, size_text
from mnesis.files.explorers.source import Source

MAX_BYTES = 64 << 20
MAX_PATHS = 400
MAX_DEPTH = 10_000
MAX_TAG_BYTES = 2 << 20
MAX_NAMES = 50_000
"""The parser keeps open tags, the tag it is in and every name it has seen; each of them is bounded."""
_SHOWN_DEPTH = 6
_CODECS = {"utf-8": None, "latin-1": "iso-8859-1", "utf-16-le": "utf-16", "utf-16-be": "utf-16"}


class _EntityDeclaredError(ValueError):
    pass


@dataclass(slots=True)
class _Tags:
    """Paths of tags with their counts, in the order they came."""

    paths: dict[tuple[str, ...], int] = field(default_factory=dict)
    attributes: dict[tuple[str, ...], Counter[str]] = field(default_factory=dict)
    stack: list[str] = field(default_factory=list)
    elements: int = 0
    deepest: int = 0
    further: int = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.stack.append(tag)
        self.elements += 1
        self.deepest = max(self.deepest, len(self.stack))
        if len(self.stack) > _SHOWN_DEPTH:
            return
        path = tuple(self.stack)
        if path not in self.paths and len(self.paths) >= MAX_PATHS:
            self.further += 1
            return
        self.paths[path] = self.paths.get(path, 0) + 1
        if attributes:
            self.attributes.setdefault(path, Counter()).update(list(attributes)[:20])

    def end(self, tag: str) -> None:
        self.stack.pop()


def explore(source: Source, report: Report, kind: Kind) -> Kind:
    tags = _Tags()
    stopped = _parse(source, tags)
    if not tags.elements and "entities" not in stopped:
        raise ValueError(stopped or "there is no element in it")
    report.add(
        f"{kind.label}, {size_text(source.size)}, {plural(tags.elements, 'element')}, nested {plural(tags.deepest, 'level')} deep"
    )
    if stopped:
        report.add(stopped)
    for indent, line in _tree(tags):
        report.add(line, indent)
        if report.full:
            break
    if tags.further:
        report.add(f"… and {plural(tags.further, 'element')} on further paths")
    return kind


def _parse(source: Source, tags: _Tags) -> str:
    """Feeds the parser; says why it stopped early."""
    parser = expat.ParserCreate(_CODECS.get(source.codec))
    parser.StartElementHandler = tags.start
    parser.EndElementHandler = tags.end
    parser.EntityDeclHandler = _refuse
    fed = 0
    try:
        for chunk in source.chunks():
            fed += len(chunk)
            parser.Parse(chunk, False)
            if reason := _too_much(parser, tags, fed):
                return f"{reason}: read up to there"
            if fed >= MAX_BYTES:
                break
        if fed >= source.size:
            parser.Parse(b"", True)
    except expat.ExpatError as failure:
        return f"It breaks off: {clean(str(failure), 150)}"
    except _EntityDeclaredError:
        return "It declares entities: read up to there, and none is expanded"
    return "" if fed >= source.size else f"Counted in the first {size_text(fed)}"


def _too_much(parser: expat.XMLParserType, tags: _Tags, fed: int) -> str:
    if tags.deepest > MAX_DEPTH:
        return f"It is nested more than {MAX_DEPTH:,} deep"
    if fed - parser.CurrentByteIndex > MAX_TAG_BYTES:
        return f"It has a tag or text of more than {size_text(MAX_TAG_BYTES)}"
    return f"It has more than {MAX_NAMES:,} names" if len(parser.intern) > MAX_NAMES else ""


def _refuse(*declaration: object) -> None:
    raise _EntityDeclaredError


def _tree(tags: _Tags) -> Iterator[tuple[int, str]]:
    """Children under their parents, although a parent's later children came after other tags."""
    children: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for path in tags.paths:
        children.setdefault(path[:-1], []).append(path)
    todo = list(reversed(children.get((), [])))
    while todo:
        path = todo.pop()
        names = [clean(name, 30) for name in list(tags.attributes.get(path, ()))[:8]]
        attributes = f" ({', '.join(names)})" if names else ""
        yield len(path) - 1, f"<{clean(path[-1], 60)}> × {tags.paths[path]:,}{attributes}"
        todo += reversed(children.get(path, []))
