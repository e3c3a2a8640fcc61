"""The PostgreSQL store keeps the laws of `mnesis.testing`, like the others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mnesis.testing.fork_suite import ForkSuite
from mnesis.testing.integrity_suite import IntegritySuite
from mnesis.testing.run_suite import RunSuite
from mnesis.testing.store_suite import StoreSuite
from mnesis.testing.turn_lease_suite import TurnLeaseSuite
from mnesis.testing.vector_suite import VectorSuite
from tests.support.postgres import reused_schema


@pytest.fixture
def url() -> Iterator[str]:
    """The URL of an empty schema, because the suites change rows only."""
    with reused_schema() as url:
        yield url


class TestPostgresStore(StoreSuite):
    pass


class TestPostgresRuns(RunSuite):
    pass


class TestPostgresIntegrity(IntegritySuite):
    pass


class TestPostgresTurnLeases(TurnLeaseSuite):
    pass


class TestPostgresForks(ForkSuite):
    pass


class TestPostgresVectors(VectorSuite):
    pass
