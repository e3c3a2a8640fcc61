"""The declarations of a source file, written as an outline that fits."""

from __future__ import annotations

from dataclasses import dataclass

from mnesis.files.explorers.report import Report, clean, more, plural, size_text
from mnesis.files.explorers.source import Source

MAX_DECLARATIONS = 5_000
"""No more are collected from one file."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """depth: 0 for the file's own, 1 for members, and so on. text: its head, as written."""

    depth: int
    name: str
    text: str


@dataclass(slots=True)
class Outline:
    """What a source file imports and declares. `notes` say how it was found out."""

    imports: list[str]
    declarations: list[Declaration]
    notes: list[str]
    docstring: str = ""
    constants: tuple[str, ...] = ()


def write(source: Source, report: Report, label: str, outline: Outline) -> None:
    lines = "" if source.is_wide else f", {plural(_lines(source), 'line')}"
    report.add(f"{label}, {size_text(source.size)}{lines}")
    for note in outline.notes:
        report.add(note)
    if outline.docstring:
        report.add(f"Docstring: {outline.docstring}")
    if outline.imports:
        report.add(
            f"Imports: {', '.join(clean(name, 60) for name in outline.imports[:30])}{more(len(outline.imports), 30)}"
        )
    if outline.constants:
        report.add(
            f"Constants: {', '.join(clean(name, 60) for name in outline.constants[:30])}{more(len(outline.constants), 30)}"
        )
    _write_declarations(report, outline.declarations)


def _lines(source: Source) -> int:
    lines, last = 0, b""
    for chunk in source.chunks():
        lines += chunk.count(b"\n")
        last = chunk[-1:]
    return lines + (last not in (b"", b"\n"))


def _write_declarations(report: Report, declarations: list[Declaration]) -> None:
    """With members where they fit, else the file's own declarations, else their names."""
    if not declarations:
        report.add("No declarations found")
        return
    for deepest in (9, 1, 0):
        shown = [declaration for declaration in declarations if declaration.depth <= deepest]
        if sum(len(clean(one.text)) + 2 * one.depth + 3 for one in shown) <= report.room - 100:
            break
    else:
        names = [clean(one.name, 80) for one in shown]
        report.section(f"{plural(len(names), 'declaration')} by name:", _rows_of(names), len(names))
        return
    hidden = len(declarations) - len(shown)
    left_out = f" ({plural(hidden, 'member')} left out)" if hidden else ""
    report.add(f"Declarations{left_out}:")
    for one in shown:
        report.add(one.text, one.depth + 1)


def _rows_of(names: list[str]) -> list[str]:
    rows, row = [], ""
    for name in names:
        if len(row) + len(name) > 150:
            rows.append(row)
            row = ""
        row += f"{name}, "
    return [*rows, row.removesuffix(", ")]
