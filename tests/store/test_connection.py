"""One connection for every loop, thread and task; transactions that nothing can split; costs that do not grow."""

from __future__ import annotations

import asyncio
import inspect
import queue
import sqlite3
import threading
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import aiosqlite
import pytest

from mnesis.errors import (
    ConfigurationError,
    DuplicateIDError,
    MnesisStoreError,
    SessionNotFoundError,
    StoreThreadError,
)
from mnesis.models.context import Cover
from mnesis.models.session import SessionRecord
from mnesis.store.base import Append
from mnesis.store.sqlite import SqliteStore
from mnesis.store.sqlite.database import AIOSQLITE_RANGE, MAX_BATCH_WRITES
from mnesis.testing.store_suite import (
    expect_error,
    make_compaction,
    make_condensed,
    make_leaf,
    make_message,
    make_turn,
    store_conversation,
)

STEPS = 60


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "s.db")
    await store.open()
    yield store
    await store.close()


def test_private_attributes_of_aiosqlite_work_as_the_worker_expects() -> None:
    connection = aiosqlite.connect(":memory:")
    assert isinstance(connection._thread, threading.Thread)
    assert not connection._thread.is_alive()
    first, second = threading.Event(), threading.Event()
    connection._thread.daemon = True
    connection._thread.start()
    connection._tx.put_nowait((None, first.set))
    connection._tx.put_nowait((None, second.set))  # a version that needs a future ends its thread before this one
    connection._tx.put_nowait((None, connection.stop))
    connection._thread.join(30)
    assert (first.is_set(), second.is_set()) == (True, True)
    assert not connection._thread.is_alive()


def test_range_of_aiosqlite_is_the_one_in_pyproject() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert f"aiosqlite{AIOSQLITE_RANGE}" in project["dependencies"]


class NoThread:
    """Like `Connection` of aiosqlite 0.21, which is a thread itself."""

    _tx: queue.SimpleQueue[object] = queue.SimpleQueue()


class NeedsFutures:
    """Like `Connection` of aiosqlite 0.22.0, whose thread ends at an item without a future."""

    def __init__(self) -> None:
        self._tx: queue.SimpleQueue[tuple[None, Callable[[], object]]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=lambda: self._tx.get()[1]())


@pytest.mark.parametrize("connection", [NoThread, NeedsFutures])
async def test_incompatible_aiosqlite_is_reported_when_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, connection: Callable[[], object]
) -> None:
    monkeypatch.setattr(aiosqlite, "connect", lambda path: connection())
    store = SqliteStore(tmp_path / "s.db")
    with pytest.raises(ConfigurationError) as caught:
        await asyncio.wait_for(store.open(), 30)
    for text in (f"aiosqlite {version('aiosqlite')} ", f"aiosqlite{AIOSQLITE_RANGE}", "pip install"):
        assert text in str(caught.value)
    await store.close()


@pytest.mark.parametrize("death", ["stopped", "crashed"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_dead_thread_fails_its_waiters_and_the_store_can_be_opened_again(store: SqliteStore, death: str) -> None:
    log = await store_conversation(store, 1)
    release = await hold(store)
    worker = store._database._worker
    assert worker is not None
    if death == "stopped":
        worker._source.stop()
    else:
        worker._source._tx.put_nowait(None)  # type: ignore[arg-type]  # not a pair: the loop of the thread raises
    calls: list[Awaitable[object]] = [
        store.messages("s"),
        store.append("s", make_turn(1)),
        store.append("s", make_turn(2)),
    ]
    waiters = [asyncio.ensure_future(call) for call in calls]
    blocking = asyncio.ensure_future(asyncio.to_thread(store.turns, "s"))
    await asyncio.sleep(0.05)
    release()
    outcomes = await asyncio.wait_for(asyncio.gather(*waiters, blocking, return_exceptions=True), 30)
    assert [type(outcome) for outcome in outcomes] == [StoreThreadError] * 4
    with expect_error(StoreThreadError):
        await store.session("s")
    with expect_error(StoreThreadError):
        store.turns("s")
    await store.open()
    assert await store.messages("s") == log
    await store.append("s", make_turn(3))
    assert len(await store.messages("s")) == 4


async def test_close_after_the_thread_died_does_nothing(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    await store.open()
    worker = store._database._worker
    assert worker is not None
    worker._source.stop()
    worker._source._thread.join(30)
    await asyncio.wait_for(store.close(), 30)
    assert worker.connection is None


async def test_the_thread_does_not_keep_a_process_alive(store: SqliteStore) -> None:
    worker = store._database._worker
    assert worker is not None
    assert worker._source._thread.daemon
    await store.close()
    worker._source._thread.join(30)
    assert not worker._source._thread.is_alive()
    await store.open()


async def test_a_forgotten_store_warns_and_lets_its_thread_go(tmp_path: Path) -> None:
    forgotten = SqliteStore(tmp_path / "s.db")
    await forgotten.open()
    await forgotten.create_session(SessionRecord(id="s", model="m"))
    worker = forgotten._database._worker
    assert worker is not None
    idle = threading.Event()
    worker._source._tx.put_nowait((None, idle.set))
    idle.wait(30)
    references = [forgotten]
    del forgotten
    with pytest.warns(ResourceWarning, match="never closed"):
        references.clear()
    worker._source._thread.join(30)
    assert not worker._source._thread.is_alive()


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
    await store_conversation(store, 1)
    numbers = iter(range(10, 10_000))
    cancelled = await every_step(lambda: store.append("s", make_turn(next(numbers))))
    assert cancelled >= 1
    assert not await store._database.read(lambda c: c.in_transaction is False)
    session = await store.session("s")
    assert session.last_seq == 2 * session.turn_count == len(await store.messages("s"))
    await store.append("s", make_turn(0))

    async def fold() -> None:
        context = await store.active_context("s")
        seq = context.covers[-1].last_seq if context.covers else 0
        made = make_leaf(f"sum_{seq}", seq + 1, seq + 1)
        await store.compact(
            "s", make_compaction(context.covers, [*context.covers, Cover(seq + 1, seq + 1, made.id)], [made])
        )

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
        await store_conversation(store, 1)
        await store.close()


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
        task = asyncio.ensure_future(store._database.read(slow))
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

    asyncio.run(abandon(lambda: store._database.read(slow)))
    begun.wait(30)
    asyncio.run(abandon(lambda: store.append("s", make_turn(1))))
    asyncio.run(asyncio.wait_for(write(), 30))
    assert len(store.turns("s")) == 2
    asyncio.run(store.close())


async def test_reading_at_once_works_while_a_loop_runs(store: SqliteStore) -> None:
    await store_conversation(store, 2)
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
    await store_conversation(store, 1)
    executed: list[str] = []
    await store._database.read(lambda c: c.set_trace_callback(executed.append))
    release = await hold(store)
    tasks = [asyncio.ensure_future(store.append("s", make_turn(number))) for number in range(MAX_BATCH_WRITES)]
    await asyncio.sleep(0)
    release()
    await asyncio.gather(*tasks)
    await store._database.read(lambda c: c.set_trace_callback(None))
    assert executed.count("BEGIN IMMEDIATE") == 1
    assert [message.text_content() for message in (await store.messages("s"))[2::2]] == [
        f"question {number}" for number in range(MAX_BATCH_WRITES)
    ]


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

    await store._database.read(watch)
    await act()
    await store._database.read(stop)
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
