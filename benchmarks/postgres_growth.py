"""How PostgreSQL behaves as the log grows: the same calls on a small database and on one of a hundred times its size."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg

from benchmarks.store.benchmark_row import Row
from benchmarks.store.sample_turns import make_turns
from benchmarks.store.timing import median_seconds, time_work
from mnesis import Engine, MnesisSession
from mnesis.database_url import DatabaseURL
from mnesis.models.message import Message, text_message
from mnesis.models.search import Search
from mnesis.models.session import SessionRecord
from mnesis.store.base import Append, Store

SESSION_MESSAGES = 10_000
BATCH_MESSAGES = 200
WRITERS = 4
TURNS = make_turns(64)
SMALL_PART = 100
"""The database that is compared with has this part of the messages."""


async def measure_growth(url: str, small_url: str, messages: int, rounds: int) -> list[Row]:
    """Fill a database with sessions of 10,000 messages, and compare calls on it with the same calls on a small database.

    Both are measured in turn, at a tenth and at all of the final size. The small one stays at a hundredth.
    """
    rows: list[Row] = []
    async with Engine(url) as engine, Engine(small_url) as small:
        filled, seconds = max(messages // SMALL_PART, BATCH_MESSAGES), 0.0
        await _fill(small.store, 0, filled)
        await _fill(engine.store, 0, filled)
        for target in (messages // 10, messages):
            started = time.perf_counter()
            await _fill(engine.store, filled, target)
            seconds += time.perf_counter() - started
            filled = target
            for each in (url, small_url):
                await asyncio.to_thread(_execute, each, "ANALYZE")
            works, small_works = [await _prepare_calls(each) for each in (engine, small)]
            medians = iter(await median_seconds([*small_works.values(), *works.values()], rounds))
            base = [next(medians) for _ in small_works]
            rows += [
                Row(f"{name}, {filled:,} messages", 1e3 * grown, 1e3 * before, "ms", 1.3)
                for name, grown, before in zip(works, medians, base, strict=True)
            ]
            log_bytes, index_bytes = await asyncio.to_thread(_sizes, url)
            print(
                f"{filled:,} messages: {log_bytes / 1e6:,.0f} MB, search index {index_bytes / 1e6:,.0f} MB", flush=True
            )
    print(f"{filled / seconds:,.0f} messages per second were stored", flush=True)
    return rows


async def _fill(store: Store, first: int, last: int) -> None:
    """Append messages until there are `last`, in sessions of 10,000, from four writers."""
    starts = iter(range(first - first % SESSION_MESSAGES, last, SESSION_MESSAGES))

    async def write() -> None:
        for start in starts:
            session_id = f"grown-{start // SESSION_MESSAGES}"
            await store.create_session(SessionRecord(id=session_id, model="m"))
            end = min(start + SESSION_MESSAGES, last)
            for number in range(max(first, start), end, BATCH_MESSAGES):
                numbers = range(number, min(number + BATCH_MESSAGES, end))
                await store.append(session_id, Append([_message(each) for each in numbers]))

    await asyncio.gather(*(write() for _ in range(WRITERS)))


def _message(number: int) -> Message:
    turn = TURNS[number // 2 % len(TURNS)]
    text = f"Where is drawer number {number}? {turn.user_text}" if number % 2 == 0 else turn.assistant_text
    return text_message("assistant" if number % 2 else "user", text, token_count=50)


async def _prepare_calls(engine: Engine) -> dict[str, Callable[[], Awaitable[float]]]:
    """Return the calls to time. They use sessions that do not grow, but for `record()`."""
    store, numbers = engine.store, iter(range(10**9))
    session = await MnesisSession.open(model=None, engine=engine, session_id="recorded")
    await store.create_session(SessionRecord(id="searched", model="m"))
    if not (await store.session("searched")).last_seq:
        await store.append("searched", Append([_message(each) for each in range(BATCH_MESSAGES)]))
    search = Search(query="drawer number seven", session_id="searched", limit=10)

    async def record() -> float:
        turn = TURNS[next(numbers) % len(TURNS)]
        return await time_work(session.record(turn.user_text, turn.assistant_text))

    async def read_page() -> float:
        after = next(numbers) * 7919 % SESSION_MESSAGES
        return await time_work(store.messages("grown-0", after_seq=after, limit=50))

    return {
        "record()": record,
        "a page of messages": read_page,
        "search in one session": lambda: time_work(store.search(search)),
        "20 newest sessions": lambda: time_work(store.sessions(limit=20)),
    }


def _sizes(url: str) -> tuple[int, int]:
    """Return the bytes of the log and of the search index."""
    statement = (
        "SELECT relname LIKE 'search%%', sum(pg_total_relation_size(oid))::bigint FROM pg_class"
        " WHERE relkind = 'r' AND relnamespace = %s::regnamespace GROUP BY 1"
    )
    sizes = dict(_execute(url, statement, (DatabaseURL(url).schema,)))
    return sizes.get(False, 0), sizes.get(True, 0)


def _execute(url: str, statement: str, parameters: tuple[Any, ...] | None = None) -> list[Any]:
    with psycopg.connect(DatabaseURL(url).conninfo, autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), parameters)
        return cursor.fetchall() if cursor.description is not None else []
