"""One connection for every loop, thread and task; transactions that nothing can split; costs that do not grow."""

from __future__ import annotations

import asyncio
import inspect
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiosqlite
import pytest

from mnesis.errors import DuplicateIDError, MnesisStoreError, SessionNotFoundError
from mnesis.models.context import Cover
from mnesis.models.session import SessionRecord
from mnesis.store.base import Append
from mnesis.store.sqlite import SqliteStore
from mnesis.store.sqlite.database import MAX_BATCH
from mnesis.testing.store_suite import condensed, conversation, leaf, refuses, said, sweep, turn

STEPS = 60


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "s.db")
    await store.open()
    yield store
    await store.close()


def test_what_is_used_of_aiosqlite_is_there() -> None:
    worker = aiosqlite.connect(":memory:")
    assert isinstance(worker._thread, threading.Thread)
    ran = threading.Event()
    worker._thread.daemon = True
    worker._thread.start()
    worker._tx.put_nowait((None, ran.set))
    worker._tx.put_nowait((None, worker.stop))
    worker._thread.join(30)
    assert ran.is_set()
    assert not worker._thread.is_alive()


async def test_the_thread_does_not_keep_a_process_alive(store: SqliteStore) -> None:
    worker = store._database._worker
    assert worker is not None
    assert worker._thread.daemon
    await store.close()
    worker._thread.join(30)
    assert not worker._thread.is_alive()
    await store.open()


async def test_a_forgotten_store_warns_and_lets_its_thread_go(tmp_path: Path) -> None:
    forgotten = SqliteStore(tmp_path / "s.db")
    await forgotten.open()
    await forgotten.create_session(SessionRecord(id="s", model="m"))
    worker = forgotten._database._worker
    assert worker is not None
    idle = threading.Event()
    worker._tx.put_nowait((None, idle.set))
    idle.wait(30)
    references = [forgotten]
    del forgotten
    with pytest.warns(ResourceWarning, match="never closed"):
        references.clear()
    worker._thread.join(30)
    assert not worker._thread.is_alive()


async def every_step(act: Callable[[], Awaitable[object]]) -> int:
    """Cancel `act` at its first loop step, at its second, … or until it ends by itself; returns how often."""
    for step in range(STEPS):
        task = asyncio.ensure_future(act())
        for _ in range(step):
            await asyncio.sleep(0)
            if task.done():
                await task
                return step
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    return STEPS


async def test_cancelling_at_any_step_leaves_whole_turns_and_no_transaction(store: SqliteStore) -> None:
    await conversation(store, 1)
    numbers = iter(range(10, 10_000))
    cancelled = await every_step(lambda: store.append("s", turn(next(numbers))))
    assert cancelled >= 1
    assert not await store._database.read(lambda c: c.in_transaction is False)
    session = await store.session("s")
    assert session.last_seq == 2 * session.turn_count == len(await store.messages("s"))
    await store.append("s", turn(0))

    async def fold() -> None:
        context = await store.active_context("s")
        seq = context.covers[-1].last_seq if context.covers else 0
        made = leaf(f"sum_{seq}", seq + 1, seq + 1)
        await store.compact("s", sweep(context.covers, [*context.covers, Cover(seq + 1, seq + 1, made.id)], [made]))

    await every_step(fold)
    await every_step(lambda: store.active_context("s"))
    assert await store.check() == []


async def test_cancelling_while_opening_leaves_a_store_that_can_be_opened(tmp_path: Path) -> None:
    for step in range(4):
        store = SqliteStore(tmp_path / f"{step}.db")
        task = asyncio.ensure_future(store.open())
        for _ in range(step):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.open()
        await conversation(store, 1)
        await store.close()


def test_one_store_serves_loops_one_after_another_and_at_once(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    asyncio.run(store.open())
    asyncio.run(_created(store))

    def many(start: int) -> None:
        async def run() -> None:
            await asyncio.gather(*(store.append("s", turn(number)) for number in range(start, start + 20)))

        asyncio.run(run())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(many, range(0, 160, 20)))
        lengths = list(pool.map(lambda _: len(store.turns("s")), range(16)))
    assert lengths == [160] * 16
    texts = [message.text_content() for message in asyncio.run(store.messages("s"))]
    assert sorted(texts[::2]) == sorted(f"question {number}" for number in range(160))
    assert [text.replace("question", "answer") for text in texts[::2]] == texts[1::2]
    asyncio.run(store.close())


async def _created(store: SqliteStore) -> None:
    await store.create_session(SessionRecord(id="s", model="m"))


def test_a_loop_that_is_closed_with_a_call_in_flight_disturbs_no_other(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    asyncio.run(store.open())
    asyncio.run(_created(store))
    begun, go_on = threading.Event(), threading.Event()

    def slow(connection: sqlite3.Connection) -> None:
        begun.set()
        go_on.wait(30)

    async def abandon() -> None:
        task = asyncio.ensure_future(store._database.read(slow))
        await asyncio.sleep(0)
        begun.wait(30)
        task.cancel()

    asyncio.run(abandon())
    go_on.set()
    asyncio.run(store.append("s", turn()))
    assert len(store.turns("s")) == 1
    asyncio.run(store.close())


def test_a_closed_loop_does_not_keep_others_from_their_answer(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    asyncio.run(store.open())
    asyncio.run(_created(store))
    begun, go_on = threading.Event(), threading.Event()

    def slow(connection: sqlite3.Connection) -> None:
        begun.set()
        go_on.wait(30)

    async def abandon(call: Callable[[], Awaitable[object]]) -> None:
        task = asyncio.ensure_future(call())
        await asyncio.sleep(0)
        task.cancel()

    async def write() -> None:
        task = asyncio.ensure_future(store.append("s", turn(2)))
        await asyncio.sleep(0)
        go_on.set()
        await task

    asyncio.run(abandon(lambda: store._database.read(slow)))
    begun.wait(30)
    asyncio.run(abandon(lambda: store.append("s", turn(1))))
    asyncio.run(asyncio.wait_for(write(), 30))
    assert len(store.turns("s")) == 2
    asyncio.run(store.close())


async def test_reading_at_once_works_while_a_loop_runs(store: SqliteStore) -> None:
    await conversation(store, 2)
    assert [snapshot.turn_index for snapshot in store.turns("s")] == [0, 1]


async def hold(store: SqliteStore) -> Callable[[], None]:
    """Keep the store's thread busy until the function that is returned is called."""
    begun, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def wait(connection: sqlite3.Connection) -> None:
        loop.call_soon_threadsafe(begun.set)
        go_on.wait(30)

    task = asyncio.ensure_future(store._database.read(wait))
    await begun.wait()

    def release() -> None:
        go_on.set()
        task.cancel()

    return release


async def test_writes_that_wait_together_share_a_transaction(store: SqliteStore) -> None:
    await conversation(store, 1)
    executed: list[str] = []
    await store._database.read(lambda c: c.set_trace_callback(executed.append))
    release = await hold(store)
    tasks = [asyncio.ensure_future(store.append("s", turn(number))) for number in range(MAX_BATCH)]
    await asyncio.sleep(0)
    release()
    await asyncio.gather(*tasks)
    await store._database.read(lambda c: c.set_trace_callback(None))
    assert executed.count("BEGIN IMMEDIATE") == 1
    assert [message.text_content() for message in (await store.messages("s"))[2::2]] == [
        f"question {number}" for number in range(MAX_BATCH)
    ]


async def test_a_write_that_fails_does_not_touch_those_it_waited_with(store: SqliteStore) -> None:
    log = await conversation(store, 1)
    release = await hold(store)
    bad = Append([said("user", "other", id=log[0].id)])
    calls = [
        store.append("s", turn(1)),
        store.append("s", bad),
        store.append("unknown", turn(2)),
        store.update_session("s", unheard_of=1),
        store.append("s", turn(3)),
    ]
    tasks = [asyncio.ensure_future(call) for call in calls]
    await asyncio.sleep(0)
    release()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome).__name__ for outcome in outcomes] == [
        "Appended",
        DuplicateIDError.__name__,
        SessionNotFoundError.__name__,
        "TypeError",
        "Appended",
    ]
    assert (await store.session("s")).turn_count == 3
    assert await store.check() == []


async def test_closing_waits_for_what_was_asked_before(store: SqliteStore) -> None:
    await conversation(store, 1)
    calls = [asyncio.ensure_future(store.append("s", turn(number))) for number in range(100)]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*calls)
    with refuses(MnesisStoreError):
        await store.append("s", turn())
    await store.open()
    assert (await store.session("s")).turn_count == 101


def test_no_transaction_is_split_by_an_await() -> None:
    import mnesis.store.sqlite.database as module

    assert not inspect.iscoroutinefunction(module._transaction)


async def costs(store: SqliteStore, act: Callable[[], Awaitable[object]]) -> tuple[int, int]:
    """Statements executed, and steps of SQLite's virtual machine: they do not depend on the clock."""
    statements = steps = 0

    def count_statement(_: str) -> None:
        nonlocal statements
        statements += 1

    def count_steps() -> int:
        nonlocal steps
        steps += 1
        return 0

    def watch(connection: sqlite3.Connection) -> None:
        connection.set_trace_callback(count_statement)
        connection.set_progress_handler(count_steps, 1)

    def stop(connection: sqlite3.Connection) -> None:
        connection.set_trace_callback(None)
        connection.set_progress_handler(None, 0)

    await store._database.read(watch)
    await act()
    await store._database.read(stop)
    return statements, steps


async def test_appending_and_reading_the_window_cost_the_same_at_any_length(store: SqliteStore) -> None:
    await store.create_session(SessionRecord(id="s", model="m"))

    async def grow(until: int) -> None:
        last = (await store.session("s")).last_seq
        await store.append("s", Append([said("user", str(seq)) for seq in range(last, until)]))

    async def window(length: int, made: str) -> tuple[object, ...]:
        """Costs with a log of `length` of which the last 20 are shown, under one summary."""
        covers = (await store.active_context("s")).covers
        first = covers[0].last_seq + 1 if covers else 1
        fresh = leaf(f"leaf_{made}", first, length - 20)
        summaries = [fresh]
        if covers:
            summaries.append(condensed(f"top_{made}", [await store.summary("s", covers[0].summary_id or ""), fresh]))
        await store.compact("s", sweep(covers, [Cover(1, length - 20, summaries[-1].id)], summaries))
        reading = await costs(store, lambda: store.active_context("s"))
        appending = await costs(store, lambda: store.append("s", turn(length)))
        one = leaf(f"last_{made}", length - 19, length - 10)
        covers = (await store.active_context("s")).covers
        folding = await costs(
            store,
            lambda: store.compact("s", sweep(covers, [*covers, Cover(one.first_seq, one.last_seq, one.id)], [one])),
        )
        both = await store.summaries("s")
        top = condensed(f"both_{made}", [next(s for s in both if s.id == summaries[-1].id), one])
        covers = (await store.active_context("s")).covers
        await store.compact("s", sweep(covers, [Cover(1, length - 10, top.id)], [top]))
        return reading, appending, folding

    await grow(100)
    short = await window(100, "short")
    await grow(10_000)
    long = await window(10_000, "long")
    for (statements_short, steps_short), (statements_long, steps_long) in zip(short, long, strict=True):  # type: ignore[misc]  # pairs
        assert statements_long == statements_short
        assert steps_long <= 1.1 * steps_short
