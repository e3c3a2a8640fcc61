"""Rows of sessions: recording, reading the window, loading, folding, many at once."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from itertools import count, cycle
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.store.fill import SESSION_ID, LongSession
from benchmarks.store.floor import open_floor
from benchmarks.store.material import CONFIG, MODEL, turns
from benchmarks.store.rows import Row
from benchmarks.store.timing import Timed, medians, seconds_of
from mnesis import Engine, MnesisSession

MS = 1_000
MANY_SESSIONS = 50
TURNS_BETWEEN_FOLDS = 20
SUMMARY = (
    "The survey of the harbour was moved to May because the copper budget had to be agreed first; the ledger went to"
    " the garden office, and three open questions about the bridge, the signal and the lantern remain."
)


async def record_against_floor(directory: Path, rounds: int) -> Row:
    """One `record()` and one floor turn in turn."""
    texts = cycle(turns(200))
    async with open_floor(directory / "floor.db") as floor, _session(directory / "record.db") as session:

        async def bare() -> float:
            return await seconds_of(floor.write(1, next(texts)))

        recorded, floor_seconds = await medians([_recording(session), bare], rounds)
    return Row("record() / floor", recorded * MS, floor_seconds * MS, "ms", 3.0)


async def record_when_long(long: LongSession, short: LongSession, rounds: int) -> Row:
    """`record()` in a long session and in a short one with the same window."""
    async with AsyncExitStack() as stack:
        works = [_recording(await stack.enter_async_context(_session(s.path))) for s in (long, short)]
        cost, base = await medians(works, rounds)
    return Row(_name("record()", long, short), cost * MS, base * MS, "ms", 1.3)


async def context_when_long(long: LongSession, short: LongSession, rounds: int) -> Row:
    """`context_for_next_turn()` in both."""
    async with AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(_session(s.path)) for s in (long, short)]
        sizes = {len(await session.context_for_next_turn()) for session in sessions}
        assert len(sizes) == 1, f"the windows differ: {sizes}"
        cost, base = await medians([_reading(session) for session in sessions], rounds)
    return Row(_name("context_for_next_turn()", long, short), cost * MS, base * MS, "ms", 1.3)


async def load_when_long(long: LongSession, short: LongSession, rounds: int) -> Row:
    """`MnesisSession.load()` of both, database closed before."""
    cost, base = await medians([_loading(long.path), _loading(short.path)], rounds)
    return Row(_name("load()", long, short), cost * MS, base * MS, "ms", 1.3)


async def fold_when_long(long: LongSession, short: LongSession, rounds: int) -> Row:
    """`compact()` of twenty new turns in both, with a scripted model."""
    async with AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(_session(s.path)) for s in (long, short)]
        works = [_folding(session) for session in sessions]
        cost, base = await medians(works, rounds)
    return Row(_name("compact()", long, short), cost * MS, base * MS, "ms", 1.3)


async def many_sessions(directory: Path, rounds: int, turns_each: int) -> Row:
    """Turns per second of 50 sessions that record at the same time, against 50 tasks on one bare connection."""
    texts = turns(turns_each)
    async with AsyncExitStack() as stack:
        floor = await stack.enter_async_context(open_floor(directory / "many-floor.db", MANY_SESSIONS))
        engine = await stack.enter_async_context(Engine(directory / "many.db", config=CONFIG))
        opened = [
            await stack.enter_async_context(MnesisSession.open(model=MODEL, engine=engine))
            for _ in range(MANY_SESSIONS)
        ]

        async def recorded(session: MnesisSession) -> None:
            for turn in texts:
                await session.record(turn.asked, turn.answered)

        async def written(session_pk: int) -> None:
            for turn in texts:
                await floor.write(session_pk, turn)

        works: list[Timed] = [
            lambda: seconds_of(asyncio.gather(*(recorded(session) for session in opened))),
            lambda: seconds_of(asyncio.gather(*(written(pk) for pk in range(1, MANY_SESSIONS + 1)))),
        ]
        cost, base = await medians(works, rounds, warm_ups=1)
    done = MANY_SESSIONS * turns_each
    return Row("50 sessions at once / floor", done / cost, done / base, "turns/s", 0.4, "at least")


def _name(what: str, long: LongSession, short: LongSession) -> str:
    return f"{what} at {long.messages:,} / at {short.messages:,} messages"


def _session(path: Path) -> Any:
    return MnesisSession.open(model=MODEL, session_id=SESSION_ID, db_path=path, config=CONFIG, llm=_answer)


async def _answer(messages: list[dict[str, Any]]) -> str:
    return SUMMARY


def _recording(session: MnesisSession) -> Timed:
    texts = cycle(turns(200))

    async def once() -> float:
        turn = next(texts)
        return await seconds_of(session.record(turn.asked, turn.answered))

    return once


def _reading(session: MnesisSession) -> Timed:
    return lambda: seconds_of(session.context_for_next_turn())


def _loading(path: Path) -> Timed:
    async def once() -> float:
        started = perf_counter()
        session = await MnesisSession.load(SESSION_ID, config=CONFIG, db_path=path)
        taken = perf_counter() - started
        await session.close()
        return taken

    return once


def _folding(session: MnesisSession) -> Timed:
    numbers = count()

    async def once() -> float:
        for turn in turns(TURNS_BETWEEN_FOLDS, seed=next(numbers)):
            await session.record(turn.asked, turn.answered)
        return await seconds_of(session.compact())

    return once
