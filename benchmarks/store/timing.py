"""Interleaved timing of several pieces of work, so that other load on the machine affects all of them equally."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from statistics import median
from time import perf_counter, process_time

TimedWork = Callable[[], Awaitable[float]]
"""Does the work once and returns the measured seconds."""


async def median_seconds(works: Sequence[TimedWork], rounds: int, warm_ups: int = 3) -> list[float]:
    """Return the median seconds of each work, run A B A B …, after `warm_ups` rounds that are not counted."""
    samples: list[list[float]] = [[] for _ in works]
    for number in range(rounds + warm_ups):
        for place, work in enumerate(works):
            seconds = await work()
            if number >= warm_ups:
                samples[place].append(seconds)
    return [median(seconds) for seconds in samples]


async def time_work(work: Awaitable[object]) -> float:
    """Await `work` and return its seconds."""
    started = perf_counter()
    await work
    return perf_counter() - started


async def time_processor(work: Awaitable[object]) -> float:
    """Await `work` and return the processor seconds of all threads, which depend less on what else the machine does."""
    started = process_time()
    await work
    return process_time() - started
