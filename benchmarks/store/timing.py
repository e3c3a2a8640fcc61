"""Timing of things that take turns, so that whatever else the machine does falls on all of them alike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from statistics import median
from time import perf_counter

Timed = Callable[[], Awaitable[float]]
"""Does something once; returns the seconds that count."""


async def medians(works: Sequence[Timed], rounds: int, warm_ups: int = 3) -> list[float]:
    """The median seconds of each, done A B A B …, after some rounds that do not count."""
    taken: list[list[float]] = [[] for _ in works]
    for number in range(rounds + warm_ups):
        for place, work in enumerate(works):
            seconds = await work()
            if number >= warm_ups:
                taken[place].append(seconds)
    return [median(seconds) for seconds in taken]


async def seconds_of(work: Awaitable[object]) -> float:
    """How long it takes."""
    started = perf_counter()
    await work
    return perf_counter() - started
