"""Followers of a PostgreSQL database: each event once, ordered per session, woken by the server."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from mnesis import Engine, MnesisEvent
from mnesis.database_url import DatabaseURL
from mnesis.engine.follow import ChangeStream
from mnesis.models.session import SessionRecord
from mnesis.store.base import Store
from mnesis.testing.store_samples import make_turn, store_conversation
from tests.events.test_follow import by_session, collect, run_other_process
from tests.support.postgres import connect, server_url

pytest.importorskip("psycopg")


async def test_another_process_is_followed_event_by_event(url: str) -> None:
    async with Engine(url, follow=True) as engine:
        published, finished = collect(engine)
        others = await asyncio.to_thread(run_other_process, url)
        await finished.wait()
    assert by_session(published) == by_session(others)
    assert len(by_session(published)["kept"]) > 40
    assert [event for event, _ in published if event.startswith("map.")] == [
        "map.started",
        "map.item_completed",
        "map.item_completed",
        "map.completed",
    ]


async def test_a_subscriber_that_was_away_catches_up(url: str) -> None:
    async with Engine(url) as engine:
        cursor = await engine.cursor()
    others = await asyncio.to_thread(run_other_process, url)
    engine = Engine(url, follow=True, since=cursor)
    published, finished = collect(engine)
    async with engine:
        await finished.wait()
    assert by_session(published) == by_session(others)
    async with Engine(url) as engine:
        whole = await ChangeStream(engine.store, cursor).read()
        assert len({change.cursor for change in whole}) == len(whole)
        for index, change in enumerate(whole):
            rest = await ChangeStream(engine.store, change.cursor).read()
            assert [each.cursor for each in rest] == [each.cursor for each in whole[index + 1 :]]


async def test_changes_of_concurrent_writers_keep_the_order_of_each_session(url: str) -> None:
    from mnesis.store.postgres import PostgresStore

    stores = [PostgresStore(url) for _ in range(3)]
    for store in stores:
        await store.open()
    names = [f"s{number}" for number in range(4)]
    for name in names:
        await stores[0].create_session(SessionRecord(id=name, model="m"))
    stream = ChangeStream(stores[0], None)
    await stream.start()
    seen: dict[str, list[int]] = {name: [] for name in names}

    async def follow() -> None:
        while any(len(seqs) < 60 for seqs in seen.values()):
            for change in await stream.read():
                if change.event == MnesisEvent.MESSAGE_CREATED:
                    seen[change.payload.session_id].append(change.payload.seq)  # type: ignore[union-attr]  # its payload
            await stream.wait()

    writing = [store.append(name, make_turn(number)) for number in range(10) for name in names for store in stores]
    await asyncio.wait_for(asyncio.gather(follow(), *writing), 600)
    assert seen == {name: list(range(1, 61)) for name in names}
    for store in stores:
        await store.close()


async def test_a_long_transaction_of_another_application_delays_nothing(store: Store, url: str) -> None:
    await store_conversation(store, 1)
    with connect(server_url()) as other:
        other.execute("BEGIN")
        other.execute("SELECT pg_current_xact_id()")
        stream = ChangeStream(store, None)
        await stream.start()
        await store.append("s", make_turn(2))
        changes = await stream.read()
        assert changes[0].event == MnesisEvent.MESSAGE_CREATED
        other.execute("COMMIT")


async def test_a_change_that_commits_late_is_not_skipped(store: Store, url: str) -> None:
    """A transaction with an earlier number commits after one with a later number was visible."""
    await store_conversation(store, 1, "a")
    await store_conversation(store, 1, "b")
    schema = DatabaseURL(url).schema
    stream = ChangeStream(store, None)
    await stream.start()
    with connect(url) as slow:
        slow.execute("BEGIN")
        slow.execute(f"LOCK TABLE {schema}.changes IN ROW EXCLUSIVE MODE")
        slow.execute(
            f"INSERT INTO {schema}.changes (position, origin, kind, session_pk, body)"
            f" SELECT pg_current_xact_id()::text::bigint + position_offset, 1, 'update', s.pk, '[7, 7]'"
            f" FROM {schema}.mnesis_schema, {schema}.sessions AS s WHERE s.id = 'a'"
        )
        await store.append("b", make_turn(2))
        assert await stream.read() == []
        slow.execute("COMMIT")
    changes = await stream.read()
    assert changes[0].payload.get("session_id") == "a"
    assert {change.payload.get("session_id") for change in changes} == {"a", "b"}


async def test_a_follower_survives_a_killed_listener(url: str) -> None:
    async with Engine(url, follow=True) as engine:
        heard = asyncio.Event()
        engine.events.subscribe(MnesisEvent.SESSION_CREATED, lambda *_: heard.set())
        await engine.store.change_version()
        with connect(server_url()) as admin:
            killed = admin.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE %s",
                (f'LISTEN "mnesis_{DatabaseURL(url).schema}"%',),
            ).fetchone()
        assert killed == (1,)
        from mnesis.store.postgres import PostgresStore

        other = PostgresStore(url)
        await other.open()
        await other.create_session(SessionRecord(id="s", model="m"))
        await heard.wait()
        await other.close()


async def test_a_follower_that_waits_takes_no_time_of_a_core(url: str) -> None:
    async with Engine(url, follow=True) as engine:
        await engine.store.change_version()
        before, began = time.process_time(), time.monotonic()
        await asyncio.sleep(3)
        share = (time.process_time() - before) / (time.monotonic() - began)
    assert share < 0.05  # measured below 0.01; the bound allows for a busy machine


async def test_a_restored_copy_continues_the_positions(store: Any, admin: Any, url: str) -> None:
    from mnesis.store.postgres import PostgresStore

    await store_conversation(store, 1)
    schema = DatabaseURL(url).schema
    newest = admin.execute(f"SELECT max(position) FROM {schema}.changes").fetchone()[0]
    await store.close()
    # As after pg_dump and a restore into a server that counts transactions from the beginning.
    admin.execute(f"UPDATE {schema}.changes SET position = position + 1000000")
    restored = PostgresStore(url)
    await restored.open()
    stream = ChangeStream(restored, f"{newest + 1_000_000}.0")
    await stream.start()
    await restored.append("s", make_turn(5))
    assert [change.event for change in await stream.read()][-5:-4] == [MnesisEvent.MESSAGE_CREATED]
    await restored.close()
