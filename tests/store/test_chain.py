"""The history proves itself: no value changes, disappears or moves without a finding, and heads and keys prove it to others."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from mnesis import Engine, MnesisConfig, MnesisSession, StoreConfig
from mnesis.errors import ConfigurationError, CorruptStoreError, IntegrityKeyError
from mnesis.models.session import ForkPoint, SessionRecord
from mnesis.store.chain import encode_turn
from mnesis.store.sqlite import SqliteStore
from mnesis.store.sqlite.migrate import migrate
from mnesis.store.sqlite.seal import add_missing_hashes
from mnesis.sync import SyncSession
from mnesis.testing.fault_migration import write_old_database
from mnesis.testing.store_samples import make_turn, store_conversation
from tests.support.damage import flips, store_every_kind, tables

EMPTY_TABLES = {"purging", "purging_runs", "unhashed", "turn_leases"}
TABLES = (
    *("sessions", "accounts", "messages", "summaries", "summary_messages", "summary_children", "context_covers"),
    *("hidden_spans", "prunes", "turns", "compactions", "interruptions", "pins", "file_refs", "record_heads"),
    *("changes", "deletions", "runs", "run_inputs", "run_items", "run_plans"),
)
FORK_TABLES = ("segments", "inherited_summaries")


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with rows in every table. Tests work on copies."""
    path = tmp_path_factory.mktemp("complete") / "s.db"
    asyncio.run(store_every_kind(path))
    return path


async def checked(path: Path) -> list[str]:
    store = SqliteStore(path)
    await store.open()
    findings = await store.check()
    await store.close()
    return [f"{finding.check}: {finding.detail}" for finding in findings]


def test_no_value_of_a_damaged_turn_stops_the_check() -> None:
    """A page of another table has rows of other types, which STRICT tables do not convert."""
    rows = [
        (1, 2, "user", 3, 4, 5, 6, 7, 8),
        ("x", 2, "user", 3, 4, 5, 6, 7, 8),
        (1, 2, "\udcff", 3),
        (),
        (2**70, 1, b"x"),
    ]
    assert len({encode_turn(row) for row in rows}) == len(rows)


async def test_an_untouched_database_has_no_findings(complete: Path) -> None:
    assert await checked(complete) == []
    connection = sqlite3.connect(complete)
    for table in TABLES:
        assert connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] > 0, table
    connection.close()


def test_every_table_is_tested_for_flipped_bits(complete: Path) -> None:
    assert set(tables(complete)) == {*TABLES, *FORK_TABLES} | EMPTY_TABLES


@pytest.fixture(scope="module")
def forked(complete: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of `complete` with a fork and a fork of that fork."""
    path = tmp_path_factory.mktemp("forked") / "s.db"
    shutil.copyfile(complete, path)

    async def fork() -> None:
        store = SqliteStore(path)
        await store.open()
        for origin_id, fork_id, last_seq in (("s", "fork", 9), ("fork", "fork-of-fork", 10)):
            stored_in = "s" if last_seq == 9 else origin_id
            point = ForkPoint(stored_in, last_seq, (await store.messages(origin_id))[last_seq - 1].id)
            await store.fork_session(
                origin_id, SessionRecord(id=fork_id, model="m", forked_from=point), last_seq=last_seq
            )
            await store.append(fork_id, make_turn(20 + last_seq))
        await store.close()

    asyncio.run(fork())
    return path


@pytest.mark.parametrize("table", [*TABLES, *FORK_TABLES])
async def test_a_flipped_bit_in_any_column_is_found(complete: Path, forked: Path, tmp_path: Path, table: str) -> None:
    complete = forked if table in FORK_TABLES else complete
    copy, unseen, count = tmp_path / "copy.db", [], 0
    for flip in flips(complete, table):
        for suffix in ("", "-wal", "-shm"):
            copy.with_name(copy.name + suffix).unlink(missing_ok=True)
        shutil.copyfile(complete, copy)
        if flip.apply(copy):
            count += 1
            try:
                found = await checked(copy)
            except CorruptStoreError as error:
                found = [str(error)]
            unseen += [] if found else [flip]
    assert unseen == []
    assert count >= 3


def _swap_seqs(connection: sqlite3.Connection) -> None:
    for change in ("seq = -seq WHERE seq IN (7, 8)", "seq = 15 + seq WHERE seq < 0"):
        connection.execute(f"UPDATE messages SET {change}")


def _delete(table: str, where: str = "TRUE") -> Callable[[sqlite3.Connection], None]:
    def run(connection: sqlite3.Connection) -> None:
        key = {"interruptions": "pk", "compactions": "pk"}.get(table, "rowid")
        connection.execute(
            f"DELETE FROM {table} WHERE {where}"
            if where != "TRUE"
            else f"DELETE FROM {table} WHERE {key} = (SELECT max({key}) FROM {table})"
        )

    return run


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(_swap_seqs, id="swapped messages"),
        pytest.param(_delete("messages", "seq = 7"), id="a deleted message"),
        pytest.param(_delete("messages", "seq = 11"), id="the deleted last message"),
        pytest.param(_delete("turns", "turn_index = 2 AND session_pk = 1"), id="a deleted turn"),
        pytest.param(_delete("interruptions"), id="a deleted interruption"),
        pytest.param(_delete("compactions"), id="a deleted compaction"),
        pytest.param(_delete("hidden_spans"), id="a deleted span"),
        pytest.param(_delete("pins", "seq = 7"), id="deleted pins"),
        pytest.param(_delete("prunes", "session_pk = 1"), id="deleted prunes"),
        pytest.param(_delete("file_refs", "session_pk = 1"), id="deleted references"),
        pytest.param(_delete("accounts", "session_pk = 1"), id="deleted accounts"),
        pytest.param(_delete("record_heads", "session_pk = 1"), id="deleted record heads"),
        pytest.param(_delete("changes"), id="the deleted last change"),
        pytest.param(_delete("changes", "kind = 'deleted'"), id="a deleted deletion"),
        pytest.param(_delete("run_items", "item_index = 3 AND run_pk = 1"), id="a deleted item"),
        pytest.param(_delete("run_inputs", "item_index = 3 AND run_pk = 1"), id="a deleted input"),
    ],
)
async def test_a_deleted_or_moved_row_is_found(
    complete: Path, tmp_path: Path, damage: Callable[[sqlite3.Connection], None]
) -> None:
    copy = tmp_path / "copy.db"
    shutil.copyfile(complete, copy)
    connection = sqlite3.connect(copy)
    connection.execute("PRAGMA ignore_check_constraints = ON")
    triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for name, _ in triggers:
        connection.execute(f"DROP TRIGGER {name}")
    damage(connection)
    for _, sql in triggers:
        connection.execute(sql)
    connection.commit()
    connection.close()
    assert await checked(copy)


async def test_an_earlier_head_proves_that_the_history_goes_on_from_it(tmp_path: Path) -> None:
    async with Engine(tmp_path / "s.db") as engine:
        await store_conversation(engine.store, 2)
        earlier = (await engine.verify()).heads[0]
        await engine.store.append("s", make_turn(2))
        later = (await engine.verify(heads={"s": earlier.hash})).heads[0]
        assert (earlier.message_count, later.message_count) == (4, 6)
        assert str(later) == f"s={later.hash}" != str(earlier)
        assert (await engine.verify(heads={"s": [earlier.hash, later.hash]})).is_intact
        forged = "0" * 64
        result = await engine.verify(heads={"s": [forged, later.hash]})
        assert [finding.check for finding in result.findings] == ["head"]
        assert forged in result.findings[0].detail
        assert "mnesis verify --head" in result.findings[0].fix  # in a backup: a salvage finds nothing that is gone
        await engine.purge("s")
        result = await engine.verify(heads={"s": later.hash})
        assert [finding.ids for finding in result.findings] == [("s",)]
        for wrong in ("", "12", "xyz" * 22):
            with pytest.raises(ConfigurationError, match="not a head"):
                await engine.verify(heads={"s": wrong})


async def test_a_consistent_rewrite_is_only_found_by_an_earlier_head_or_a_key(tmp_path: Path) -> None:
    path, config = tmp_path / "s.db", StoreConfig(integrity_key="k" * 16)
    store = SqliteStore(path, config)
    await store.open()
    await store_conversation(store, 2)
    head = (await store.verify()).heads[0].hash
    await store.close()
    forger = SqliteStore(tmp_path / "forged.db")
    await forger.open()
    await store_conversation(forger, 2)
    assert (await forger.verify()).is_intact
    assert not (await forger.verify(heads={"s": head})).is_intact
    await forger.close()
    with_key = SqliteStore(tmp_path / "forged.db", config)
    await with_key.open()
    result = await with_key.verify()
    assert [finding.check for finding in result.findings] == ["seal"]
    await with_key.close()


async def test_a_sealed_database_is_written_with_its_key_only(tmp_path: Path) -> None:
    path, config = tmp_path / "s.db", StoreConfig(integrity_key=b"k" * 16)
    sealed = SqliteStore(path, config)
    await sealed.open()
    await store_conversation(sealed, 1)
    assert (await sealed.verify()).is_intact
    for other in (StoreConfig(), StoreConfig(integrity_key="another key of 20 b")):
        store = SqliteStore(path, other)
        await store.open()
        assert len((await store.active_context("s")).items) == 2  # so that the append need not read the session
        with pytest.raises(IntegrityKeyError, match="key"):
            await store.append("s", make_turn(9))
        await store.close()
    await sealed.append("s", make_turn(1))
    assert (await sealed.verify()).is_intact
    await sealed.close()


async def test_an_existing_database_can_be_sealed_unless_it_is_damaged(complete: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    shutil.copyfile(complete, path)
    store = SqliteStore(path, StoreConfig(integrity_key=b"k" * 16))
    await store.open()
    with pytest.raises(IntegrityKeyError, match="mnesis seal"):
        await store.append("s", make_turn(9))
    assert {finding.check for finding in (await store.verify()).findings} == {"seal"}
    progress: list[tuple[int, int]] = []
    assert await store.seal(lambda done, total: progress.append((done, total))) == 5
    assert progress[-1] == (len(progress), len(progress))
    assert (await store.verify()).is_intact
    await store.append("s", make_turn(9))
    await store.claim_items("r", "w", limit=1, now_ms=1, lease_ms=10, max_claims=3)
    assert (await store.verify()).is_intact
    await store.database.write(lambda c: c.execute("UPDATE accounts SET cost = cost + 1"))
    with pytest.raises(CorruptStoreError, match="not sealed"):
        await store.seal()
    await store.close()
    without_key = SqliteStore(path)
    await without_key.open()
    with pytest.raises(ConfigurationError, match="integrity_key"):
        await without_key.seal()
    await without_key.close()


async def test_a_write_does_not_hide_damaged_accounts(complete: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    shutil.copyfile(complete, path)
    store = SqliteStore(path)
    await store.open()
    await store.append("s", make_turn(8))
    intruder = sqlite3.connect(path)
    intruder.execute("UPDATE accounts SET usage_input = usage_input + 1")
    intruder.commit()
    intruder.close()
    for session_id in ("s", "t"):
        with pytest.raises(CorruptStoreError, match="accounts"):
            await store.append(session_id, make_turn(9))
        assert len(await store.messages(session_id)) >= 11
    await store.close()


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5, 6])
async def test_an_old_database_gets_hashes_and_keeps_its_messages(complete: Path, tmp_path: Path, version: int) -> None:
    path = tmp_path / "old.db"
    write_old_database(complete, path, version)
    fresh, store = SqliteStore(complete), SqliteStore(path)
    await fresh.open()
    await store.open()
    result = await store.verify()
    assert result.findings == ()
    assert result.heads == (await fresh.verify()).heads
    assert await store.messages("s") == await fresh.messages("s")
    await fresh.close()
    await store.append("s", make_turn(9))
    assert await store.check() == []
    await store.database.write(lambda c: c.execute("DROP TRIGGER messages_refuse_update"))
    await store.database.write(lambda c: c.execute("UPDATE messages SET created_at = 7 WHERE seq = 3"))
    assert "log" in {finding.check for finding in await store.check()}
    await store.close()


async def test_a_damaged_list_of_missing_hashes_does_not_stop_an_opening(complete: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    shutil.copyfile(complete, path)
    intruder = sqlite3.connect(path)
    intruder.execute("PRAGMA ignore_check_constraints = ON")
    intruder.execute("INSERT INTO unhashed (kind, pk) VALUES ('no kind', 1)")
    intruder.commit()
    intruder.close()
    store = SqliteStore(path)
    await store.open()
    assert len(await store.messages("s")) >= 11
    assert any(finding.severity == "error" for finding in await store.check())
    await store.close()


async def test_hashing_an_old_database_continues_where_it_was_killed(complete: Path, tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    write_old_database(complete, path, 5)

    def die(done: int, total: int) -> None:
        raise KeyboardInterrupt

    raw = sqlite3.connect(path, isolation_level=None)
    migrate(raw, path)
    raw.close()
    connection = sqlite3.connect(path, isolation_level=None)
    total = connection.execute("SELECT count(*) FROM unhashed").fetchone()[0]
    for remaining in (total - 1, total - 2):
        with pytest.raises(KeyboardInterrupt):
            add_missing_hashes(connection, die)
        assert connection.execute("SELECT count(*) FROM unhashed").fetchone()[0] == remaining
    connection.close()
    assert await checked(path) == []


async def test_sessions_verify_themselves(tmp_path: Path) -> None:
    config = MnesisConfig(store=StoreConfig(db_path=tmp_path / "s.db"))
    async with await MnesisSession.create(model="none", config=config) as session:
        await session.record("question", "answer")
        first = await session.verify()
        await session.record("again", "yes")
        assert (await session.verify(head=first.heads[0].hash)).is_intact
        assert not (await session.verify(head="00" * 32)).is_intact
        session_id = session.id
    sync = SyncSession.load(session_id, config=config)
    assert sync.verify(head=first.heads[0].hash).heads[0].message_count == 4
    sync.close()
