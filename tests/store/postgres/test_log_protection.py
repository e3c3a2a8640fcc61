"""The database itself refuses to change the log: by triggers for everybody, by rights for an application's role."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from mnesis.database_url import DatabaseURL
from mnesis.errors import StoreAccessDeniedError
from mnesis.models.context import Cover
from mnesis.models.message import FileRefPart
from mnesis.models.run import ItemOutcome, RunSpec
from mnesis.models.search import Search
from mnesis.models.session import Interruption
from mnesis.store.base import Append, Store
from mnesis.testing.store_samples import (
    make_compaction,
    make_condensed,
    make_leaf,
    make_message,
    make_turn,
    store_conversation,
)
from tests.support.postgres import connect, url_of

psycopg = pytest.importorskip("psycopg")

LOG_TABLES = (
    *("messages", "summaries", "summary_messages", "summary_children", "turns", "compactions", "interruptions"),
    *("hidden_spans", "file_refs", "run_inputs"),
)
REFUSED = "MN001"


async def fill(store: Store) -> None:
    """Store a row in every table."""
    await store_conversation(store, 4)
    reference = make_message("user").model_copy(update={"parts": (FileRefPart(content_id="f", path="/a"),)})
    await store.append("s", Append([reference]))
    one = make_leaf("one", 1, 2)
    await store.compact("s", make_compaction((), [Cover(1, 2, "top")], [one, make_condensed("top", [one])]))
    await store.hide("s", 3, 4)
    await store.pin("s", 5)
    await store.record_interruption("s", Interruption(2, "failed", "E", "e", "", 1))
    await store.begin_run(RunSpec("r", "llm_map", "print"))
    await store.add_items("r", 0, ["1", "2"])
    await store.claim_items("r", "w", limit=1, now_ms=0, lease_ms=9, max_claims=1)
    await store.finish_items("r", "w", [ItemOutcome(0, "done", "1")])
    await store.search(Search("question", "s"))
    await store.search(Search("question", "s", mode="substring"))


@pytest.fixture
async def filled(store: Store) -> Store:
    await fill(store)
    return store


@pytest.mark.parametrize("table", LOG_TABLES)
async def test_not_even_the_owner_changes_or_deletes_rows_of_the_log(
    filled: Store, admin: Any, url: str, table: str
) -> None:
    name = f"{DatabaseURL(url).schema}.{table}"
    column = admin.execute(f"SELECT * FROM {name} LIMIT 1").description[-1].name
    for statement in (f"UPDATE {name} SET {column} = {column}", f"DELETE FROM {name}", f"TRUNCATE {name} CASCADE"):
        with pytest.raises(psycopg.Error) as raised:
            admin.execute(statement)
        assert raised.value.sqlstate == REFUSED
    assert admin.execute(f"SELECT count(*) FROM {name}").fetchone()[0] > 0


async def test_sessions_and_outcomes_are_not_deleted_or_changed(filled: Store, admin: Any, url: str) -> None:
    schema = DatabaseURL(url).schema
    for statement in (
        f"DELETE FROM {schema}.sessions",
        f"DELETE FROM {schema}.accounts",
        f"DELETE FROM {schema}.runs",
        f"DELETE FROM {schema}.run_items",
        f"UPDATE {schema}.run_items SET outcome = 'x' WHERE state = 'done'",
    ):
        with pytest.raises(psycopg.Error) as raised:
            admin.execute(statement)
        assert raised.value.sqlstate == REFUSED


@pytest.fixture
def role() -> Iterator[str]:
    """A role that may log in and nothing else."""
    name = f"app_{uuid.uuid4().hex[:12]}"
    with connect() as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'role-secret'")
        yield name
        connection.execute(f"DROP OWNED BY {name}")
        connection.execute(f"DROP ROLE {name}")


def url_of_role(url: str, role: str) -> str:
    return url_of(url, role, schema=DatabaseURL(url).schema, password="role-secret")


async def test_a_granted_role_uses_every_verb_and_cannot_touch_the_log(
    store: Store, admin: Any, url: str, role: str
) -> None:
    from mnesis.store.postgres import PostgresStore

    schema = DatabaseURL(url).schema
    admin.execute(f"SELECT {schema}.grant_access(%s)", (role,))
    app = PostgresStore(url_of_role(url, role))
    await app.open()
    await fill(app)
    await app.update_session("s", title="t")
    await app.append("s", make_turn(9))
    assert await app.check() == []
    await app.reindex()
    with connect(url_of_role(url, role)) as connection:
        for table in LOG_TABLES:
            for statement in (f"UPDATE {schema}.{table} SET session_pk = 1", f"DELETE FROM {schema}.{table}"):
                with pytest.raises(psycopg.Error) as raised:
                    connection.execute(statement)
                assert raised.value.sqlstate in ("42501", "42703")  # no right, or a table without this column
        for statement in (
            f"ALTER TABLE {schema}.messages DISABLE TRIGGER ALL",
            f"DROP TRIGGER messages_refuse_update ON {schema}.messages",
            f"INSERT INTO {schema}.purging VALUES (1)",
            f"TRUNCATE {schema}.messages CASCADE",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
    await app.purge_run("r")
    await app.purge("s")
    assert (await app.sessions()).sessions == ()
    await app.close()


async def test_a_role_without_rights_learns_which_function_grants_them(store: Store, url: str, role: str) -> None:
    from mnesis.store.postgres import PostgresStore

    with pytest.raises(StoreAccessDeniedError, match="grant_access") as raised:
        await PostgresStore(url_of_role(url, role)).open()
    assert "role-secret" not in str(raised.value)


async def test_a_disabled_trigger_is_a_finding(filled: Store, admin: Any, url: str) -> None:
    assert await filled.check() == []
    schema = DatabaseURL(url).schema
    admin.execute(f"ALTER TABLE {schema}.messages DISABLE TRIGGER messages_refuse_update")
    admin.execute(f"UPDATE {schema}.messages SET parts = '\"other\"' WHERE seq = 6")
    findings = await filled.check()
    assert {finding.check for finding in findings} == {"schema", "content"}
    assert (await filled.messages("s", after_seq=6))[0].seq == 7


async def test_a_purge_leaves_no_row_and_no_word_of_the_session(filled: Store, admin: Any, url: str) -> None:
    schema = DatabaseURL(url).schema
    await store_conversation(filled, 1, "other")
    await filled.search(Search("question"))
    await filled.purge("s")
    await filled.purge_run("r")
    tables = [row[0] for row in admin.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (schema,))]
    counts = {table: admin.execute(f"SELECT count(*) FROM {schema}.{table}").fetchone()[0] for table in tables}
    left = {table for table, count in counts.items() if count}
    assert left == {
        *("mnesis_schema", "sessions", "accounts", "record_heads", "messages", "turns", "changes"),
        *("search_words", "search_vocabulary", "search_rows", "search_state"),
    }
    words = {row[0] for row in admin.execute(f"SELECT term FROM {schema}.search_vocabulary")}
    assert words == {row[0] for row in admin.execute(f"SELECT DISTINCT term FROM {schema}.search_words")}
    assert await filled.check() == []
