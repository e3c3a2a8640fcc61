"""What tracing costs: `uv run python -m benchmarks.telemetry`.

Prints the time of an observation that nobody makes, how many a recorded turn contains, and so the share of the turn.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import timeit
from pathlib import Path
from typing import Any

from mnesis import MnesisSession
from mnesis.telemetry import hooks

CALLS, TURNS = 200_000, 300


def unused_nanoseconds() -> float:
    """Return the time of one observation that nobody makes, without the time of an empty loop."""

    def observe() -> None:
        with hooks.observe_store("sqlite", nothing):
            pass

    def nothing() -> None:
        pass

    seconds = [min(timeit.repeat(function, number=CALLS, repeat=5)) for function in (observe, nothing)]
    return (seconds[0] - seconds[1]) / CALLS * 1e9


class Counter:
    """Counts observations."""

    def __init__(self) -> None:
        self.count = 0

    def start(self, operation: hooks.Operation, facts: dict[str, Any]) -> hooks.Observation:
        """Count one."""
        self.count += 1
        return hooks.NOT_OBSERVED


async def record_turns(path: Path) -> tuple[float, float]:
    """Return the seconds of a recorded turn, and how many observations it contains."""
    async with MnesisSession.create(model=None, db_path=path) as session:
        await session.record("warm", "up")
        loop = asyncio.get_running_loop()
        started = loop.time()
        for _ in range(TURNS):
            await session.record("Where is the key?", "Under the pot.")
        seconds = (loop.time() - started) / TURNS
        counter = Counter()
        hooks.set_observer(counter)
        await session.record("Where is the key?", "Under the pot.")
        hooks.set_observer(None)
    return seconds, counter.count


def measure() -> dict[str, float]:
    """Return the figures."""
    with tempfile.TemporaryDirectory() as folder:
        turn_seconds, observations = asyncio.run(record_turns(Path(folder, "a.db")))
    nanoseconds = unused_nanoseconds()
    return {
        "observation_nanoseconds": nanoseconds,
        "observations_per_turn": observations,
        "turn_microseconds": turn_seconds * 1e6,
        "share_of_turn": nanoseconds * observations / (turn_seconds * 1e9),
    }


def main() -> None:
    """Print the figures."""
    figures = measure()
    print(f"an observation that nobody makes   {figures['observation_nanoseconds']:8.0f} ns")
    print(f"observations in a recorded turn    {figures['observations_per_turn']:8.0f}")
    print(f"a recorded turn                    {figures['turn_microseconds']:8.0f} µs")
    print(f"share of the turn                  {figures['share_of_turn']:8.3%}")


if __name__ == "__main__":
    sys.exit(main())
