"""All stores keep the laws of `mnesis.testing.store_suite`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mnesis.store.base import Store
from mnesis.store.memory import MemoryStore
from mnesis.store.sqlite import SqliteStore
from mnesis.testing.fork_suite import ForkSuite
from mnesis.testing.integrity_suite import IntegritySuite
from mnesis.testing.store_suite import StoreSuite
from mnesis.testing.turn_lease_suite import TurnLeaseSuite
from mnesis.testing.vector_suite import VectorSuite
from tests.support.encrypted import encrypted


class TestMemoryStore(StoreSuite, IntegritySuite, TurnLeaseSuite, ForkSuite, VectorSuite):
    @pytest.fixture
    async def store(self) -> AsyncIterator[Store]:
        store = MemoryStore()
        await store.open()
        yield store
        await store.close()


class TestSqliteStore(StoreSuite, IntegritySuite, TurnLeaseSuite, ForkSuite, VectorSuite):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Store]:
        store = SqliteStore(tmp_path / "sessions.db")
        await store.open()
        yield store
        await store.close()


class TestEncryptedSqliteStore(StoreSuite, IntegritySuite, TurnLeaseSuite, ForkSuite, VectorSuite):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Store]:
        store = SqliteStore(tmp_path / "sessions.db", encrypted())
        await store.open()
        yield store
        await store.close()


class TestSqliteStoreWithoutWriteAheadLog(StoreSuite, IntegritySuite, TurnLeaseSuite, ForkSuite, VectorSuite):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Store]:
        from mnesis.config import StoreConfig

        store = SqliteStore(StoreConfig(db_path=tmp_path / "sessions.db", wal_mode=False, durability="full"))
        await store.open()
        yield store
        await store.close()
