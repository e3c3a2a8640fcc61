"""One connection for every loop, thread and task; transactions that nothing can split; costs that do not grow."""

from __future__ import annotations

import asyncio
import queue
import threading
import tomllib
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path

import aiosqlite
import pytest

from mnesis.errors import (
    ConfigurationError,
    StoreThreadError,
)
from mnesis.models.context import Cover
from mnesis.models.session import SessionRecord
from mnesis.store.sqlite import SqliteStore
from mnesis.store.sqlite.database_worker import AIOSQLITE_RANGE
from mnesis.testing.store_samples import expect_error, make_compaction, make_leaf, make_turn, store_conversation
from tests.support.busy_store import hold

STEPS = 60


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
    worker = store.database._worker
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
    worker._source._thread.join(30)  # its exception is reported after the waiters have failed, and belongs to this test
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
    worker = store.database._worker
    assert worker is not None
    worker._source.stop()
    worker._source._thread.join(30)
    await asyncio.wait_for(store.close(), 30)
    assert worker.connection is None


async def test_the_thread_does_not_keep_a_process_alive(store: SqliteStore) -> None:
    worker = store.database._worker
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
    worker = forgotten.database._worker
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
    assert not await store.database.read(lambda c: c.in_transaction is False)
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
