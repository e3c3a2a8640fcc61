"""Explorer of HTML, by one scan over its tags: title, headings, numbers of elements, beginning of the text.

A parser would build a tree of often broken markup. The tags alone contain what is needed, in linear time.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from dataclasses import dataclass, field

from mnesis.files.explorers.detect import Kind
from mnesis.files.explorers.report import Report, clean_line, format_size, plural
from mnesis.files.explorers.source import Source

MAX_BYTES = 4 << 20

_TAG = re.compile(
    r"<(?:!--(?P<comment>)|![^<>]*+>(?P<declaration>)|(?P<end>/)?(?P<name>[a-zA-Z][a-zA-Z0-9:-]{0,40})(?P<rest>(?:[^<>\"']++|\"[^\"<>]*+\"|'[^'<>]*+'|[\"'])*+)>?)"
)
_ATTRIBUTE = re.compile(
    r"""\b(name|property|content|href|src)\s*=\s*(?:"([^"]{0,500})"|'([^']{0,500})'|([^\s"'>]{1,500}))""", re.I
)
_RAW_TEXT_TAGS = frozenset({"script", "style", "template", "svg"})
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_COUNTED_TAGS = (
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
    """Describe the file in the report, and return its type."""
    page = _scan_page(source.read_text(MAX_BYTES))
    if not page.tags:
        raise ValueError("there is no tag in it")
    part = f"; what follows describes the first {format_size(MAX_BYTES)}" if source.size_bytes > MAX_BYTES else ""
    report.add_line(f"{kind.label}, {format_size(source.size_bytes)}, {plural(page.tags.total(), 'element')}{part}")
    if page.title:
        report.add_line(f"Title: {page.title}")
    if page.description:
        report.add_line(f"Description: {page.description}")
    counts = [f"{name} {page.tags[name]:,}" for name in _COUNTED_TAGS if page.tags[name]]
    if counts:
        report.add_line(f"Made of: {', '.join(counts)}")
    report.add_section("Headings:", page.headings, 40)
    report.add_section(f"Text ({page.text_chars:,} characters) begins:", _wrap(" ".join(page.text)[:1_500]), 10)
    return kind


def _scan_page(text: str) -> _Page:
    page, offset, open_tag = _Page(), 0, ""
    while tag := _TAG.search(text, offset):
        _add_text(page, text[offset : tag.start()], open_tag)
        offset = tag.end()
        if tag["comment"] is not None:
            offset = _skip_past(text, "-->", offset)
            continue
        if tag["declaration"] is not None:
            continue
        name = tag["name"].lower()
        if tag["end"]:
            open_tag = "" if name == open_tag else open_tag
            continue
        page.tags[name] += 1
        if name == "meta":
            _read_meta(page, tag["rest"])
        elif name in _RAW_TEXT_TAGS and not tag["rest"].endswith("/"):
            offset = _skip_past(text, ">", _skip_past(text, f"</{name}", offset))
        elif name == "title" or name in _HEADINGS:
            open_tag = name
            if name in _HEADINGS:
                page.headings.append(f"{'  ' * (int(name[1]) - 1)}{name}:")
    _add_text(page, text[offset:], open_tag)
    return page


def _skip_past(text: str, mark: str, at: int) -> int:
    """Return the offset after the next mark, or the end of the text if there is none."""
    end = text.find(mark, at)
    return len(text) if end < 0 else end + len(mark)


def _add_text(page: _Page, piece: str, open_tag: str) -> None:
    words = " ".join(html.unescape(piece[:2_000]).split())
    if not words:
        return
    if open_tag == "title":
        page.title = clean_line(f"{page.title} {words}".strip())
        return
    if open_tag in _HEADINGS and page.headings:
        page.headings[-1] = clean_line(f"{page.headings[-1]} {words}", 150)
    page.text_chars += len(piece.strip())
    if len(page.text) < 500:
        page.text.append(words)


def _read_meta(page: _Page, rest: str) -> None:
    values = {name.lower(): one or two or three for name, one, two, three in _ATTRIBUTE.findall(rest[:2_000])}
    if (values.get("name") or values.get("property") or "").lower() in ("description", "og:description"):
        page.description = page.description or clean_line(html.unescape(values.get("content", "")), 250)


def _wrap(text: str) -> list[str]:
    return [text[at : at + 150] for at in range(0, len(text), 150)]
