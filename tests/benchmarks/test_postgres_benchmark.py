"""The growth benchmark fills what it says, and compares each call with the same call on a small database."""

from __future__ import annotations

import pytest

from tests.support.postgres import connect, temporary_schema

pytest.importorskip("psycopg")


async def test_growth_is_measured_at_a_tenth_and_at_all_of_the_size(capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.postgres_growth import SMALL_PART, measure_growth
    from mnesis.database_url import DatabaseURL

    with temporary_schema() as url, temporary_schema() as small_url:
        rows = await measure_growth(url, small_url, 10_400, 1)
        counts = []
        for each in (url, small_url):
            schema = DatabaseURL(each).schema
            statement = (
                f"SELECT count(*) FROM {schema}.messages WHERE session_pk IN"
                f" (SELECT pk FROM {schema}.sessions WHERE id LIKE 'grown-%')"
            )
            with connect(each) as connection:
                counts.append(connection.execute(statement).fetchone()[0])
    assert counts == [10_400, max(10_400 // SMALL_PART, 200)]
    assert [row.name for row in rows if "record" in row.name] == [
        "record(), 1,040 messages",
        "record(), 10,400 messages",
    ]
    assert len(rows) == 8
    assert "10,400 messages: " in capsys.readouterr().out
