"""The time of each transaction is a metric, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mnesis import MnesisSession
from mnesis.errors import SessionNotFoundError
from tests.support.postgres import temporary_schema
from tests.support.telemetry import Recorded


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Yield the system as the conventions name it, and a database that does not exist yet."""
    if request.param == "sqlite":
        yield "sqlite", str(tmp_path / "a.db")
    else:
        with temporary_schema() as url:
            yield "postgresql", url


async def test_each_transaction_is_measured_by_its_name(database: tuple[str, str], recorded: Recorded) -> None:
    system, db = database
    async with MnesisSession.create(model=None, session_id="ada", db_path=db) as session:
        await session.record("hello", "hi")
        await session.search("hello")
        session.history()
        with pytest.raises(SessionNotFoundError):
            await session.engine.store.session("bob")
    points = recorded.metrics()["db.client.operation.duration"]
    assert {point.attributes["db.system.name"] for point in points} == {system}
    names = {point.attributes["db.operation.name"] for point in points}
    assert {"append", "turns", "session"} <= names
    assert "SessionNotFoundError" in {point.attributes.get("error.type") for point in points}
    assert all(point.count >= 1 and point.sum >= 0 for point in points)
