"""Outlines of source files: imports and declarations, written within the limit of a report."""

from __future__ import annotations

from dataclasses import dataclass

from mnesis.files.explorers.report import Report, clean_line, format_size, plural, total_note
from mnesis.files.explorers.source import Source

MAX_DECLARATIONS = 5_000
"""The largest number of declarations collected from one file."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """A declaration. `depth` is 0 at the top level, 1 for members, and so on; `text` is its first line as written."""

    depth: int
    name: str
    text: str


@dataclass(slots=True)
class Outline:
    """The imports and declarations of a source file. `notes` say how they were obtained."""

    imports: list[str]
    declarations: list[Declaration]
    notes: list[str]
    docstring: str = ""
    constants: tuple[str, ...] = ()


def write_outline(source: Source, report: Report, label: str, outline: Outline) -> None:
    """Write an outline to the report, as far as it fits."""
    lines = "" if source.is_wide else f", {plural(_count_lines(source), 'line')}"
    report.add_line(f"{label}, {format_size(source.size_bytes)}{lines}")
    for note in outline.notes:
        report.add_line(note)
    if outline.docstring:
        report.add_line(f"Docstring: {outline.docstring}")
    if outline.imports:
        report.add_line(
            f"Imports: {', '.join(clean_line(name, 60) for name in outline.imports[:30])}{total_note(len(outline.imports), 30)}"
        )
    if outline.constants:
        report.add_line(
            f"Constants: {', '.join(clean_line(name, 60) for name in outline.constants[:30])}{total_note(len(outline.constants), 30)}"
        )
    _write_declarations(report, outline.declarations)


def _count_lines(source: Source) -> int:
    lines, last = 0, b""
    for chunk in source.chunks():
        lines += chunk.count(b"\n")
        last = chunk[-1:]
    return lines + (last not in (b"", b"\n"))


def _write_declarations(report: Report, declarations: list[Declaration]) -> None:
    """Write declarations with members if they fit, otherwise the top-level ones, otherwise only their names."""
    if not declarations:
        report.add_line("No declarations found")
        return
    for max_depth in (9, 1, 0):
        shown = [declaration for declaration in declarations if declaration.depth <= max_depth]
        if (
            sum(len(clean_line(declaration.text)) + 2 * declaration.depth + 3 for declaration in shown)
            <= report.available_chars - 100
        ):
            break
    else:
        names = [clean_line(declaration.name, 80) for declaration in shown]
        report.add_section(f"{plural(len(names), 'declaration')} by name:", _wrap_names(names), len(names))
        return
    hidden = len(declarations) - len(shown)
    hidden_note = f" ({plural(hidden, 'member')} left out)" if hidden else ""
    report.add_line(f"Declarations{hidden_note}:")
    for declaration in shown:
        report.add_line(declaration.text, declaration.depth + 1)


def _wrap_names(names: list[str]) -> list[str]:
    rows, row = [], ""
    for name in names:
        if len(row) + len(name) > 150:
            rows.append(row)
            row = ""
        row += f"{name}, "
    return [*rows, row.removesuffix(", ")]
