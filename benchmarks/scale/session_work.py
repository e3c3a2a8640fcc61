"""What one session costs in a database: recording a turn, reading the window, opening it, searching it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from itertools import cycle
from statistics import median

from benchmarks.scale.databases import Filled
from benchmarks.scale.scale_row import ScaleRow
from benchmarks.store.sample_turns import CONFIG, MODEL, make_turns
from mnesis import Engine, MnesisSession

MS_PER_SECOND = 1_000
WARM_UPS = 3
QUESTIONS = ("the harbour survey", "copper budget ledger", "lantern bridge signal", "velvet saddle engine pocket")

Work = Callable[[], Awaitable[object]]


async def measure_session(small: Filled, large: Filled, rounds: int, label: str) -> list[ScaleRow]:
    """Compare the work on one session in both databases, by turns, in processor time. Search indexes must be complete."""
    rows = [
        await _compare(f"open, {label}", small, large, [_opening(each) for each in (small, large)], rounds // 4 + 1)
    ]
    async with AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(_open(each)) for each in (small, large)]
        for name, make_work in (("window", _reading), ("record", _recording), ("search", _searching)):
            works = [make_work(session) for session in sessions]
            rows.append(await _compare(f"{name}, {label}", small, large, works, rounds))
    return rows


async def measure_search_of_all(small: Filled, large: Filled, rounds: int) -> ScaleRow:
    """Compare searches of every session of both databases. Search indexes must be complete."""
    async with Engine(small.path, config=CONFIG) as few, Engine(large.path, config=CONFIG) as many:
        return await _compare("search every session", small, large, [_searching(few), _searching(many)], rounds)


def _open(filled: Filled) -> AbstractAsyncContextManager[MnesisSession]:
    return MnesisSession.open(model=MODEL, session_id=filled.session_id, db_path=filled.path, config=CONFIG)


def _opening(filled: Filled) -> Work:
    async def open_and_read() -> None:
        async with _open(filled) as session:
            await session.context_for_next_turn()

    return open_and_read


def _reading(session: MnesisSession) -> Work:
    return session.context_for_next_turn


def _recording(session: MnesisSession) -> Work:
    turns = cycle(make_turns(200))

    async def record() -> None:
        turn = next(turns)
        await session.record(turn.user_text, turn.assistant_text)

    return record


def _searching(session: MnesisSession | Engine) -> Work:
    questions = cycle(QUESTIONS)

    async def search() -> None:
        await session.search(next(questions))

    return search


async def _compare(name: str, small: Filled, large: Filled, works: list[Work], rounds: int) -> ScaleRow:
    samples: list[list[float]] = [[] for _ in works]
    for number in range(rounds + WARM_UPS):
        for place, work in enumerate(works):
            started = time.process_time()
            await work()
            if number >= WARM_UPS:
                samples[place].append((time.process_time() - started) * MS_PER_SECOND)
    small_ms, large_ms = (median(each) for each in samples)
    return ScaleRow(name, "ms", small.size, small_ms, large.size, large_ms)
