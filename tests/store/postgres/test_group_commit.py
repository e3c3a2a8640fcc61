"""Appends of several sessions that wait together share one transaction, and each keeps its own outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mnesis.config import StoreConfig
from mnesis.database_url import DatabaseURL
from mnesis.engine.follow import ChangeStream
from mnesis.errors import DuplicateIDError
from mnesis.events.bus import MnesisEvent
from mnesis.models.session import SessionRecord
from mnesis.store.base import Append, AppendResult, Store
from mnesis.testing.store_samples import make_message, make_turn
from tests.store.postgres.test_lost_connections import LostAfterCommit
from tests.support.postgres import connect

pytest.importorskip("psycopg")

SESSIONS = ("a", "b", "c", "d")


async def create_sessions(store: Store) -> None:
    """Create the sessions, each with one turn, so that the store knows their accounts."""
    for name in SESSIONS:
        await store.create_session(SessionRecord(id=name, model="m"))
        await store.append(name, make_turn(0))


@contextmanager
def hold(url: str) -> Iterator[None]:
    """Keep all transactions that append from going on, until the block ends."""
    with connect(url) as holder:
        holder.execute("BEGIN")
        holder.execute(f"LOCK TABLE {DatabaseURL(url).schema}.changes IN EXCLUSIVE MODE")
        yield
        holder.execute("COMMIT")


async def append_together(store: Store, url: str, appends: dict[str, Append]) -> list[AppendResult | BaseException]:
    """Append to several sessions while one more append holds the thread that commits them. Returns their outcomes."""
    with hold(url):
        first = asyncio.ensure_future(store.append("a", make_turn(50)))
        await wait_until_blocked(url)
        tasks = [asyncio.ensure_future(store.append(name, append)) for name, append in appends.items()]
        await asyncio.sleep(0)
    await first
    return await asyncio.gather(*tasks, return_exceptions=True)


async def wait_until_blocked(url: str) -> None:
    """Wait until a transaction waits for the lock of `hold`."""
    schema = DatabaseURL(url).schema
    waits = f"SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = '{schema}.changes'::regclass"

    def observe() -> None:
        with connect(url) as observer:
            while not observer.execute(waits).fetchone()[0]:
                pass

    await asyncio.to_thread(observe)


def appends_by_transaction(admin: Any, url: str) -> list[int]:
    """Return the number of appends of each transaction that made any, in order."""
    schema = DatabaseURL(url).schema
    statement = f"SELECT count(*) FROM {schema}.changes WHERE kind = 'append' GROUP BY position ORDER BY position"
    return [count for (count,) in admin.execute(statement).fetchall()]


async def test_appends_that_wait_together_share_a_transaction(store: Store, url: str, admin: Any) -> None:
    await create_sessions(store)
    outcomes = await append_together(store, url, {name: make_turn(1) for name in SESSIONS[1:]})
    results = [outcome for outcome in outcomes if isinstance(outcome, AppendResult)]
    assert [(result.session.id, result.is_new) for result in results] == [("b", True), ("c", True), ("d", True)]
    assert appends_by_transaction(admin, url)[-1] == 3
    for result in results:
        assert [message.seq for message in result.messages] == [3, 4]
        assert result.snapshot == store.turns(result.session.id)[-1]
        assert await store.messages(result.session.id, after_seq=2) == list(result.messages)
    assert await store.check() == []


async def test_an_append_that_fails_fails_alone(store: Store, url: str) -> None:
    await create_sessions(store)
    (stored,) = await store.messages("c", limit=1)
    bad = Append([make_message("user", "new"), make_message("user", "other", id=stored.id)])
    again = Append([message.model_copy() for message in await store.messages("d")], ends_turn=True)
    outcomes = await append_together(store, url, {"b": make_turn(1), "c": bad, "d": again})
    assert [type(outcome) for outcome in outcomes] == [AppendResult, DuplicateIDError, AppendResult]
    assert isinstance(outcomes[2], AppendResult)
    assert not outcomes[2].is_new
    assert [(await store.session(name)).last_seq for name in SESSIONS] == [4, 4, 2, 2]
    assert await store.check() == []


async def test_a_session_that_another_process_holds_delays_no_other(store: Store, url: str) -> None:
    await create_sessions(store)
    with connect(url) as other:
        other.execute("BEGIN")
        other.execute(f"SELECT {DatabaseURL(url).schema}.lock_session('b')")
        held = asyncio.ensure_future(store.append("b", make_turn(1)))
        await asyncio.gather(*(store.append(name, make_turn(1)) for name in ("a", "c", "d")))
        assert not held.done()
        other.execute("COMMIT")
    assert (await held).is_new
    assert [(await store.session(name)).last_seq for name in SESSIONS] == [4, 4, 4, 4]


async def test_a_session_that_others_wrote_is_read_again(store: Store, url: str) -> None:
    from mnesis.store.postgres import PostgresStore

    await create_sessions(store)
    other = PostgresStore(url)
    await other.open()
    await other.append("c", make_turn(1))
    await other.update_session("d", title="t")
    outcomes = await append_together(store, url, {name: make_turn(2) for name in SESSIONS[1:]})
    await other.close()
    assert [outcome.session.last_seq for outcome in outcomes if isinstance(outcome, AppendResult)] == [4, 6, 4]
    assert (await store.session("d")).title == "t"
    assert await store.check() == []


@pytest.mark.parametrize("is_committed", [True, False])
async def test_a_connection_lost_while_a_group_commits_stores_each_append_once(
    store: Any, url: str, is_committed: bool
) -> None:
    await create_sessions(store)
    loss = LostAfterCommit(store, is_committed=is_committed)
    loss.count = 1
    with hold(url):
        first = asyncio.ensure_future(store.append("a", make_turn(50)))
        await wait_until_blocked(url)
        tasks = [asyncio.ensure_future(store.append(name, make_turn(1))) for name in SESSIONS[1:]]
        await asyncio.sleep(0)
        loss.count = 0
    assert (await first).is_new
    assert all(result.is_new for result in await asyncio.gather(*tasks))
    assert loss.count == 1
    assert [(await store.session(name)).last_seq for name in SESSIONS] == [4, 4, 4, 4]
    assert await store.check() == []


async def test_a_cancelled_caller_splits_no_group(store: Store, url: str) -> None:
    await create_sessions(store)
    with hold(url):
        first = asyncio.ensure_future(store.append("a", make_turn(50)))
        await wait_until_blocked(url)
        tasks = [asyncio.ensure_future(store.append(name, make_turn(1))) for name in SESSIONS]
        await asyncio.sleep(0)
        tasks[2].cancel()
        first.cancel()
    outcomes = await asyncio.gather(first, *tasks, return_exceptions=True)
    cancelled = [isinstance(outcome, asyncio.CancelledError) for outcome in outcomes]
    assert cancelled == [True, False, False, True, False]
    assert [(await store.session(name)).last_seq for name in SESSIONS] == [6, 4, 2, 4]
    assert await store.check() == []


async def test_appends_and_other_writes_of_a_session_keep_their_order(store: Store) -> None:
    await create_sessions(store)
    writes: list[Any] = []
    for number in range(1, 6):
        writes += [store.append(name, make_turn(number)) for name in SESSIONS]
        writes += [store.update_session(name, title=str(number)) for name in SESSIONS]
        writes += [store.session(name) for name in SESSIONS]
    outcomes = await asyncio.gather(*writes)
    seen = [(each.id, each.last_seq, each.title) for each in outcomes[2 * len(SESSIONS) :: 3 * len(SESSIONS)]]
    assert seen == [("a", 2 * number + 2, str(number)) for number in range(1, 6)]
    assert await store.check() == []


async def test_closing_keeps_appends_that_wait(url: str) -> None:
    from mnesis.store.postgres import PostgresStore

    store = PostgresStore(url)
    await store.open()
    await create_sessions(store)
    await append_together(store, url, {name: make_turn(1) for name in SESSIONS[1:]})
    writes = [asyncio.ensure_future(store.append(name, make_turn(2))) for name in SESSIONS for _ in range(2)]
    await asyncio.sleep(0)
    await store.close()
    assert len(await asyncio.gather(*writes)) == 8
    await store.open()
    assert [(await store.session(name)).last_seq for name in SESSIONS] == [8, 8, 8, 8]
    await store.close()


def test_a_loop_that_ends_before_its_appends_began_delays_nobody(url: str) -> None:
    from mnesis.store.postgres import PostgresStore

    store, loop = PostgresStore(url, StoreConfig(max_connections=2)), asyncio.new_event_loop()
    loop.run_until_complete(store.open())
    loop.run_until_complete(create_sessions(store))
    loop.run_until_complete(append_together(store, url, {name: make_turn(1) for name in SESSIONS[1:]}))
    task = loop.create_task(store.append("b", make_turn(9)))
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert not task.done()
    asyncio.run(asyncio.wait_for(store.append("b", make_turn(10)), 60))
    texts = [message.text_content() for message in asyncio.run(store.messages("b"))]
    assert texts[-4:] == ["question 9", "answer 9", "question 10", "answer 10"]
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()
    asyncio.run(store.close())


async def test_followers_see_every_append_of_a_group_once(store: Store, url: str) -> None:
    await create_sessions(store)
    stream = ChangeStream(store, None)
    await stream.start()
    after = await store.last_change()
    await append_together(store, url, {name: make_turn(1) for name in SESSIONS[1:]})
    seen: list[tuple[str, int]] = []
    while len(seen) < 8:
        changes = await stream.read()
        seen += [
            (change.payload.session_id, change.payload.seq)  # type: ignore[union-attr]  # its payload
            for change in changes
            if change.event == MnesisEvent.MESSAGE_CREATED
        ]
        await asyncio.sleep(0)
    assert seen == [(name, seq) for name in SESSIONS for seq in (3, 4)]
    pages = [await store.changes(after=after, limit=1)]
    while pages[-1]:
        pages.append(await store.changes(after=pages[-1][-1].position, limit=1))
    assert [len(page) for page in pages] == [1, 1, 0]
    names = {payload["session_id"] for _, payload in pages[1][0].events}
    assert names == {"b", "c", "d"}


async def test_what_a_caller_puts_into_a_result_reaches_no_later_one(store: Store) -> None:
    await store.create_session(SessionRecord(id="s", model="m", metadata={"kept": [1]}))
    for number in range(3):
        session = (await store.append("s", make_turn(number))).session
        assert session.metadata == {"kept": [1]}
        session.metadata["kept"].append(2)


async def test_a_large_append_has_a_transaction_of_its_own(store: Store, url: str, admin: Any) -> None:
    await create_sessions(store)
    large = Append([make_message("user", "x" * 100_000)])
    outcomes = await append_together(store, url, {"b": make_turn(1), "c": large, "d": make_turn(1)})
    assert all(isinstance(outcome, AppendResult) for outcome in outcomes)
    assert sorted(appends_by_transaction(admin, url)[-2:]) == [1, 2]


async def test_other_calls_have_their_turn_between_groups(url: str) -> None:
    from mnesis.store.postgres import PostgresStore

    store = PostgresStore(url, StoreConfig(max_connections=1))
    await store.open()
    await create_sessions(store)
    done: list[str] = []
    with hold(url):
        first = asyncio.ensure_future(store.append("a", make_turn(50)))
        await wait_until_blocked(url)
        calls = {name: asyncio.ensure_future(store.append(name, make_turn(1))) for name in SESSIONS[1:]}
        calls["read"] = asyncio.ensure_future(store.sessions())
        for name, call in calls.items():
            call.add_done_callback(lambda _, name=name: done.append(name))
        await asyncio.sleep(0)
    await asyncio.gather(first, *calls.values())
    assert done == ["read", "b", "c", "d"]
    await store.close()
