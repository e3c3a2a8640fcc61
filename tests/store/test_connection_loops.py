"""One store serves several event loops, and no await splits a transaction."""

from __future__ import annotations

import asyncio
import inspect
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mnesis.errors import (
    DuplicateIDError,
    MnesisStoreError,
    SessionNotFoundError,
)
from mnesis.models.context import Cover
from mnesis.models.session import SessionRecord
from mnesis.store.base import Append
from mnesis.store.sqlite import SqliteStore
from mnesis.store.sqlite.group_commit import MAX_BATCH_WRITES
from mnesis.testing.store_samples import (
    expect_error,
    make_compaction,
    make_condensed,
    make_leaf,
    make_message,
    make_turn,
    store_conversation,
)
from tests.support.busy_store import hold


def test_one_store_serves_loops_one_after_another_and_at_once(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    asyncio.run(store.open())
    asyncio.run(_created(store))

    def many(start: int) -> None:
        async def run() -> None:
            await asyncio.gather(*(store.append("s", make_turn(number)) for number in range(start, start + 20)))

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
        task = asyncio.ensure_future(store.database.read(slow))
        await asyncio.sleep(0)
        begun.wait(30)
        task.cancel()

    asyncio.run(abandon())
    go_on.set()
    asyncio.run(store.append("s", make_turn()))
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
        task = asyncio.ensure_future(store.append("s", make_turn(2)))
        await asyncio.sleep(0)
        go_on.set()
        await task

    asyncio.run(abandon(lambda: store.database.read(slow)))
    begun.wait(30)
    asyncio.run(abandon(lambda: store.append("s", make_turn(1))))
    asyncio.run(asyncio.wait_for(write(), 30))
    assert len(store.turns("s")) == 2
    asyncio.run(store.close())


async def test_reading_at_once_works_while_a_loop_runs(store: SqliteStore) -> None:
    await store_conversation(store, 2)
    assert [snapshot.turn_index for snapshot in store.turns("s")] == [0, 1]


async def test_writes_that_wait_together_share_a_transaction(store: SqliteStore) -> None:
    await store_conversation(store, 1)
    executed: list[str] = []
    await store.database.read(lambda c: c.set_trace_callback(executed.append))
    release = await hold(store)
    tasks = [asyncio.ensure_future(store.append("s", make_turn(number))) for number in range(MAX_BATCH_WRITES)]
    await asyncio.sleep(0)
    release()
    await asyncio.gather(*tasks)
    await store.database.read(lambda c: c.set_trace_callback(None))
    assert executed.count("BEGIN IMMEDIATE") == 1
    assert [message.text_content() for message in (await store.messages("s"))[2::2]] == [
        f"question {number}" for number in range(MAX_BATCH_WRITES)
    ]


async def test_writes_of_one_transaction_wake_their_loop_once(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store_conversation(store, 1)
    release = await hold(store)
    tasks = [asyncio.ensure_future(store.append("s", make_turn(number))) for number in range(MAX_BATCH_WRITES)]
    await asyncio.sleep(0)
    loop, calls = asyncio.get_running_loop(), []
    wake = loop.call_soon_threadsafe
    monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *args: calls.append(args) or wake(*args))
    release()
    await asyncio.gather(*tasks)
    held_and_batch = 2
    assert len(calls) <= held_and_batch


async def test_a_write_that_fails_does_not_touch_those_it_waited_with(store: SqliteStore) -> None:
    log = await store_conversation(store, 1)
    release = await hold(store)
    bad = Append([make_message("user", "other", id=log[0].id)])
    calls = [
        store.append("s", make_turn(1)),
        store.append("s", bad),
        store.append("unknown", make_turn(2)),
        store.update_session("s", unheard_of=1),
        store.append("s", make_turn(3)),
    ]
    tasks = [asyncio.ensure_future(call) for call in calls]
    await asyncio.sleep(0)
    release()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome).__name__ for outcome in outcomes] == [
        "AppendResult",
        DuplicateIDError.__name__,
        SessionNotFoundError.__name__,
        "TypeError",
        "AppendResult",
    ]
    assert (await store.session("s")).turn_count == 3
    assert await store.check() == []


async def test_closing_waits_for_what_was_asked_before(store: SqliteStore) -> None:
    await store_conversation(store, 1)
    calls = [asyncio.ensure_future(store.append("s", make_turn(number))) for number in range(100)]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*calls)
    with expect_error(MnesisStoreError):
        await store.append("s", make_turn())
    await store.open()
    assert (await store.session("s")).turn_count == 101


def test_no_transaction_is_split_by_an_await() -> None:
    import mnesis.store.sqlite.database as module

    assert not inspect.iscoroutinefunction(module._run_transaction)


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

    await store.database.read(watch)
    await act()
    await store.database.read(stop)
    return statements, steps


async def test_appending_and_reading_the_window_cost_the_same_at_any_length(store: SqliteStore) -> None:
    await store.create_session(SessionRecord(id="s", model="m"))

    async def grow(until: int) -> None:
        last = (await store.session("s")).last_seq
        await store.append("s", Append([make_message("user", str(seq)) for seq in range(last, until)]))

    async def window(length: int, made: str) -> tuple[object, ...]:
        """Costs with a log of `length` of which the last 20 are shown, under one summary."""
        covers = (await store.active_context("s")).covers
        first = covers[0].last_seq + 1 if covers else 1
        fresh = make_leaf(f"leaf_{made}", first, length - 20)
        summaries = [fresh]
        if covers:
            summaries.append(
                make_condensed(f"top_{made}", [await store.summary("s", covers[0].summary_id or ""), fresh])
            )
        await store.compact("s", make_compaction(covers, [Cover(1, length - 20, summaries[-1].id)], summaries))
        reading = await costs(store, lambda: store.active_context("s"))
        appending = await costs(store, lambda: store.append("s", make_turn(length)))
        one = make_leaf(f"last_{made}", length - 19, length - 10)
        covers = (await store.active_context("s")).covers
        folding = await costs(
            store,
            lambda: store.compact(
                "s", make_compaction(covers, [*covers, Cover(one.first_seq, one.last_seq, one.id)], [one])
            ),
        )
        both = await store.summaries("s")
        top = make_condensed(f"both_{made}", [next(s for s in both if s.id == summaries[-1].id), one])
        covers = (await store.active_context("s")).covers
        await store.compact("s", make_compaction(covers, [Cover(1, length - 10, top.id)], [top]))
        return reading, appending, folding

    await grow(100)
    short = await window(100, "short")
    await grow(10_000)
    long = await window(10_000, "long")
    for (statements_short, steps_short), (statements_long, steps_long) in zip(short, long, strict=True):  # type: ignore[misc]  # pairs
        assert statements_long == statements_short
        assert steps_long <= 1.1 * steps_short
