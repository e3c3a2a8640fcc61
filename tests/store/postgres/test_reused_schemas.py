"""A schema that an earlier test used is as empty as a new one."""

from __future__ import annotations

from typing import Any

import pytest

from mnesis.database_url import DatabaseURL
from tests.support.damage import fill_with_every_kind
from tests.support.postgres import connect, reused_schema

pytest.importorskip("psycopg")


def count_of_each(connection: Any, schema: str) -> dict[str, int]:
    """Return the number of rows of each table, and the next number of each sequence."""
    relations = connection.execute(
        "SELECT relname, relkind FROM pg_class WHERE relnamespace = to_regnamespace(%s) AND relkind IN ('r', 'S')",
        (schema,),
    ).fetchall()
    return {
        name: connection.execute(
            f"SELECT count(*) FROM {schema}.{name}" if kind == "r" else f"SELECT nextval('{schema}.{name}')"
        ).fetchone()[0]
        for name, kind in relations
    }


async def test_a_reused_schema_is_empty_and_counts_from_one() -> None:
    from mnesis.store.postgres import PostgresStore

    for _ in range(2):
        with reused_schema() as url:
            store = PostgresStore(url)
            await store.open()
            with connect(url) as connection:
                counts = count_of_each(connection, DatabaseURL(url).schema)
            await fill_with_every_kind(store)
            assert await store.check() == []
            await store.close()
        assert "messages" in counts
        assert counts == {name: int(name.endswith("_seq") or name == "mnesis_schema") for name in counts}
