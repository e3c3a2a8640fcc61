"""The server knows which holders of turns are connected, so nobody waits for the lease of a dead process."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mnesis.models.session import SessionRecord
from mnesis.models.turn_lease import TurnLease
from tests.support.postgres import connect, server_url

pytest.importorskip("psycopg")

KILL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s"


async def claim(store: Any, holder: str) -> TurnLease:
    lease: TurnLease = await store.claim_turn("s", holder, now_ms=0, lease_ms=1_000)
    return lease


async def until_connected(store: Any, expected: bool) -> None:
    """Wait until the server has seen that the holder connected, or that its connection has ended."""
    async with asyncio.timeout(60):
        while (await claim(store, "b")).is_connected is not expected:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)


async def test_a_holder_is_connected_until_its_store_is_closed(store: Any, url: str) -> None:
    from mnesis.store.postgres import PostgresStore

    await store.create_session(SessionRecord(id="s", model="m"))
    holder = PostgresStore(url)
    await holder.open()
    assert (await claim(holder, "a")).holder == "a"
    waiting = [await claim(store, name) for name in ("b", "c")]
    assert [(lease.holder, lease.is_connected) for lease in waiting] == [("a", True), ("a", True)]
    # Waiters that ask at the same time do not take each other for the holder.
    assert {lease.is_connected for lease in await asyncio.gather(*(claim(store, f"w{n}") for n in range(8)))} == {True}
    await holder.close()
    await until_connected(store, False)
    gone = await asyncio.gather(*(claim(store, f"w{n}") for n in range(8)))
    assert {(lease.holder, lease.is_connected) for lease in gone} == {("a", False)}


async def test_a_holder_whose_connection_is_killed_reconnects(store: Any, url: str) -> None:
    from mnesis.store.postgres import PostgresStore

    await store.create_session(SessionRecord(id="s", model="m"))
    holder = PostgresStore(f"{url}&application_name=test-holder-{id(store)}")
    await holder.open()
    await claim(holder, "a")
    with connect(server_url()) as connection:
        assert connection.execute(KILL, (f"test-holder-{id(store)}",)).fetchall()
    await until_connected(store, True)
    lease = await claim(holder, "a")
    assert lease.holder == "a"
    assert await holder.renew_turn("s", lease, now_ms=0, lease_ms=1_000)
    await holder.close()


async def test_behind_a_pooler_only_the_lease_counts(store: Any, url: str) -> None:
    from mnesis.store.postgres import PostgresStore

    await store.create_session(SessionRecord(id="s", model="m"))
    pooled = PostgresStore(f"{url}&pgbouncer=true")
    await pooled.open()
    await claim(pooled, "a")
    await pooled.close()
    assert (await claim(store, "b")).is_connected is None
    late = await store.claim_turn("s", "b", now_ms=1_000, lease_ms=1_000)
    assert late.holder == "b"
