"""HTML by its tags, read once from left to right: title, headings, what it is made of, how its text begins.

A parser would build a tree of what is often broken; tags alone say what is wanted here, in time linear in the size.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from dataclasses import dataclass, field

from mnesis.files.explorers.detect import Kind
from mnesis.files.explorers.report import Report, clean, plural, size_text
from mnesis.files.explorers.source import Source

MAX_BYTES = 4 << 20

_TAG = re.compile(
    r"<(?:!--(?P<comment>)|![^<>]*+>(?P<declaration>)|(?P<end>/)?(?P<name>[a-zA-Z][a-zA-Z0-9:-]{0,40})(?P<rest>(?:[^<>\"']++|\"[^\"<>]*+\"|'[^'<>]*+'|[\"'])*+)>?)"
)
_ATTRIBUTE = re.compile(
    r"""\b(name|property|content|href|src)\s*=\s*(?:"([^"]{0,500})"|'([^']{0,500})'|([^\s"'>]{1,500}))""", re.I
)
_RAW = frozenset({"script", "style", "template", "svg"})
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_COUNTED = (
    "a",
    "img",
    "table",
    "tr",
    "form",
    "input",
    "ul",
    "ol",
    "li",
    "p",
    "section",
    "article",
    "script",
    "style",
    "iframe",
)


@dataclass(slots=True)
class _Page:
    title: str = ""
    description: str = ""
    headings: list[str] = field(default_factory=list)
    tags: Counter[str] = field(default_factory=Counter)
    text: list[str] = field(default_factory=list)
    text_chars: int = 0


def explore(source: Source, report: Report, kind: Kind) -> Kind:
    page = _read(source.text(MAX_BYTES))
    if not page.tags:
        raise ValueError("there is no tag in it")
    part = f"; what follows describes the first {size_text(MAX_BYTES)}" if source.size > MAX_BYTES else ""
    report.add(f"{kind.label}, {size_text(source.size)}, {plural(page.tags.total(), 'element')}{part}")
    if page.title:
        report.add(f"Title: {page.title}")
    if page.description:
        report.add(f"Description: {page.description}")
    counts = [f"{name} {page.tags[name]:,}" for name in _COUNTED if page.tags[name]]
    if counts:
        report.add(f"Made of: {', '.join(counts)}")
    report.section("Headings:", page.headings, 40)
    report.section(f"Text ({page.text_chars:,} characters) begins:", _wrapped(" ".join(page.text)[:1_500]), 10)
    return kind


def _read(text: str) -> _Page:
    page, at, inside = _Page(), 0, ""
    while found := _TAG.search(text, at):
        _add_text(page, text[at : found.start()], inside)
        at = found.end()
        if found["comment"] is not None:
            at = _after(text, "-->", at)
            continue
        if found["declaration"] is not None:
            continue
        name = found["name"].lower()
        if found["end"]:
            inside = "" if name == inside else inside
            continue
        page.tags[name] += 1
        if name == "meta":
            _meta(page, found["rest"])
        elif name in _RAW and not found["rest"].endswith("/"):
            at = _after(text, ">", _after(text, f"</{name}", at))
        elif name == "title" or name in _HEADINGS:
            inside = name
            if name in _HEADINGS:
                page.headings.append(f"{'  ' * (int(name[1]) - 1)}{name}:")
    _add_text(page, text[at:], inside)
    return page


def _after(text: str, mark: str, at: int) -> int:
    """Behind the mark, or at the end when it never comes."""
    end = text.find(mark, at)
    return len(text) if end < 0 else end + len(mark)


def _add_text(page: _Page, piece: str, inside: str) -> None:
    words = " ".join(html.unescape(piece[:2_000]).split())
    if not words:
        return
    if inside == "title":
        page.title = clean(f"{page.title} {words}".strip())
        return
    if inside in _HEADINGS and page.headings:
        page.headings[-1] = clean(f"{page.headings[-1]} {words}", 150)
    page.text_chars += len(piece.strip())
    if len(page.text) < 500:
        page.text.append(words)


def _meta(page: _Page, rest: str) -> None:
    values = {name.lower(): one or two or three for name, one, two, three in _ATTRIBUTE.findall(rest[:2_000])}
    if (values.get("name") or values.get("property") or "").lower() in ("description", "og:description"):
        page.description = page.description or clean(html.unescape(values.get("content", "")), 250)


def _wrapped(text: str) -> list[str]:
    return [text[at : at + 150] for at in range(0, len(text), 150)]
