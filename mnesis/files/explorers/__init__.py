"""What is in a file, said in a few lines: one explorer per type, each within bounds of time and memory.

An explorer reads a bounded part, or streams the whole in pieces, and says which of its figures are exact. Content is
data: whatever it holds, the summary is short printable lines, and no content makes `explore` fail.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from mnesis.files.explorers.detect import Kind, kind_of
from mnesis.files.explorers.report import Exploration, Report, clean
from mnesis.files.explorers.source import Source

__all__ = ["VERSION", "Exploration", "explore"]

VERSION = "2"
"""Changes whenever the same content may give another summary; part of every key under which summaries are kept."""


def explore(
    path: Path, name: str, *, max_chars: int = 4_000, deadline_seconds: float = 30.0, sha256: str = ""
) -> Exploration:
    """Says what is in a regular file. Blocking: call it off the event loop.

    name: what the user called it; only the part that tells its type is used, and it is not repeated in the summary.
    max_chars: the longest summary. deadline_seconds: counting stops then, and the summary says how far it came; a summary
    takes a little longer in all, never without bound. sha256: of the file in hex, where it is known already.

    Raises OSError when the file cannot be read. Content raises nothing: what no explorer can read is described as plain
    text or as bytes, with the reason.
    """
    source = Source(path, deadline_seconds, sha256)
    kind = kind_of(source, name)
    try:
        return _explored(source, kind, max_chars)
    # Parsers fail in every way on hostile content, out of memory and stack included. A file that is really gone fails
    # again, and for good, in the plain reading.
    except Exception as failure:
        reason = f"It could not be read as {kind.label}: {clean(f'{type(failure).__name__}: {failure}', 150)}"
        return _explored(source, kind_of(source, "", plain=True), max_chars, reason)


def _explored(source: Source, kind: Kind, max_chars: int, reason: str = "") -> Exploration:
    report = Report(max_chars)
    if reason:
        report.add(reason)
    module = import_module(f"{__name__}.{kind.module}")
    found: Kind = module.explore(source, report, kind)
    return Exploration(found.file_type, report.text(max_chars), found.is_prose)
