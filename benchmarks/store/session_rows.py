"""Rows measured on sessions: recording, reading the window, loading, folding, many sessions at once."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from itertools import count, cycle
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.store.benchmark_row import Row
from benchmarks.store.floor import open_floor
from benchmarks.store.long_session import SESSION_ID, LongSession
from benchmarks.store.sample_turns import CONFIG, MODEL, make_turns
from benchmarks.store.timing import TimedWork, median_seconds, time_processor, time_work
from mnesis import Engine, MnesisConfig, MnesisSession, StoreConfig
from mnesis.models.search import Search

MS_PER_SECOND = 1_000
MANY_SESSIONS = 50
TURNS_BETWEEN_FOLDS = 20
SUMMARY = (
    "The survey of the harbour was moved to May because the copper budget had to be agreed first; the ledger went to"
    " the garden office, and three open questions about the bridge, the signal and the lantern remain."
)


async def record_against_floor(directory: Path, rounds: int) -> Row:
    """Compare one `record()` with one floor turn."""
    texts = cycle(make_turns(200))
    async with open_floor(directory / "floor.db") as floor, _open_session(directory / "record.db") as session:

        async def time_floor_turn() -> float:
            return await time_work(floor.write(1, next(texts)))

        recorded, floor_seconds = await median_seconds([_timed_record(session), time_floor_turn], rounds)
    return Row("record() / floor", recorded * MS_PER_SECOND, floor_seconds * MS_PER_SECOND, "ms", 3.0)


async def record_when_long(long: LongSession, short: LongSession, rounds: int) -> Row:
    """Compare `record()` in a long and a short session with the same window."""
    async with AsyncExitStack() as stack:
        works = [_timed_record(await stack.enter_async_context(_open_session(s.path))) for s in (long, short)]
        cost, base = await median_seconds(works, rounds)
    return Row(_row_name("record()", long, short), cost * MS_PER_SECOND, base * MS_PER_SECOND, "ms", 1.3)


async def context_when_long(long: LongSession, short: LongSession, rounds: int) -> Row:
    """Compare `context_for_next_turn()` in both."""
    async with AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(_open_session(s.path)) for s in (long, short)]
        sizes = {len(await session.context_for_next_turn()) for session in sessions}
        assert len(sizes) == 1, f"the windows differ: {sizes}"
        cost, base = await median_seconds([_timed_window(session) for session in sessions], rounds)
    return Row(_row_name("context_for_next_turn()", long, short), cost * MS_PER_SECOND, base * MS_PER_SECOND, "ms", 1.3)


async def load_when_long(long: LongSession, short: LongSession, rounds: int) -> Row:
    """Compare `MnesisSession.load()` of both, with the database closed before."""
    cost, base = await median_seconds([_timed_load(long.path), _timed_load(short.path)], rounds)
    return Row(_row_name("load()", long, short), cost * MS_PER_SECOND, base * MS_PER_SECOND, "ms", 1.3)


async def fold_when_long(long: LongSession, short: LongSession, rounds: int) -> Row:
    """Compare `compact()` of twenty new turns in both, with a scripted model."""
    async with AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(_open_session(s.path)) for s in (long, short)]
        works = [_timed_fold(session) for session in sessions]
        cost, base = await median_seconds(works, rounds)
    return Row(_row_name("compact()", long, short), cost * MS_PER_SECOND, base * MS_PER_SECOND, "ms", 1.3)


async def many_sessions(directory: Path, rounds: int, turns_each: int, *, by_processor: bool = False) -> Row:
    """Compare the turns per second of 50 concurrent sessions with 50 tasks on one bare connection.

    `by_processor` counts the seconds that processors work, not those that pass.
    """
    texts, kind = make_turns(turns_each), "processor" if by_processor else "wall"
    measure = time_processor if by_processor else time_work
    async with AsyncExitStack() as stack:
        floor = await stack.enter_async_context(open_floor(directory / f"many-floor-{kind}.db", MANY_SESSIONS))
        engine = await stack.enter_async_context(Engine(directory / f"many-{kind}.db", config=CONFIG))
        sessions = [
            await stack.enter_async_context(MnesisSession.open(model=MODEL, engine=engine))
            for _ in range(MANY_SESSIONS)
        ]

        async def record_turns(session: MnesisSession) -> None:
            for turn in texts:
                await session.record(turn.user_text, turn.assistant_text)

        async def write_turns(session_pk: int) -> None:
            for turn in texts:
                await floor.write(session_pk, turn)

        works: list[TimedWork] = [
            lambda: measure(asyncio.gather(*(record_turns(session) for session in sessions))),
            lambda: measure(asyncio.gather(*(write_turns(pk) for pk in range(1, MANY_SESSIONS + 1)))),
        ]
        cost, base = await median_seconds(works, rounds, warm_ups=1)
    turn_count = MANY_SESSIONS * turns_each
    name = f"50 sessions at once{', processor time' if by_processor else ''} / floor"
    return Row(name, turn_count / cost, turn_count / base, "turns/s", 0.3 if by_processor else 0.4, "at least")


async def doctor_with_index(middle: LongSession, rounds: int) -> Row:
    """Compare the check of a database with a full index of words and substrings with that of the same log without one."""
    indexed = middle.path.with_name("indexed.db")
    async with Engine(middle.path, config=CONFIG) as engine:
        await engine.store.backup(indexed)
    async with Engine(middle.path, config=CONFIG) as bare, Engine(indexed, config=CONFIG) as full:
        await full.store.search(Search("ledger"))
        await full.store.search(Search("ledger", mode="substring"))
        works = [_timed_check(engine) for engine in (full, bare)]
        cost, base = await median_seconds(works, rounds, warm_ups=1)
    name = f"doctor at {middle.messages:,} messages, with / without a search index"
    return Row(name, cost * MS_PER_SECOND, base * MS_PER_SECOND, "ms", 2.0)


def _timed_check(engine: Engine) -> TimedWork:
    return lambda: time_work(engine.store.check())


def _row_name(what: str, long: LongSession, short: LongSession) -> str:
    return f"{what} at {long.messages:,} / at {short.messages:,} messages"


def _open_session(path: Path, config: MnesisConfig = CONFIG) -> Any:
    return MnesisSession.open(model=MODEL, session_id=SESSION_ID, db_path=path, config=config, llm=_answer)


async def _answer(messages: list[dict[str, Any]]) -> str:
    return SUMMARY


def _timed_record(session: MnesisSession) -> TimedWork:
    texts = cycle(make_turns(200))

    async def once() -> float:
        turn = next(texts)
        return await time_work(session.record(turn.user_text, turn.assistant_text))

    return once


def _timed_window(session: MnesisSession) -> TimedWork:
    return lambda: time_work(session.context_for_next_turn())


def _timed_load(path: Path) -> TimedWork:
    async def once() -> float:
        started = perf_counter()
        session = await MnesisSession.load(SESSION_ID, config=CONFIG, db_path=path)
        taken = perf_counter() - started
        await session.close()
        return taken

    return once


def _timed_fold(session: MnesisSession) -> TimedWork:
    numbers = count()

    async def once() -> float:
        for turn in make_turns(TURNS_BETWEEN_FOLDS, seed=next(numbers)):
            await session.record(turn.user_text, turn.assistant_text)
        return await time_work(session.compact())

    return once


async def measure_encrypted_record(directory: Path, rounds: int) -> Row:
    """Compare `record()` in an encrypted database with one that is not."""
    key = StoreConfig(encryption_key="ab" * 32)
    async with (
        _open_session(directory / "encrypted.db", CONFIG.model_copy(update={"store": key})) as session,
        _open_session(directory / "plain.db") as plain,
    ):
        cost, base = await median_seconds([_timed_record(session), _timed_record(plain)], rounds)
    return Row("record() encrypted / not", cost * MS_PER_SECOND, base * MS_PER_SECOND, "ms", 2.0)
