"""What commands cost that read a whole database: each one in a process of its own, in processor time and peak memory."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.scale.databases import Filled
from benchmarks.scale.scale_row import ScaleRow

ROOT = Path(__file__).parents[2]
US_PER_SECOND = 1_000_000
SEARCH = ("first search, with indexing", ("search", "harbour ledger"))
LOG_COMMANDS = (
    SEARCH,
    ("export", ("export", "{session}", "-o", "{directory}/export.jsonl")),
    ("backup", ("backup", "{directory}/copy.db")),
    ("verify", ("verify",)),
    ("doctor", ("doctor",)),
)
"""The commands to measure on one long session. The first one builds the index, which the others copy or check."""
LIST_COMMANDS = (
    SEARCH,
    ("ls", ("ls", "-n", "1000000", "--jsonl")),
    ("backup", ("backup", "{directory}/copy.db")),
    ("verify", ("verify",)),
    ("doctor", ("doctor",)),
)
"""The commands to measure on many sessions."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process took."""

    seconds: float
    peak_mb: float


def measure_commands(
    commands: Iterable[tuple[str, Sequence[str]]], empty: Filled, small: Filled, large: Filled, unit: str
) -> list[ScaleRow]:
    """Compare the cost per `unit` of each command on both databases. What it takes on an empty one is not counted."""
    rows = []
    for name, arguments in commands:
        base, small_usage, large_usage = (_run(each, arguments) for each in (empty, small, large))
        small_us, large_us = (
            max(usage.seconds - base.seconds, 0.001) * US_PER_SECOND / filled.size
            for usage, filled in ((small_usage, small), (large_usage, large))
        )
        peaks = (small_usage.peak_mb, large_usage.peak_mb)
        rows.append(ScaleRow(name, f"µs per {unit}", small.size, small_us, large.size, large_us, *peaks))
        print(f"measured: {name}, per {unit}: {rows[-1].cells()}", file=sys.stderr)
    return rows


def _run(filled: Filled, arguments: Sequence[str]) -> Usage:
    with tempfile.TemporaryDirectory(dir=filled.path.parent) as directory:
        report = Path(directory) / "report.json"
        filled_in = [each.format(session=filled.session_id, directory=directory) for each in arguments]
        program = [sys.executable, "-m", "benchmarks.scale.run_command", str(report), *filled_in]
        subprocess.run(
            [*program, "--db", str(filled.path)],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        return Usage(**json.loads(report.read_text()))
