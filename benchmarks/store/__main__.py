"""`python -m benchmarks.store`: cost of sessions, as ratios to a floor measured in the same run."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from benchmarks.store import process_rows, session_rows
from benchmarks.store.benchmark_row import HEAD, Row
from benchmarks.store.chain_row import chain_cost
from benchmarks.store.long_session import create_long_session
from benchmarks.tables import format_table


@dataclass(frozen=True, slots=True)
class Size:
    """Numbers of messages and rounds."""

    long: int = 50_000
    middle: int = 500
    indexed: int = 10_000
    short: int = 100
    rounds: int = 400
    heavy_rounds: int = 40
    fold_rounds: int = 25
    child_rounds: int = 7
    turns_each: int = 20


QUICK = Size(long=2_000, indexed=1_000, rounds=20, heavy_rounds=5, fold_rounds=3, child_rounds=1, turns_each=4)


def main() -> None:
    """Parse the arguments, run, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.store", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run with little data; its ratios mean little")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args()
    rows = asyncio.run(_measure(QUICK if options.quick else Size()))
    if options.json:
        print(json.dumps([{**asdict(row), "value": row.value, "ok": row.ok} for row in rows], indent=1))
    else:
        print(format_table(HEAD, [row.cells() for row in rows]))


async def _measure(size: Size) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="mnesis-benchmark-") as directory:
        rows = []
        async for row in _rows(size, Path(directory)):
            print(f"measured: {row.name}", file=sys.stderr)
            rows.append(row)
        return rows


async def _rows(size: Size, directory: Path) -> AsyncIterator[Row]:
    """Yield the rows. Reads come before writes and folds before more turns, so that the compared windows are equal."""
    long = await create_long_session(directory / "long.db", size.long)
    middle = await create_long_session(directory / "middle.db", size.middle)
    short = await create_long_session(directory / "short.db", size.short)
    yield process_rows.measure_file_size(long)
    yield await session_rows.record_against_floor(directory, size.rounds)
    if find_spec("sqlcipher3") is not None:
        yield await session_rows.measure_encrypted_record(directory, size.rounds)
    yield await chain_cost(directory, size.rounds)
    indexed = await create_long_session(directory / "bare.db", size.indexed)
    yield await session_rows.doctor_with_index(indexed, max(size.heavy_rounds // 8, 1))
    yield await session_rows.context_when_long(long, middle, size.rounds)
    yield await session_rows.load_when_long(long, middle, size.heavy_rounds)
    yield await session_rows.fold_when_long(long, middle, size.fold_rounds)
    yield await session_rows.record_when_long(long, short, size.rounds)
    for by_processor in (False, True):
        rounds = max(size.heavy_rounds // 5, 2)
        yield await session_rows.many_sessions(directory, rounds, size.turns_each, by_processor=by_processor)
    memory = process_rows.measure_memory(
        long, await create_long_session(directory / "empty.db", 0), max(size.child_rounds // 2, 1)
    )
    if memory is not None:
        yield memory
    yield process_rows.measure_import_time(size.child_rounds)
    yield process_rows.measure_first_session(size.child_rounds)


if __name__ == "__main__":
    main()
