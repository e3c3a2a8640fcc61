"""Explorers: short summaries of files, one explorer per type, each within limits of time and memory.

An explorer reads a bounded part, or streams the whole file, and states which of its figures are exact. Content is
treated as data: a summary is always short printable lines, and no content makes `explore` fail.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from mnesis.files.explorers.detect import Kind, detect_kind
from mnesis.files.explorers.report import Exploration, Report, clean_line
from mnesis.files.explorers.source import Readable, Source

__all__ = ["VERSION", "Exploration", "explore"]

VERSION = "3"
"""Increment it when the summary of the same content may change. It is part of the keys of cached summaries."""


def explore(
    content: Path | Readable, name: str, *, max_chars: int = 4_000, deadline_seconds: float = 30.0, sha256: str = ""
) -> Exploration:
    """Summarize content, or a regular file. Blocking; call it off the event loop.

    `name` is the user's name for the file: its suffix helps to detect the type, and it does not appear in the summary.
    `max_chars` limits the summary. After `deadline_seconds`, counting stops and the summary says how far it got; the call
    returns soon after. `sha256` is the hash of the file in hex, if it is known.

    Raises `OSError` if the file cannot be read. Content that its explorer cannot read is described as plain text or as
    bytes, with the reason.
    """
    source = Source(content, deadline_seconds, sha256)
    kind = detect_kind(source, name)
    try:
        return _run_explorer(source, kind, max_chars)
    # Parsers can fail in any way on hostile content, including out of memory and stack. If the file was deleted,
    # reading it as plain text below also raises.
    except Exception as failure:
        reason = f"It could not be read as {kind.label}: {clean_line(f'{type(failure).__name__}: {failure}', 150)}"
        return _run_explorer(source, detect_kind(source, "", as_plain=True), max_chars, reason)


def _run_explorer(source: Source, kind: Kind, max_chars: int, reason: str = "") -> Exploration:
    report = Report(max_chars)
    if reason:
        report.add_line(reason)
    module = import_module(f"{__name__}.{kind.module}")
    refined_kind: Kind = module.explore(source, report, kind)
    return Exploration(refined_kind.file_type, report.text(max_chars), refined_kind.is_prose)
