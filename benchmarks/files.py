"""Cost of exploring a file: `python -m benchmarks.files [--quick] [--json]`. See README.md.

Each file is generated in a temporary directory, then alternately read line by line in text mode and explored, each time in
its own process. Medians are compared. Peak memory is that of the exploring process.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain, repeat
from pathlib import Path
from statistics import median

from benchmarks.tables import format_table

ROUNDS = 3
_MEGABYTE = 1 << 20

_CHILD = """
import json, re, sys, time
from pathlib import Path

def read(path):
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            pass

def run_explore(path):
    explore(path, sys.argv[3], deadline_seconds=600)

if sys.argv[1] == "explore":
    from mnesis.files.explorers import explore
started = time.perf_counter()
{"read": read, "explore": run_explore}[sys.argv[1]](Path(sys.argv[2]))
seconds = time.perf_counter() - started
status = Path("/proc/self/status")
peak = re.search(r"VmHWM:\\s+(\\d+)", status.read_text()) if status.exists() else None
print(json.dumps([seconds, int(peak[1]) / 1024 if peak else 0.0]))
"""


@dataclass(frozen=True)
class Row:
    """One result. `speed` is exploring relative to reading line by line. `peak_mb` is 0 if the system does not report it."""

    file: str
    size_mb: float
    read_seconds: float
    explore_seconds: float
    speed: float
    peak_mb: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="64 MB instead of 1 GB")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    options = parser.parse_args()
    rows = list(_rows(64 if options.quick else 1024))
    print(json.dumps([asdict(row) for row in rows], indent=2) if options.json else _table(rows))


def _rows(megabytes: int) -> Iterator[Row]:
    sizes = {"table.csv": megabytes, "server.log": megabytes, "records.jsonl": megabytes, "quoted.csv": megabytes // 4}
    sizes |= {"prose.txt": megabytes // 4, "document.json": 16, "notes.md": 4, "tree.xml": 32, "module.py": 0.3}
    for name, size in sizes.items():
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "content")
            _write(path, _GENERATORS[name], int(size * _MEGABYTE))
            yield _measure(path, name)


def _measure(path: Path, name: str) -> Row:
    reads, explorations, peaks = [], [], []
    for _ in range(ROUNDS):
        reads.append(_run_child("read", path, name)[0])
        seconds, peak = _run_child("explore", path, name)
        explorations.append(seconds)
        peaks.append(peak)
    read_seconds, explore_seconds = median(reads), median(explorations)
    return Row(
        name, path.stat().st_size / _MEGABYTE, read_seconds, explore_seconds, read_seconds / explore_seconds, max(peaks)
    )


def _run_child(action: str, path: Path, name: str) -> tuple[float, float]:
    """Run an action in a new process. Returns the seconds and the peak memory in MB."""
    completed = subprocess.run(
        [sys.executable, "-c", _CHILD, action, str(path), name], capture_output=True, text=True, check=True
    )
    seconds, peak = json.loads(completed.stdout)
    return seconds, peak


def _write(path: Path, make: Callable[[], str], size: int) -> None:
    """Write the same block repeatedly, after a header that is written once (the text before the form feed)."""
    head, _, block = make().partition("\f")
    content = block.encode()
    with path.open("wb") as file:
        for piece in chain([head.encode()], repeat(content, max(size // len(content), 1))):
            file.write(piece)


def _csv(quoted: bool) -> str:
    chance = random.Random(7)
    quote = '"' if quoted else ""
    rows = (
        (str(n), f"user {n % 977}", f"{chance.random() * 1000:.2f}", f"2026-01-{n % 28 + 1:02}", "Berlin", f"{n:x}")
        for n in range(5_000)
    )
    lines = (",".join(f"{quote}{value}{quote}" for value in row) for row in rows)
    return "id,name,amount,day,city,code\n\f" + "\n".join(lines) + "\n"


def _log() -> str:
    levels = ("INFO", "INFO", "INFO", "DEBUG", "WARN", "ERROR")
    lines = (
        f"2026-01-{n % 28 + 1:02}T10:{n % 60:02}:{n % 59:02}.{n % 1000:03}Z {levels[n % 6]} worker-{n % 16} "
        f"request {n:08x} from 10.0.{n % 255}.{n % 7} took {n % 900} ms\n"
        for n in range(5_000)
    )
    return "\f" + "".join(lines)


def _json_lines() -> str:
    return "\f" + "".join(
        json.dumps({"id": n, "name": f"n{n}", "tags": ["a", "b"], "score": n / 7}) + "\n" for n in range(5_000)
    )


def _prose() -> str:
    chance = random.Random(7)
    words = (
        "time",
        "year",
        "people",
        "way",
        "day",
        "man",
        "thing",
        "woman",
        "life",
        "child",
        "world",
        "school",
        "state",
    )
    return "\f" + "".join(" ".join(chance.choices(words, k=14)).capitalize() + ".\n" for _ in range(5_000))


def _json_document() -> str:
    return "[\n\f" + "".join(json.dumps({"id": n, "tags": ["a"], "at": {"x": n}}) + ",\n" for n in range(2_000))


def _markdown() -> str:
    return "\f" + "".join(
        f"## Part {n}\n\nWords and a [link](http://x/{n}).\n\n```python\nx = {n}\n```\n\n" for n in range(500)
    )


def _xml() -> str:
    return "<rows>\n\f" + "".join(f'<row id="{n}"><name>n{n}</name><at>{n}</at></row>\n' for n in range(2_000))


def _python() -> str:
    return "\f" + "".join(
        f'def f{n}(a: int, b: str = "x") -> None:\n    """Does {n}."""\n    return a + {n}\n\n' for n in range(200)
    )


_GENERATORS: dict[str, Callable[[], str]] = {
    "table.csv": lambda: _csv(quoted=False),
    "quoted.csv": lambda: _csv(quoted=True),
    "server.log": _log,
    "records.jsonl": _json_lines,
    "prose.txt": _prose,
    "document.json": _json_document,
    "notes.md": _markdown,
    "tree.xml": _xml,
    "module.py": _python,
}


def _table(rows: list[Row]) -> str:
    head = ["file", "MB", "line by line s", "explored s", "speed", "peak MB"]
    cells = [
        [
            row.file,
            f"{row.size_mb:,.1f}",
            f"{row.read_seconds:.3f}",
            f"{row.explore_seconds:.3f}",
            f"{row.speed:.0%}",
            f"{row.peak_mb:.0f}",
        ]
        for row in rows
    ]
    return format_table(head, cells)


if __name__ == "__main__":
    main()
