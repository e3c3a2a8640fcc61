"""mnesis compared with other stores of conversations: `python -m benchmarks.peers` (about a minute).

One run measures all of them by turns: a turn is stored, the newest 50 messages are read and read again, and what was stored is opened
and read by a new object. Cells are medians in milliseconds, `processor / wall`. The processor time covers all threads and does not depend on
what else the machine does as much as wall time. `--sizes` are the messages stored before, `--chars` those of a turn. A store that
exceeds `--budget` seconds for one step leaves the run, and the table shows a dash.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import warnings
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

from benchmarks.peers.stores import FILL_MESSAGES, PEERS, Peer, Texts, is_installed
from benchmarks.tables import format_table

WORKS = ("append", "read", "again", "open")
Sample = tuple[float, float]


class Contestant:
    """One store in the run, with its samples."""

    def __init__(self, peer: Peer, directory: Path, budget_seconds: float) -> None:
        self.peer = peer
        self.samples: dict[str, list[Sample]] = {work: [] for work in WORKS}
        self.is_out = False
        self._directory = directory
        self._budget_seconds = budget_seconds

    async def measure(self, work: str, action: Callable[[], Awaitable[object]]) -> None:
        """Run an action and keep its processor and wall time in milliseconds. Takes the store out if it is too slow."""
        if self.is_out:
            return
        wall, processor = perf_counter(), process_time()
        try:
            await asyncio.wait_for(action(), self._budget_seconds)
        except TimeoutError:
            self.is_out = True
            return
        sample = ((process_time() - processor) * 1_000, (perf_counter() - wall) * 1_000)
        self.samples.setdefault(work, []).append(sample)
        self.is_out = sample[1] > self._budget_seconds * 1_000

    async def prepare(self) -> None:
        """Get ready for the next turn: the window that precedes it was read. Not a work of the table."""
        await self.measure("prepare", self._prepare_and_read)

    async def _prepare_and_read(self) -> None:
        await self.peer.prepare()
        await self.peer.read()

    async def open_and_read(self) -> None:
        """Open what is stored with a new object of the same kind, and read it."""
        other = type(self.peer)()
        await other.open(self._directory)
        await other.read()
        await other.close()

    async def fill(self, turns: list[Texts]) -> None:
        """Store the turns that are there before the measurement."""
        step = FILL_MESSAGES // 2
        for start in range(0, len(turns), step):
            await self.measure("fill", partial(self.peer.fill, turns[start : start + step]))

    def cell(self, work: str) -> str:
        """Return the medians of a work."""
        samples = self.samples[work]
        if self.is_out or not samples:
            return "–"
        return " / ".join(f"{median(values):.2f}" for values in zip(*samples, strict=True))


async def run(sizes: list[int], chars: int, rounds: int, budget_seconds: float, names: list[str]) -> list[list[str]]:
    """Measure all stores at each size. Returns the rows of the table."""
    rows: dict[str, list[str]] = {}
    for size in sizes:
        with tempfile.TemporaryDirectory() as directory:
            for contestant in await _compete(Path(directory), size, chars, rounds, budget_seconds, names):
                cells = [contestant.cell(work) for work in WORKS]
                rows.setdefault(contestant.peer.name, []).extend(cells)
    return [[name, *cells] for name, cells in rows.items()]


async def _compete(
    directory: Path, size: int, chars: int, rounds: int, budget_seconds: float, names: list[str]
) -> list[Contestant]:
    chosen: list[type[Any]] = [peer for peer in PEERS if not names or any(name in peer.name for name in names)]
    contestants = [Contestant(peer(), directory, budget_seconds) for peer in chosen if is_installed(peer)]
    turns = [Texts.make(number, chars) for number in range(size // 2)]
    for contestant in contestants:
        await contestant.peer.open(directory)
        await contestant.fill(turns)
    for number in range(rounds):
        turn = Texts.make(size + number, chars)
        order = _rotate(contestants, number)
        for contestant in order:
            await contestant.prepare()
        for contestant in order:
            await contestant.measure("append", partial(contestant.peer.append, turn))
        for work in ("read", "again"):
            for contestant in order:
                await contestant.measure(work, contestant.peer.read)
    for contestant in contestants:
        await contestant.peer.close()
    for number in range(max(rounds // 2, 1)):
        for contestant in _rotate(contestants, number):
            await contestant.measure("open", contestant.open_and_read)
    return contestants


def _rotate(contestants: list[Contestant], number: int) -> list[Contestant]:
    """Return the stores in the order of a round: each is measured after each other one, whose caches and garbage it meets."""
    start = number % len(contestants)
    return contestants[start:] + contestants[:start]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10,1000", help="messages stored before, by commas, up to 100,000")
    parser.add_argument("--chars", type=int, default=800, help="characters of a turn (800, 2000, 50000)")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--budget", type=float, default=20.0, help="seconds that one step of a store may take")
    parser.add_argument("--only", default="", help="parts of the names of stores, by commas")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of the compared libraries, about versions to come
    sizes = [int(size) for size in options.sizes.split(",")]
    names = [name for name in options.only.split(",") if name]
    rows = asyncio.run(run(sizes, options.chars, options.rounds, options.budget, names))
    print(format_table(["ms, processor / wall", *(f"{work} {size:,}" for size in sizes for work in WORKS)], rows))


if __name__ == "__main__":
    main()
