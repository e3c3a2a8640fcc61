"""Everything in a PostgreSQL database proves itself: no value changes or disappears without a finding."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mnesis import StoreConfig
from mnesis.database_url import DatabaseURL
from mnesis.errors import ConfigurationError, CorruptStoreError, IntegrityKeyError
from mnesis.models.session import ForkPoint, SessionRecord
from mnesis.testing.store_samples import make_turn
from tests.support.damage import fill_with_every_kind
from tests.support.postgres import connect, temporary_schema

psycopg = pytest.importorskip("psycopg")

TABLES = (
    *("sessions", "accounts", "messages", "summaries", "summary_messages", "summary_children", "context_covers"),
    *("hidden_spans", "prunes", "turns", "compactions", "interruptions", "pins", "file_refs", "record_heads"),
    *("runs", "run_inputs", "run_items", "run_plans", "segments", "inherited_summaries", "changes"),
)
NEXT_VALUE = {
    "int8": "{column} + 1000",
    "int4": "{column} + 1000",
    "float8": "{column} + 0.5",
    "text": "overlay({column} PLACING chr(ascii({column}) + 7) FROM 1 FOR 1)",
    "bytea": "set_bit({column}, 3, 1 - get_bit({column}, 3))",
}
"""Another value of the same type."""


@pytest.fixture(scope="module")
def complete() -> Iterator[str]:
    """The URL of a database with rows in every table. Tests undo what they damage."""
    from mnesis.store.postgres import PostgresStore

    async def fill(url: str) -> None:
        store = PostgresStore(url)
        await store.open()
        await fill_with_every_kind(store)
        point = ForkPoint("s", 9, (await store.messages("s"))[8].id)
        await store.fork_session("s", SessionRecord(id="fork", model="m", forked_from=point), last_seq=9)
        await store.append("fork", make_turn(29))
        await store.close()

    with temporary_schema() as url:
        asyncio.run(fill(url))
        with connect(url) as connection:
            _let_columns_hold_anything(connection, DatabaseURL(url).schema)
        yield url


def _let_columns_hold_anything(connection: Any, schema: str) -> None:
    """Drop what refuses impossible values, which damage on a disk does not ask."""
    constraints = connection.execute(
        "SELECT c.conrelid::regclass::text, c.conname FROM pg_constraint AS c"
        " WHERE c.connamespace = %s::regnamespace AND c.contype = 'c'",
        (schema,),
    )
    for table, name in constraints.fetchall():
        connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    identities = connection.execute(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = %s AND is_identity = 'YES'",
        (schema,),
    )
    for table, column in identities.fetchall():
        connection.execute(f"ALTER TABLE {schema}.{table} ALTER COLUMN {column} DROP IDENTITY")


@pytest.fixture
async def store(complete: str) -> AsyncIterator[Any]:
    from mnesis.store.postgres import PostgresStore

    store = PostgresStore(complete)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def intruder(complete: str) -> Iterator[Any]:
    """A superuser whose statements no trigger sees."""
    with connect(complete) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(f"SET search_path = {DatabaseURL(complete).schema}")
        yield connection


@contextmanager
def damage(intruder: Any, table: str, statement: str, where: str) -> Iterator[bool]:
    """Run a statement on rows of a table, and put the rows back afterwards. Yields whether it changed any."""
    intruder.execute(f"CREATE TEMP TABLE before AS SELECT * FROM {table}")
    count = intruder.execute(f"{statement} WHERE {where}").rowcount
    try:
        yield count > 0
    finally:
        columns = intruder.execute(f"SELECT * FROM {table} LIMIT 0").description
        names = ", ".join(column.name for column in columns)
        intruder.execute(f"DELETE FROM {table}")
        intruder.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM pg_temp.before")
        intruder.execute("DROP TABLE pg_temp.before")


async def test_an_untouched_database_has_no_findings(store: Any, intruder: Any) -> None:
    assert await store.check() == []
    for table in TABLES:
        assert intruder.execute(f"SELECT count(*) FROM {table}").fetchone()[0] > 0, table


@pytest.mark.parametrize("table", TABLES)
async def test_a_changed_value_in_any_column_is_found(store: Any, intruder: Any, table: str) -> None:
    unseen = []
    schema = intruder.execute("SELECT current_schema()").fetchone()[0]
    columns = intruder.execute(
        "SELECT column_name, udt_name FROM information_schema.columns WHERE table_schema = %s AND table_name = %s",
        (schema, table),
    ).fetchall()
    for column, kind in columns:
        if column == "seal":  # empty without a key
            continue
        row = f"(SELECT min(ctid) FROM {table} WHERE {column} IS NOT NULL)"
        change = NEXT_VALUE[kind].format(column=column)
        with damage(intruder, table, f"UPDATE {table} SET {column} = {change}", f"ctid = {row}") as is_damaged:
            try:
                found = not is_damaged or await store.check() != []
            except CorruptStoreError:
                found = True
        unseen += [] if found else [column]
    assert unseen == []


@pytest.mark.parametrize("table", TABLES)
async def test_a_deleted_row_is_found(store: Any, intruder: Any, table: str) -> None:
    with damage(intruder, table, f"DELETE FROM {table}", f"ctid = (SELECT max(ctid) FROM {table})") as is_damaged:
        assert is_damaged
        assert await store.check() != []
    assert await store.check() == []


async def test_damaged_accounts_stop_writes_and_not_reads(store: Any, intruder: Any) -> None:
    statement = "UPDATE accounts SET usage_input = usage_input + 1"
    with damage(intruder, "accounts", statement, "session_pk = (SELECT pk FROM sessions WHERE id = 's')"):
        with pytest.raises(CorruptStoreError, match="accounts"):
            await store.append("s", make_turn(40))
        assert len(await store.messages("s")) >= 11
        listed = {record.id: record.damage for record in (await store.sessions()).sessions}
        assert {name for name, damage in listed.items() if damage} == {"s"}
        assert len(await store.messages("t")) >= 11


async def test_damaged_settings_are_listed_and_leave_the_messages_readable(store: Any, intruder: Any) -> None:
    with damage(intruder, "sessions", "UPDATE sessions SET profile = 'no JSON'", "id = 's'"):
        assert len(await store.messages("s")) >= 11
        assert {record.id for record in (await store.sessions()).sessions if record.damage} == {"s"}
        findings = await store.check()
        assert "settings" in {finding.check for finding in findings}


async def test_a_sealed_database_is_written_with_its_key_only(url: str) -> None:
    from mnesis.store.postgres import PostgresStore

    sealed = PostgresStore(url, StoreConfig(integrity_key=b"k" * 16))
    await sealed.open()
    await fill_with_every_kind(sealed)
    assert (await sealed.verify()).is_intact
    for other in (StoreConfig(), StoreConfig(integrity_key="another key of 20 b")):
        store = PostgresStore(url, other)
        await store.open()
        with pytest.raises(IntegrityKeyError, match="key"):
            await store.append("s", make_turn(9))
        with pytest.raises(IntegrityKeyError, match="key"):
            await store.claim_items("r", "w", limit=1, now_ms=1, lease_ms=10, max_claims=3)
        assert len(await store.messages("s")) >= 11
        await store.close()
    await sealed.append("s", make_turn(9))
    assert (await sealed.verify()).is_intact
    await sealed.close()


async def test_an_existing_database_can_be_sealed(url: str) -> None:
    from mnesis.store.postgres import PostgresStore

    store = PostgresStore(url)
    await store.open()
    await fill_with_every_kind(store)
    with pytest.raises(ConfigurationError, match="integrity_key"):
        await store.seal()
    await store.close()
    with_key = PostgresStore(url, StoreConfig(integrity_key=b"k" * 16))
    await with_key.open()
    assert {finding.check for finding in (await with_key.verify()).findings} == {"seal"}
    progress: list[tuple[int, int]] = []
    assert await with_key.seal(lambda done, total: progress.append((done, total))) == 5
    assert progress[-1] == (len(progress), len(progress))
    assert (await with_key.verify()).is_intact
    await with_key.append("s", make_turn(9))
    await with_key.claim_items("r", "w", limit=1, now_ms=1, lease_ms=10, max_claims=3)
    assert (await with_key.verify()).is_intact
    await with_key.close()


async def test_a_schema_without_hashes_gets_them(url: str) -> None:
    from mnesis.store.postgres import PostgresStore
    from mnesis.store.postgres.migrate import HASHES_VERSION

    store = PostgresStore(url)
    await store.open()
    await fill_with_every_kind(store)
    expected = (await store.verify()).heads
    await store.close()
    schema = DatabaseURL(url).schema
    with connect(url) as connection:
        connection.execute(f"DROP FUNCTION {schema}.set_change_hash CASCADE")
        connection.execute(f"DROP FUNCTION {schema}.hash_change")
        for table in ("sessions", "accounts", "runs", "run_inputs", "run_items", "changes"):
            for column in ("turn_head", "record_head", "input_head", "hash", "seal"):
                connection.execute(f"ALTER TABLE {schema}.{table} DROP COLUMN IF EXISTS {column} CASCADE")
        # Of this version, and of later ones.
        for table in ("record_heads", "search_vectors", "file_chunks", "file_objects", "deleting_files"):
            connection.execute(f"DROP TABLE {schema}.{table}")
        for function in ("delete_file", "refuse_file_unless_deleting", "refuse_chunk_unless_deleting"):
            connection.execute(f"DROP FUNCTION {schema}.{function}")
        for table, function in (("run_inputs", "refuse"), ("run_items", "refuse_item_change")):
            name = f"{table}_refuse_update"
            connection.execute(f"DROP TRIGGER IF EXISTS {name} ON {schema}.{table}")
            connection.execute(
                f"CREATE TRIGGER {name} BEFORE UPDATE ON {schema}.{table}"
                f" FOR EACH ROW EXECUTE FUNCTION {schema}.{function}()"
            )
        connection.execute(f"UPDATE {schema}.mnesis_schema SET version = {HASHES_VERSION - 1}")
    migrated = PostgresStore(url)
    progress: list[tuple[int, int]] = []
    await migrated.open(lambda done, total: progress.append((done, total)))
    assert progress == [(number, len(progress)) for number in range(1, len(progress) + 1)]
    assert len(progress) == len(expected) + len(await migrated.runs())
    assert (await migrated.verify()).heads == expected
    assert await migrated.check() == []
    await migrated.append("s", make_turn(9))
    assert await migrated.check() == []
    await migrated.close()
