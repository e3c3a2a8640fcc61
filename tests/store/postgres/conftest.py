"""Fixtures on the PostgreSQL server of the test run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from mnesis.store.base import Store
from tests.support.postgres import connect, temporary_schema


@pytest.fixture
def url() -> Iterator[str]:
    """The URL of a schema that does not exist yet."""
    with temporary_schema() as url:
        yield url


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    from mnesis.store.postgres import PostgresStore

    store = PostgresStore(url)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def admin(url: str) -> Iterator[Any]:
    """A plain connection, as the owner of the schema has it."""
    with connect(url) as connection:
        yield connection
