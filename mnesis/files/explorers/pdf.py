"""Explorer of PDF: pages, title and the beginning of the text, read by pypdf, or without it by patterns."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Any

from mnesis.files.explorers.detect import Kind
from mnesis.files.explorers.report import Report, clean_line, format_size, plural
from mnesis.files.explorers.sandbox import ParserFailedError, run_in_sandbox
from mnesis.files.explorers.source import Source

MAX_BYTES = 200 << 20
MAX_SECONDS = 20.0
MAX_TEXT_CHARS = 6_000
_PAGE = re.compile(rb"/Type\s{0,10}/Page(?![a-zA-Z])")
_TITLE = re.compile(rb"/Title\s{0,10}\(((?:[^()\\\r\n]|\\.){1,300})\)")


def explore(source: Source, report: Report, kind: Kind) -> Kind:
    """Describe the file in the report, and return its type."""
    version = source.head[source.head.find(b"%PDF-") + 5 :][:3].decode("latin-1")
    title = f"PDF {version}, {format_size(source.size_bytes)}"
    try:
        answer = _read_with_pypdf(source)
    except ParserFailedError as reason:
        report.add_line(f"{title}, {plural(_pages_by_pattern(source), 'page')} found by pattern")
        report.add_line(f"Its text was not read: {reason}")
        _title_by_pattern(source, report)
    else:
        report.add_line(f"{title}, {plural(answer['pages'], 'page')}")
        for name, value in answer["about"].items():
            report.add_line(f"{name}: {clean_line(value, 150)}")
        _write_text(report, answer)
    if b"%%EOF" not in source.read(max(source.size_bytes - 2048, 0), 2048):
        report.add_line("It has no end mark: probably cut off")
    return kind


def _write_text(report: Report, answer: dict[str, Any]) -> None:
    text = " ".join(answer["text"].split())
    if answer["broken"]:
        report.add_line(f"The text breaks off: {clean_line(answer['failure'], 150)}")
    if not text:
        report.add_line("No text in its first pages: they may be images, or encrypted")
    lines = [text[at : at + 150] for at in range(0, len(text), 150)]
    report.add_section(f"Text of the first {plural(answer['read'], 'page')} begins:", lines, 20)


def _read_with_pypdf(source: Source) -> dict[str, Any]:
    """Raises `ParserFailedError`."""
    if find_spec("pypdf") is None:
        raise ParserFailedError("pip install 'mnesis-context[files]'")
    if source.size_bytes > MAX_BYTES:
        raise ParserFailedError(f"it is larger than {format_size(MAX_BYTES)}")
    return run_in_sandbox("pdf_reader.py", source, str(MAX_TEXT_CHARS), max_seconds=MAX_SECONDS)


def _pages_by_pattern(source: Source) -> int:
    return sum(len(_PAGE.findall(chunk)) for chunk in source.chunks())


def _title_by_pattern(source: Source, report: Report) -> None:
    if title := _TITLE.search(source.head + source.read(max(source.size_bytes - 65_536, 0), 65_536)):
        report.add_line(f"Title: {title[1].decode('latin-1')}")
