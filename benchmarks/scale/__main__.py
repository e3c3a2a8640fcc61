"""`python -m benchmarks.scale`: cost and memory at a million messages in a session, and at ten thousand sessions."""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks.scale.command_work import LIST_COMMANDS, LOG_COMMANDS, measure_commands
from benchmarks.scale.databases import create_long, create_many
from benchmarks.scale.scale_row import HEAD, ScaleRow
from benchmarks.scale.session_work import measure_search_of_all, measure_session
from benchmarks.tables import format_table

SHORT_MESSAGES = 1_000
"""What a session of many messages is compared with."""
ROUNDS = 200


def main() -> None:
    """Parse the arguments, run, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000, help="messages of the long session")
    parser.add_argument("--sessions", type=int, default=10_000, help="sessions of the database with many")
    parser.add_argument("--directory", type=Path, help="where the databases are created, several gigabytes")
    parser.add_argument("--quick", action="store_true", help="a smoke run with little data; its ratios mean little")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args()
    messages, sessions = (2_000, 40) if options.quick else (options.messages, options.sessions)
    with tempfile.TemporaryDirectory(prefix="mnesis-scale-", dir=options.directory) as directory:
        rows = measure(Path(directory), messages, sessions, 5 if options.quick else ROUNDS)
    if options.json:
        print(json.dumps([{**asdict(row), "ratio": row.ratio} for row in rows], indent=1))
    else:
        print(format_table(HEAD, [row.cells() for row in rows]))


def measure(directory: Path, messages: int, sessions: int, rounds: int) -> list[ScaleRow]:
    """Fill the databases and measure them.

    Commands are compared at a tenth of the size and at the full one, because what grows with the log is small in a short one.
    """
    empty = asyncio.run(create_long(directory / "empty.db", 0))
    short = asyncio.run(create_long(directory / "short.db", min(SHORT_MESSAGES, messages // 10)))
    middle = asyncio.run(create_long(directory / "middle.db", messages // 10))
    long = asyncio.run(create_long(directory / "long.db", messages))
    rows = measure_commands(LOG_COMMANDS, empty, middle, long, "message")
    rows += asyncio.run(measure_session(short, long, rounds, "long session"))
    few = asyncio.run(create_many(directory / "few.db", sessions // 10))
    many = asyncio.run(create_many(directory / "many.db", sessions))
    rows += measure_commands(LIST_COMMANDS, empty, few, many, "session")
    rows += asyncio.run(measure_session(few, many, rounds, "many sessions"))
    rows.append(asyncio.run(measure_search_of_all(few, many, rounds // 4 + 1)))
    return rows


if __name__ == "__main__":
    main()
