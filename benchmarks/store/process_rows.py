"""Rows measured in their own processes (memory, import time), and the size of the database."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from statistics import median

from benchmarks.store.benchmark_row import Row
from benchmarks.store.long_session import SESSION_ID, LongSession
from benchmarks.store.sample_turns import PAYLOAD_BYTES, Turn, make_turns

STATM = Path("/proc/self/statm")
BYTES_PER_MB = 1_000_000
LIBRARIES = "import pydantic, aiosqlite, anyio"
IMPORTS = ("from mnesis import MnesisSession", LIBRARIES)
FIRST_SESSIONS = (
    "import asyncio, tempfile, os; from mnesis import MnesisSession\n"
    "async def main(directory):\n"
    "    async with MnesisSession.open(model=None, db_path=os.path.join(directory, 'chat.db')) as session:\n"
    "        await session.record('Which port?', '5433')\n"
    "with tempfile.TemporaryDirectory() as directory:\n"
    "    asyncio.run(main(directory))",
    "import anyio, asyncio, aiosqlite, tempfile, os; from pydantic import BaseModel\n"
    "async def main(directory):\n"
    "    async with aiosqlite.connect(os.path.join(directory, 'chat.db')) as database:\n"
    "        await database.execute('CREATE TABLE messages (role TEXT, content TEXT)')\n"
    "        await database.execute('INSERT INTO messages VALUES (?, ?)', ('user', 'Which port?'))\n"
    "        await database.commit()\n"
    "with tempfile.TemporaryDirectory() as directory:\n"
    "    asyncio.run(main(directory))",
)
"""Programs that import, create a database, store one turn and end."""


def measure_memory(long: LongSession, empty: LongSession, rounds: int) -> Row | None:
    """Compare the resident memory of a session on a long log with an empty one. None if the system does not report it."""
    if not STATM.exists():
        return None
    samples: list[list[float]] = [[], []]
    for _ in range(rounds):
        for place, session in enumerate((long, empty)):
            samples[place].append(float(_run_child("-m", "benchmarks.store.process_rows", str(session.path))))
    return Row(
        "resident memory, long - empty session", median(samples[0]), median(samples[1]), "MB", 20.0, "difference"
    )


def measure_import_time(rounds: int) -> Row:
    """Compare importing the class that programs use with importing the libraries it is built on."""
    ours, floor = _processor_times(IMPORTS, rounds)
    return Row("from mnesis import MnesisSession / pydantic + aiosqlite + anyio", ours, floor, "ms", 1.3)


def measure_first_session(rounds: int) -> Row:
    """Compare a process that stores its first turn with one that writes a row with the same libraries."""
    ours, floor = _processor_times(FIRST_SESSIONS, rounds)
    return Row("import and first recorded turn / same libraries, one table", ours, floor, "ms", 8.0)


def _processor_times(programs: tuple[str, str], rounds: int) -> tuple[float, float]:
    """Return the median processor time of two programs, in milliseconds, each run in separate processes by turns."""
    samples: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for place, program in enumerate(programs):
            code = f"from time import process_time as now; start = now()\n{program}\nprint((now() - start) * 1000)"
            milliseconds = float(_run_child("-c", code))
            if number:
                samples[place].append(milliseconds)
    return median(samples[0]), median(samples[1])


def measure_file_size(long: LongSession) -> Row:
    """Compare the bytes of the database, after a checkpoint, with the bytes of text in it."""
    connection = sqlite3.connect(long.path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    payload = long.messages // 2 * PAYLOAD_BYTES
    return Row(
        f"database at {long.messages:,} messages / payload",
        _database_bytes(long.path) / BYTES_PER_MB,
        payload / BYTES_PER_MB,
        "MB",
        2.0,
    )


def _database_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.parent.glob(path.name + "*"))


def _run_child(*arguments: str) -> str:
    root = Path(__file__).parents[2]
    completed = subprocess.run([sys.executable, *arguments], cwd=root, capture_output=True, text=True, check=True)
    return completed.stdout.strip().splitlines()[-1]


async def _use_session(path: str) -> None:
    """Use a session as a program does: load it, record a turn, read the window. Prints the resident memory in MB."""
    from benchmarks.store.sample_turns import CONFIG
    from mnesis import MnesisSession

    turn: Turn = make_turns(1)[0]
    session = await MnesisSession.load(SESSION_ID, config=CONFIG, db_path=path)
    await session.record(turn.user_text, turn.assistant_text)
    await session.context_for_next_turn()
    print(_resident_mb())
    await session.close()


def _resident_mb() -> float:
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / BYTES_PER_MB


if __name__ == "__main__":
    asyncio.run(_use_session(sys.argv[1]))
