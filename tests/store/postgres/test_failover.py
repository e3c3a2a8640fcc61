"""Another server takes over, a server accepts no writes, and callers are cancelled at any statement."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mnesis.config import StoreConfig
from mnesis.database_url import DatabaseURL
from mnesis.errors import ReadOnlyStoreError, SessionNotFoundError, StoreUnavailableError
from mnesis.models.context import Cover
from mnesis.models.run import RunSpec
from mnesis.models.session import SessionRecord
from mnesis.store.base import Store
from mnesis.testing.fault_targets import StepInfo, count_steps, postgres_target
from mnesis.testing.store_suite import make_compaction, make_leaf, make_turn, store_conversation
from tests.support.connection_faults import FaultyProxy
from tests.support.postgres import url_of

psycopg = pytest.importorskip("psycopg")

MAX_STATEMENTS = 100


async def test_the_next_server_of_the_url_takes_over(url: str) -> None:
    from mnesis.store.postgres import PostgresStore

    first, second = FaultyProxy(url, "request"), FaultyProxy(url, "request")
    hosts = first.url.replace(f"127.0.0.1:{first.port}", f"127.0.0.1:{first.port},127.0.0.1:{second.port}")
    store = PostgresStore(f"{hosts}&target_session_attrs=read-write", StoreConfig(connection_timeout=60))
    try:
        await store.open()
        await store.create_session(SessionRecord(id="s", model="m"))
        appends = [asyncio.ensure_future(store.append("s", make_turn(number))) for number in range(12)]
        await appends[0]
        first.close()
        assert all(appended.is_new for appended in await asyncio.gather(*appends))
        assert (await store.session("s")).turn_count == 12
        assert await store.check() == []
    finally:
        await store.close()
        first.close()
        second.close()


async def test_a_server_that_accepts_no_writes_is_reported_with_the_remedy(store: Store, url: str, admin: Any) -> None:
    from mnesis.store.postgres import PostgresStore

    await store_conversation(store, 1)
    role, schema = f"standby_{uuid.uuid4().hex[:8]}", DatabaseURL(url).schema
    admin.execute(f"CREATE ROLE {role} LOGIN")
    try:
        admin.execute(f"SELECT {schema}.grant_access(%s)", (role,))
        admin.execute(f"ALTER ROLE {role} SET default_transaction_read_only = on")
        own_url = url_of(url, role, schema=schema)
        reader = PostgresStore(own_url, StoreConfig(read_only=True))
        await reader.open()
        assert len(await reader.messages("s")) == 2
        await reader.close()
        with pytest.raises(ReadOnlyStoreError, match="target_session_attrs=read-write"):
            await PostgresStore(own_url).open()
        demanding = PostgresStore(f"{own_url}&target_session_attrs=read-write", StoreConfig(connection_timeout=0.05))
        with pytest.raises(StoreUnavailableError, match="read-only"):
            await demanding.open()
    finally:
        admin.execute(f"DROP OWNED BY {role}")
        admin.execute(f"DROP ROLE {role}")


class CancelAt:
    """Cancels the task that waits for a transaction when it sends its k-th statement, and lets it continue then."""

    def __init__(self, step: int) -> None:
        self._remaining = step
        self._task: asyncio.Task[Any] | None = None

    def __call__(self, step: StepInfo) -> bool:
        self._remaining -= 1
        task = self._task
        if self._remaining == 0 and task is not None:
            is_done = threading.Event()
            loop = task.get_loop()
            loop.call_soon_threadsafe(lambda: (task.add_done_callback(lambda _: is_done.set()), task.cancel()))
            is_done.wait(60)
        return False

    async def run(self, work: Awaitable[Any]) -> bool:
        """Run the work. Returns whether it was cancelled."""
        self._task = asyncio.ensure_future(work)
        (outcome,) = await asyncio.gather(self._task, return_exceptions=True)
        if isinstance(outcome, asyncio.CancelledError):
            return True
        if isinstance(outcome, BaseException):
            raise outcome
        return False


async def cancel_at_each_statement(store: Store, url: str, work: Callable[[int], Awaitable[Any]]) -> int:
    """Cancel the work at its first statement, at its second, and so on. Returns at how many."""
    for step in range(1, MAX_STATEMENTS):
        for read in (store.session("s"), store.run("r")):  # waits for the transaction whose caller was cancelled
            await read
        cancel = CancelAt(step)
        with count_steps(postgres_target(url), cancel):
            if not await cancel.run(work(step)):
                return step - 1
    raise AssertionError(f"more than {MAX_STATEMENTS} statements")


async def test_cancelling_at_any_statement_splits_no_transaction(store: Store, url: str) -> None:
    async def fold(step: int) -> None:
        context = await store.active_context("s")
        seq = context.covers[-1].last_seq if context.covers else 0
        made = make_leaf(f"sum_{seq}", seq + 1, seq + 1)
        covers = [*context.covers, Cover(seq + 1, seq + 1, made.id)]
        await store.compact("s", make_compaction(context.covers, covers, [made]))

    async def purge(step: int) -> None:
        await store.purge("other")

    await store_conversation(store, 12)
    await store_conversation(store, 2, "other")
    await store.begin_run(RunSpec("r", "llm_map", "print"))
    appended = await cancel_at_each_statement(store, url, lambda step: store.append("s", make_turn(100 + step)))
    assert appended > 0
    session = await store.session("s")
    assert session.last_seq == 2 * session.turn_count == len(await store.messages("s")) == 2 * (12 + appended + 1)
    assert await cancel_at_each_statement(store, url, fold) > 0
    added = await cancel_at_each_statement(store, url, lambda step: store.add_items("r", 2 * (step - 1), ["1", "2"]))
    assert (await store.run("r")).pending == len(await store.run_items("r")) == 2 * (added + 1)
    cancelled = CancelAt(2)
    with count_steps(postgres_target(url), cancelled):
        assert await cancelled.run(purge(1))
    with pytest.raises(SessionNotFoundError):  # a read of the session waits for the purge
        await store.session("other")
    assert await store.check() == []
