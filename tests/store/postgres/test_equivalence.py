"""Whatever is done to them, a PostgreSQL store and an in-memory store give the same results."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from mnesis.store.base import Store
from mnesis.store.memory import MemoryStore
from tests.store.test_equivalence import TwoStores
from tests.support.postgres import temporary_schema
from tests.support.samples import sampled

pytest.importorskip("psycopg")


class PostgresAndMemory(TwoStores):
    """Every verb goes to both."""

    def create_stores(self) -> list[Store]:
        from mnesis.store.postgres import PostgresStore

        self.schema = temporary_schema()
        return [PostgresStore(self.schema.__enter__()), MemoryStore()]

    def teardown(self) -> None:
        super().teardown()
        self.schema.__exit__(None, None, None)


TestPostgresAndMemory = PostgresAndMemory.TestCase
TestPostgresAndMemory.settings = settings(
    max_examples=sampled(10), stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
