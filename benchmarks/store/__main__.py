"""`python -m benchmarks.store`: what sessions cost, as ratios to a floor measured in the same run."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.store import children, sessions
from benchmarks.store.fill import fill
from benchmarks.store.rows import HEAD, Row
from benchmarks.tables import table


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done."""

    long: int = 50_000
    middle: int = 500
    short: int = 100
    rounds: int = 400
    heavy_rounds: int = 40
    fold_rounds: int = 25
    child_rounds: int = 7
    turns_each: int = 20


QUICK = Size(long=2_000, rounds=20, heavy_rounds=5, fold_rounds=3, child_rounds=1, turns_each=4)


def main() -> None:
    """Parse the arguments, run, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.store", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run with little data; its ratios mean little")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args()
    rows = asyncio.run(_measured(QUICK if options.quick else Size()))
    if options.json:
        print(json.dumps([{**asdict(row), "value": row.value, "ok": row.ok} for row in rows], indent=1))
    else:
        print(table(HEAD, [row.cells() for row in rows]))


async def _measured(size: Size) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="mnesis-benchmark-") as directory:
        rows = []
        async for row in _rows(size, Path(directory)):
            print(f"measured: {row.name}", file=sys.stderr)
            rows.append(row)
        return rows


async def _rows(size: Size, directory: Path) -> AsyncIterator[Row]:
    """Rows that only read a session come before those that write to it, folds before more turns: their windows are equal."""
    long = await fill(directory / "long.db", size.long)
    middle = await fill(directory / "middle.db", size.middle)
    short = await fill(directory / "short.db", size.short)
    yield children.file_size(long)
    yield await sessions.record_against_floor(directory, size.rounds)
    yield await sessions.context_when_long(long, middle, size.rounds)
    yield await sessions.load_when_long(long, middle, size.heavy_rounds)
    yield await sessions.fold_when_long(long, middle, size.fold_rounds)
    yield await sessions.record_when_long(long, short, size.rounds)
    yield await sessions.many_sessions(directory, max(size.heavy_rounds // 5, 2), size.turns_each)
    memory = children.memory(long, await fill(directory / "empty.db", 0), max(size.child_rounds // 2, 1))
    if memory is not None:
        yield memory
    yield children.import_time(size.child_rounds)


if __name__ == "__main__":
    main()
