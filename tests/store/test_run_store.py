"""Map runs, references to files and backups: both stores keep the laws, whatever happens to them."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import AsyncIterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mnesis.errors import ConfigurationError
from mnesis.models.message import FileRefPart, ToolPart
from mnesis.models.run import ItemOutcome
from mnesis.models.session import SessionRecord
from mnesis.store.base import Append, Store
from mnesis.store.memory import MemoryStore
from mnesis.store.sqlite import SqliteStore
from mnesis.testing.fault_migration import write_old_database
from mnesis.testing.run_suite import LEASE, RunSuite, assert_counts_agree, begin_sealed_run, claim_indexes
from mnesis.testing.store_samples import make_message, store_conversation
from tests.store.children import Report, start
from tests.support.samples import sampled


class TestMemoryRuns(RunSuite):
    @pytest.fixture
    async def store(self) -> AsyncIterator[Store]:
        store = MemoryStore()
        await store.open()
        yield store
        await store.close()

    async def test_a_store_in_memory_refuses_a_backup(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError):
            await store.backup(tmp_path / "b.db")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "s.db")
    await store.open()
    yield store
    await store.close()


class TestSqliteRuns(RunSuite):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Store]:
        store = SqliteStore(tmp_path / "s.db")
        await store.open()
        yield store
        await store.close()


WORKERS = st.sampled_from(["a", "b", "c"])
INDEXES = st.lists(st.integers(0, 5), max_size=3)


class Workers(RuleBasedStateMachine):
    """Several workers and a clock; the stores agree, no item has two holders or two results."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.loop = asyncio.new_event_loop()
        self.stores: list[Store] = [SqliteStore(self.folder / "s.db"), MemoryStore()]
        self.now = 0
        self.held: dict[int, tuple[str, int]] = {}
        self.ended: set[int] = set()
        self.both("open")
        for store in self.stores:
            self.loop.run_until_complete(begin_sealed_run(store, 5))

    def teardown(self) -> None:
        self.both("close")
        self.loop.close()
        shutil.rmtree(self.folder)

    def both(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        one, two = [self.loop.run_until_complete(getattr(store, verb)(*args, **kwargs)) for store in self.stores]
        assert one == two
        return one

    @rule(milliseconds=st.integers(1, LEASE))
    def time_passes(self, milliseconds: int) -> None:
        self.now += milliseconds

    @rule(worker=WORKERS, limit=st.integers(0, 4), max_claims=st.integers(1, 3))
    def claim(self, worker: str, limit: int, max_claims: int) -> None:
        lease = {"now_ms": self.now, "lease_ms": LEASE}
        for item in self.both("claim_items", "r", worker, limit=limit, max_claims=max_claims, **lease):
            assert item.index not in self.ended
            assert item.index not in self.held or self.held[item.index][1] <= self.now
            self.held[item.index] = worker, self.now + LEASE

    @rule(worker=WORKERS, indexes=INDEXES)
    def renew(self, worker: str, indexes: list[int]) -> None:
        for index in self.both("renew_items", "r", worker, indexes, now_ms=self.now, lease_ms=LEASE):
            assert self.held[index][0] == worker
            self.held[index] = worker, self.now + LEASE

    @rule(worker=WORKERS, indexes=INDEXES)
    def release(self, worker: str, indexes: list[int]) -> None:
        self.both("release_items", "r", worker, indexes)
        for index in indexes:
            if self.held.get(index, ("", 0))[0] == worker:
                del self.held[index]

    @rule(worker=WORKERS, indexes=INDEXES, state=st.sampled_from(["done", "failed"]), cost=st.floats(0, 1))
    def finish(self, worker: str, indexes: list[int], state: Any, cost: float) -> None:
        outcomes = [ItemOutcome(index, state, f'"{worker}"', cost=cost) for index in indexes]
        accepted = self.both("finish_items", "r", worker, outcomes)
        assert sorted(accepted) == sorted({i for i in indexes if self.held.get(i, ("", 0))[0] == worker})
        self.ended.update(accepted)
        for index in accepted:
            del self.held[index]

    @rule(max_claims=st.integers(1, 3))
    def give_up(self, max_claims: int) -> None:
        for index in self.both("give_up_items", "r", now_ms=self.now, max_claims=max_claims, outcome="{}"):
            assert self.held.pop(index)[1] <= self.now
            self.ended.add(index)

    @rule()
    def retry(self) -> None:
        failed = {item.index for item in self.both("run_items", "r", state="failed")}
        assert self.both("retry_failures", "r") == len(failed)
        self.ended -= failed

    @invariant()
    def counts_are_those_of_the_items(self) -> None:
        self.both("run", "r")
        self.both("run_items", "r")
        assert self.both("check") == []
        self.loop.run_until_complete(assert_counts_agree(self.stores[0]))


TestWorkers = Workers.TestCase
TestWorkers.settings = settings(
    max_examples=sampled(25), stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)


async def work(path: Path, tell: Report, *, dies: bool) -> None:
    store = SqliteStore(path)
    await store.open()
    worker, now = str(os.getpid()), 0 if dies else LEASE
    while items := await store.claim_items("r", worker, limit=7, now_ms=now, lease_ms=LEASE, max_claims=9):
        half = items[: len(items) // 2] if dies else items
        outcomes = [ItemOutcome(item.index, "done", f'"{worker}"') for item in half]
        for index in await store.finish_items("r", worker, outcomes):
            tell(str(index))
        if dies:
            os.kill(os.getpid(), 9)
    await store.close()


def test_killed_processes_leave_each_item_done_exactly_once(tmp_path: Path) -> None:
    path = tmp_path / "s.db"

    async def prepare() -> None:
        store = SqliteStore(path)
        await store.open()
        await begin_sealed_run(store, 200)
        await store.close()

    asyncio.run(prepare())
    killed = [child.wait() for child in [start(lambda tell: work(path, tell, dies=True)) for _ in range(3)]]
    assert [code for _, code in killed] == [-9] * 3
    finished = [child.wait() for child in [start(lambda tell: work(path, tell, dies=False)) for _ in range(3)]]
    assert [code for _, code in finished] == [0] * 3
    told = [int(line) for lines, _ in killed + finished for line in lines]
    assert sorted(told) == list(range(200))

    async def verify() -> None:
        store = SqliteStore(path)
        await store.open()
        assert (await store.run("r")).is_finished
        assert await store.check() == []
        await store.close()

    asyncio.run(verify())


async def steps_of_a_claim_and_finish(path: Path, count: int) -> int:
    """Steps of SQLite's machine, in tens."""
    store = SqliteStore(path)
    await store.open()
    await begin_sealed_run(store, count)
    steps = [0]

    def count_step() -> int:
        steps[0] += 1
        return 0

    await claim_indexes(store, "a", limit=8)
    await store.finish_items("r", "a", [ItemOutcome(index, "done", "1") for index in range(8)])
    await store.database.read(lambda connection: connection.set_progress_handler(count_step, 10))
    taken = await claim_indexes(store, "a", limit=8)
    await store.finish_items("r", "a", [ItemOutcome(index, "done", "1") for index in taken])
    await store.run("r")
    await store.close()
    return steps[0]


async def test_a_claim_among_many_items_takes_the_steps_of_one_among_few(tmp_path: Path) -> None:
    few = await steps_of_a_claim_and_finish(tmp_path / "few.db", 100)
    assert await steps_of_a_claim_and_finish(tmp_path / "many.db", 20_000) <= 1.2 * few


def count_statements(executed: list[str]) -> int:
    """Return how many statements a trace holds. One that fires a trigger stands in it twice."""
    return len(list(groupby(executed)))


async def test_an_item_takes_one_statement_to_claim_and_two_to_finish(store: SqliteStore) -> None:
    await begin_sealed_run(store, 40)
    counts = []
    for limit in (1, 11):
        executed: list[str] = []
        await store.database.read(lambda connection, note=executed.append: connection.set_trace_callback(note))
        taken = await claim_indexes(store, "a", limit=limit)
        claiming = count_statements(executed)
        await store.finish_items("r", "a", [ItemOutcome(index, "done", "1") for index in taken])
        await store.database.read(lambda connection: connection.set_trace_callback(None))
        counts.append((claiming, count_statements(executed) - claiming))
    (claim_one, finish_one), (claim_more, finish_more) = counts
    assert (claim_more - claim_one, finish_more - finish_one) == (10, 2 * 10)


async def test_inputs_and_results_refuse_change(store: SqliteStore) -> None:
    await begin_sealed_run(store)
    await claim_indexes(store, "a", limit=1)
    await store.finish_items("r", "a", [ItemOutcome(0, "done", "1")])
    intruder = sqlite3.connect(store.location, isolation_level=None)
    for statement in (
        "UPDATE run_inputs SET input = 'x'",
        "DELETE FROM run_inputs",
        "REPLACE INTO run_inputs SELECT * FROM run_inputs",
        "UPDATE run_items SET outcome = '2' WHERE state = 'done'",
        "UPDATE run_items SET item_index = 99 WHERE item_index = 3",
        "DELETE FROM run_items",
        "REPLACE INTO run_items SELECT * FROM run_items",
        "DELETE FROM runs",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="never"):
            intruder.execute(statement)
    intruder.close()
    assert await store.check() == []


async def test_wrong_counts_and_missing_references_are_found(store: SqliteStore) -> None:
    await begin_sealed_run(store)
    await store_conversation(store, 1)
    part = FileRefPart(content_id="f", path="/a")
    await store.append("s", Append([make_message("user", id="file").model_copy(update={"parts": (part,)})]))
    assert await store.check() == []

    def harm(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE runs SET done = done + 1")
        connection.execute("INSERT INTO file_refs SELECT session_pk, 1, 'ghost' FROM file_refs")

    await store.database.write(harm)
    assert {finding.check for finding in await store.check()} == {"runs", "files"}


async def test_a_database_without_references_gets_them_from_its_messages(store: SqliteStore, tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    await store.create_session(SessionRecord(id="s", model="m"))
    output = FileRefPart(content_id="out", path="/o")
    parts = (
        FileRefPart(content_id="f", path="/a"),
        ToolPart(tool_name="t", tool_call_id="c", output_file=output),
    )
    trap = make_message("user", '[{"type":"file_ref","content_id":"trap"}]', id="trap")
    await store.append("s", Append([trap, make_message("assistant", id="x").model_copy(update={"parts": parts})]))
    write_old_database(store.location, path, 2)
    migrated = SqliteStore(path)
    await migrated.open()
    assert await migrated.file_references() == await store.file_references()
    assert [each.content_id for each in await migrated.file_references()] == ["f", "out"]
    assert await migrated.check() == []
    await migrated.close()


async def test_a_backup_refuses_a_name_that_is_no_utf8(store: SqliteStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="UTF-8"):
        await store.backup(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.db"))
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


async def test_a_backup_is_whole_private_and_replaces_nothing(store: SqliteStore, tmp_path: Path) -> None:
    await begin_sealed_run(store)
    log = await store_conversation(store, 20)
    target = tmp_path / "copies" / "b.db"
    with pytest.raises(ConfigurationError):
        await store.backup(target)
    target.parent.mkdir()
    _, appended = await asyncio.gather(store.backup(target), store.append("s", Append([make_message("user")])))
    assert appended.is_new
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert list(target.parent.iterdir()) == [target]
    before = target.stat()
    with pytest.raises(ConfigurationError, match="never replaces"):
        await store.backup(target)
    assert target.stat() == before
    copy = SqliteStore(target)
    await copy.open()
    assert (await copy.messages("s"))[: len(log)] == log
    assert await copy.run("r") == await store.run("r")
    assert await copy.check() == []
    await copy.close()
