"""PDF: pages, title and how the text begins, read by pypdf; without it by patterns."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Any

from mnesis.files.explorers.detect import Kind
from mnesis.files.explorers.report import Report, clean, plural, size_text
from mnesis.files.explorers.sandbox import NoAnswerError, ask
from mnesis.files.explorers.source import Source

MAX_BYTES = 200 << 20
MAX_SECONDS = 20.0
MAX_TEXT_CHARS = 6_000
_PAGE = re.compile(rb"/Type\s{0,10}/Page(?![a-zA-Z])")
_TITLE = re.compile(rb"/Title\s{0,10}\(((?:[^()\\\r\n]|\\.){1,300})\)")


def explore(source: Source, report: Report, kind: Kind) -> Kind:
    version = source.head[source.head.find(b"%PDF-") + 5 :][:3].decode("latin-1")
    title = f"PDF {version}, {size_text(source.size)}"
    try:
        found = _read(source)
    except NoAnswerError as reason:
        report.add(f"{title}, {plural(_pages_by_pattern(source), 'page')} found by pattern")
        report.add(f"Its text was not read: {reason}")
        _title_by_pattern(source, report)
    else:
        report.add(f"{title}, {plural(found['pages'], 'page')}")
        for name, value in found["about"].items():
            report.add(f"{name}: {clean(value, 150)}")
        _write_text(report, found)
    if b"%%EOF" not in source.read(max(source.size - 2048, 0), 2048):
        report.add("It has no end mark: probably cut off")
    return kind


def _write_text(report: Report, found: dict[str, Any]) -> None:
    text = " ".join(found["text"].split())
    if found["broken"]:
        report.add(f"The text breaks off: {clean(found['failure'], 150)}")
    if not text:
        report.add("No text in its first pages: they may be images, or encrypted")
    lines = [text[at : at + 150] for at in range(0, len(text), 150)]
    report.section(f"Text of the first {plural(found['read'], 'page')} begins:", lines, 20)


def _read(source: Source) -> dict[str, Any]:
    """Raises NoAnswerError."""
    if find_spec("pypdf") is None:
        raise NoAnswerError("pip install 'mnesis[files]'")
    if source.size > MAX_BYTES:
        raise NoAnswerError(f"it is larger than {size_text(MAX_BYTES)}")
    return ask("pdf_reader.py", source, str(MAX_TEXT_CHARS), max_seconds=MAX_SECONDS)


def _pages_by_pattern(source: Source) -> int:
    return sum(len(_PAGE.findall(chunk)) for chunk in source.chunks())


def _title_by_pattern(source: Source, report: Report) -> None:
    if title := _TITLE.search(source.head + source.read(max(source.size - 65_536, 0), 65_536)):
        report.add(f"Title: {title[1].decode('latin-1')}")
