"""What following a database costs while nothing happens, and how soon an event reaches another process.

`python -m benchmarks.follow` prints both. The delay is at most the time between two looks, 80 ms, plus that of a read.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

from mnesis import Engine, MnesisEvent, MnesisSession

IDLE_SECONDS = 10.0
EVENTS = 100


async def measure_idle_fraction(path: Path, seconds: float = IDLE_SECONDS) -> float:
    """Return the share of one core that an engine uses while it follows a database in which nothing happens."""
    async with Engine(path, follow=True):
        await asyncio.sleep(0.5)
        cpu, wall = time.process_time(), time.perf_counter()
        await asyncio.sleep(seconds)
        return (time.process_time() - cpu) / (time.perf_counter() - wall)


async def measure_delays(path: Path, count: int = EVENTS) -> list[float]:
    """Return the seconds between a record in another process and its event in this one, for `count` records."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_write, args=(str(path), there, count))
    arrivals: dict[int, float] = {}
    done = asyncio.Event()

    def arrive(_: MnesisEvent, payload: dict[str, int]) -> None:
        arrivals.setdefault(payload["seq"], time.time())
        if len(arrivals) >= 2 * count:
            done.set()

    async with Engine(path, follow=True) as engine:
        engine.events.subscribe(MnesisEvent.MESSAGE_CREATED, arrive)
        process.start()
        await done.wait()
    sent: list[float] = here.recv()
    process.join()
    return [arrivals[2 * number + 1] - moment for number, moment in enumerate(sent)]


def _write(path: str, pipe: Connection, count: int) -> None:
    async def write() -> list[float]:
        moments = []
        async with MnesisSession.open(model=None, db_path=path) as session:
            for number in range(count):
                await session.record(f"question {number}", "answer")
                moments.append(time.time())
                await asyncio.sleep(0.01 + 0.05 * (number % 7) / 7)
        return moments

    pipe.send(asyncio.run(write()))


async def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "follow.db"
        idle = await measure_idle_fraction(path)
        delays = sorted(await measure_delays(path))
    print(f"idle: {idle:.2%} of a core")
    print(
        f"delay: median {statistics.median(delays) * 1000:.0f} ms, 95 % {delays[int(len(delays) * 0.95)] * 1000:.0f} ms"
    )


if __name__ == "__main__":
    asyncio.run(main())
