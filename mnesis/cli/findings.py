"""Findings of integrity checks as lines for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mnesis.cli.output import clean_line, pluralize

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from mnesis.models.finding import Finding

_MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "error": ("✗", "bold red")}


def print_findings(findings: Sequence[Finding], console: Console) -> None:
    """Print each finding with its fix."""
    for finding in findings:
        console.print(_line(finding))


def count_findings(findings: Sequence[Finding]) -> str:
    """Return the numbers of errors and warnings."""
    counts = {severity: sum(f.severity == severity for f in findings) for severity in ("error", "warning")}
    return f"{pluralize(counts['error'], 'error')}, {pluralize(counts['warning'], 'warning')}"


def _line(finding: Finding) -> Text:
    from rich.text import Text

    mark, style = _MARKS[finding.severity]
    fix = f"\n    fix: {clean_line(finding.fix)}" if finding.fix else ""
    return Text.assemble((mark, style), f" {finding.check}: {clean_line(finding.detail)}", (fix, "bold"))
