"""Writes that wait together share a transaction, and each keeps its own outcome; an append reads nothing it knows already."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mnesis.errors import CorruptStoreError, DuplicateIDError
from mnesis.models.message import Message
from mnesis.models.session import SessionRecord
from mnesis.store.awaited_writes import WriteQueue
from mnesis.store.base import Append
from mnesis.store.sqlite import SqliteStore
from mnesis.store.sqlite.group_commit import PendingWrite
from mnesis.testing.store_samples import make_message, make_turn, store_conversation
from tests.support.busy_store import hold


@asynccontextmanager
async def trace_statements(store: SqliteStore) -> AsyncIterator[list[str]]:
    """Collect the statements that the store runs, without those of triggers."""
    executed: list[str] = []
    await store.database.query(lambda c: c.set_trace_callback(executed.append))
    try:
        yield executed
    finally:
        await store.database.query(lambda c: c.set_trace_callback(None))


async def test_the_append_of_a_turn_reads_only_whether_others_wrote(store: SqliteStore) -> None:
    await store_conversation(store, 1)
    await store.append("s", make_turn(1))
    async with trace_statements(store) as executed:
        await store.append("s", make_turn(2))
    kinds = [" ".join(statement.split()[:2]) for statement in executed]
    assert list(dict.fromkeys(kinds)) == [  # SQLite reports an INSERT again for each of its triggers
        "BEGIN IMMEDIATE",
        "PRAGMA data_version",
        "INSERT INTO",
        "UPDATE accounts",
        "COMMIT",
    ]
    assert {statement.split()[2] for statement in executed if statement.startswith("INSERT")} == {
        "messages",
        "turns",
        "changes",
    }


async def test_what_others_wrote_is_read_again(tmp_path: Path) -> None:
    one, other = SqliteStore(tmp_path / "s.db"), SqliteStore(tmp_path / "s.db")
    await one.open()
    await other.open()
    await store_conversation(one, 1)
    await one.append("s", make_turn(1))
    await other.append("s", make_turn(2))
    stored = await one.append("s", make_turn(3))
    assert [message.seq for message in stored.messages] == [7, 8]
    assert await one.check() == []
    await one.close()
    await other.close()


@pytest.mark.parametrize("is_same_connection", [True, False])
async def test_accounts_that_somebody_changed_are_damage(store: SqliteStore, is_same_connection: bool) -> None:
    await store_conversation(store, 1)
    await store.append("s", make_turn(1))
    harm = "UPDATE accounts SET cost = cost + 1"
    if is_same_connection:
        await store.database.write(lambda c: c.execute(harm) and None)
    else:
        with sqlite3.connect(store.location) as connection:
            connection.execute(harm)
        connection.close()
    with pytest.raises(CorruptStoreError):
        await store.append("s", make_turn(2))


async def test_what_a_caller_puts_into_a_result_reaches_no_later_one(store: SqliteStore) -> None:
    await store_conversation(store, 1)
    (await store.append("s", make_turn(1))).session.metadata["added"] = 1
    assert (await store.append("s", make_turn(2))).session.metadata == {}


async def test_results_of_appends_are_built_when_they_are_read(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store_conversation(store, 1)
    copies: list[str] = []
    copy = Message.model_copy

    def note_and_copy(message: Message, **fields: Any) -> Message:
        copies.append(message.id)
        return copy(message, **fields)

    monkeypatch.setattr(Message, "model_copy", note_and_copy)
    turn = make_turn(1)
    stored = await store.append("s", turn)
    assert copies == []
    assert [message.seq for message in stored.messages] == [3, 4]
    assert stored.messages is stored.messages
    assert stored.snapshot == store.turns("s")[-1]
    assert copies == [message.id for message in turn.messages]


async def test_a_turn_that_is_partly_stored_is_refused_as_a_whole(store: SqliteStore) -> None:
    log = await store_conversation(store, 1)
    with pytest.raises(DuplicateIDError):
        await store.append("s", Append([make_message("user", "new"), log[-1]]))
    assert len(await store.messages("s")) == len(log)
    assert await store.check() == []


async def test_a_write_that_fails_is_undone_alone_in_the_shared_transaction(store: SqliteStore) -> None:
    log = await store_conversation(store, 1)
    await store.create_session(SessionRecord(id="t", model="m"))
    release = await hold(store)
    executed: list[str] = []
    tracing = asyncio.ensure_future(store.database.query(lambda c: c.set_trace_callback(executed.append)))
    bad = Append([make_message("user", "new"), make_message("user", "other", id=log[0].id)])
    appends = (("s", make_turn(1)), ("s", bad), ("t", make_turn(2)))
    tasks = [asyncio.ensure_future(store.append(session_id, append)) for session_id, append in appends]
    await asyncio.sleep(0)
    release()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    await tracing
    await store.database.query(lambda c: c.set_trace_callback(None))
    assert [type(outcome).__name__ for outcome in outcomes] == [
        "AppendResult",
        "DuplicateIDError",
        "AppendResult",
    ]
    assert executed.count("COMMIT") == 1
    assert executed.count("ROLLBACK TO one_write") == 1
    assert [m.text_content() for m in await store.messages("s")] == ["question 0", "answer 0", "question 1", "answer 1"]
    assert await store.check() == []


async def test_nobody_is_answered_before_the_commit(store: SqliteStore) -> None:
    await store_conversation(store, 1)
    tasks: list[asyncio.Future[Any]] = []
    answered: list[bool] = []

    def look(statement: str) -> None:
        if statement == "COMMIT":
            answered.extend(task.done() for task in tasks)

    release = await hold(store)
    tracing = asyncio.ensure_future(store.database.query(lambda c: c.set_trace_callback(look)))
    tasks += [asyncio.ensure_future(store.append("s", make_turn(number))) for number in range(1, 9)]
    await asyncio.sleep(0)
    release()
    await asyncio.gather(tracing, *tasks)
    await store.database.query(lambda c: c.set_trace_callback(None))
    assert answered == [False] * 8
    assert len(await store.messages("s")) == 2 * 9


async def test_turns_of_fifty_sessions_that_wait_share_one_transaction(store: SqliteStore) -> None:
    names = [f"s{number}" for number in range(50)]
    for name in names:
        await store.create_session(SessionRecord(id=name, model="openai/gpt-4o"))
    executed: list[str] = []
    release = await hold(store)
    tracing = asyncio.ensure_future(store.database.query(lambda c: c.set_trace_callback(executed.append)))
    tasks = [asyncio.ensure_future(store.append(name, make_turn(number))) for number, name in enumerate(names)]
    await asyncio.sleep(0)
    release()
    await asyncio.gather(tracing, *tasks)
    await store.database.query(lambda c: c.set_trace_callback(None))
    assert [executed.count(each) for each in ("BEGIN IMMEDIATE", "PRAGMA data_version", "COMMIT")] == [1, 1, 1]
    assert await store.check() == []


async def test_a_cancelled_caller_splits_no_batch(store: SqliteStore) -> None:
    await store_conversation(store, 1)
    release = await hold(store)
    tasks = [asyncio.ensure_future(store.append("s", make_turn(number))) for number in range(1, 6)]
    await asyncio.sleep(0)
    tasks[2].cancel()
    release()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(outcome, asyncio.CancelledError) for outcome in outcomes] == [False, False, True, False, False]
    turns = [message.text_content() for message in await store.messages("s")]
    assert turns[::2] == [f"question {number}" for number in range(6)]
    assert await store.check() == []


async def test_closing_keeps_writes_that_wait_for_others_of_their_loop(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    await store.open()
    await store_conversation(store, 1)
    await write_batch(store)
    write = asyncio.ensure_future(store.append("s", make_turn(9)))
    closing = asyncio.ensure_future(store.close())
    await asyncio.gather(write, closing)
    await store.open()
    assert (await store.messages("s"))[-1].text_content() == "answer 9"
    await store.close()


def test_a_loop_that_ends_before_its_writes_were_announced_delays_nobody(tmp_path: Path) -> None:
    store, loop = SqliteStore(tmp_path / "s.db"), asyncio.new_event_loop()
    loop.run_until_complete(store.open())
    loop.run_until_complete(store_conversation(store, 1))
    loop.run_until_complete(write_batch(store))
    task = loop.create_task(store.append("s", make_turn(9)))
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert not task.done()
    asyncio.run(asyncio.wait_for(store.append("s", make_turn(10)), 60))
    texts = [message.text_content() for message in asyncio.run(store.messages("s"))]
    assert texts[-2:] == ["question 10", "answer 10"]
    assert "question 9" in texts
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()
    asyncio.run(store.close())


async def write_batch(store: SqliteStore) -> None:
    """Let two writes share a transaction, so that the next ones are expected to do so too."""
    release = await hold(store)
    tasks = [asyncio.ensure_future(store.append("s", make_turn(number))) for number in (1, 2)]
    await asyncio.sleep(0)
    release()
    await asyncio.gather(*tasks)


async def test_the_thread_is_woken_once_for_all_writes_that_wait() -> None:
    queue, loop = WriteQueue[PendingWrite](), asyncio.get_running_loop()
    assert queue.must_wake(loop)
    assert not queue.may_delay()
    queue.note_woken()
    queue.add(a_write(loop))
    assert not queue.must_wake(loop)
    queue.add(a_write(loop))
    assert len(queue.take()) == 2
    assert queue.must_wake(loop)


async def test_after_a_batch_waking_waits_for_the_writes_of_one_loop() -> None:
    queue, loop, other = WriteQueue[PendingWrite](), asyncio.get_running_loop(), asyncio.new_event_loop()
    queue.add(a_write(loop))
    queue.add(a_write(loop))
    queue.take()
    assert queue.may_delay()
    queue.delay(loop)
    queue.add(a_write(loop))
    assert not queue.must_wake(loop)
    assert queue.must_wake(other)
    assert not queue.may_delay()
    assert queue.has_unannounced
    assert len(queue.take()) == 1
    assert not queue.may_delay()
    other.close()


def a_write(loop: asyncio.AbstractEventLoop) -> PendingWrite:
    """A write that is never run."""
    return PendingWrite(loop.create_future(), loop, len, (), {})
