"""Rows that need a process of their own: memory, and the time of an import. And the size of the file."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from statistics import median

from benchmarks.store.fill import SESSION_ID, LongSession
from benchmarks.store.material import PAYLOAD_BYTES, Turn, turns
from benchmarks.store.rows import Row

STATM = Path("/proc/self/statm")
MB = 1_000_000
IMPORTS = ("import mnesis", "import pydantic, aiosqlite, anyio")


def memory(long: LongSession, empty: LongSession, rounds: int) -> Row | None:
    """Resident memory of a session on a long log over that on an empty one; None where the system does not tell."""
    if not STATM.exists():
        return None
    taken: list[list[float]] = [[], []]
    for _ in range(rounds):
        for place, session in enumerate((long, empty)):
            taken[place].append(float(_child("-m", "benchmarks.store.children", str(session.path))))
    return Row("resident memory, long - empty session", median(taken[0]), median(taken[1]), "MB", 20.0, "difference")


def import_time(rounds: int) -> Row:
    """Importing mnesis against importing what it is built on."""
    taken: list[list[float]] = [[], []]
    for number in range(rounds + 1):
        for place, statement in enumerate(IMPORTS):
            timed = f"from time import perf_counter as now; s = now(); {statement}; print((now() - s) * 1000)"
            milliseconds = float(_child("-c", timed))
            if number:
                taken[place].append(milliseconds)
    return Row("import mnesis / pydantic + aiosqlite + anyio", median(taken[0]), median(taken[1]), "ms", 1.5)


def file_size(long: LongSession) -> Row:
    """Bytes of the database, its write-ahead log emptied into it, against bytes of text in it."""
    connection = sqlite3.connect(long.path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    payload = long.messages // 2 * PAYLOAD_BYTES
    return Row(f"database at {long.messages:,} messages / payload", _size(long.path) / MB, payload / MB, "MB", 2.0)


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.parent.glob(path.name + "*"))


def _child(*arguments: str) -> str:
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[-1]


async def _use(path: str) -> None:
    """What a program does with a session: load it, read the window, record a turn."""
    from benchmarks.store.material import CONFIG
    from mnesis import MnesisSession

    turn: Turn = turns(1)[0]
    session = await MnesisSession.load(SESSION_ID, config=CONFIG, db_path=path)
    await session.record(turn.asked, turn.answered)
    await session.context_for_next_turn()
    print(_resident_mb())
    await session.close()


def _resident_mb() -> float:
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MB


if __name__ == "__main__":
    asyncio.run(_use(sys.argv[1]))
