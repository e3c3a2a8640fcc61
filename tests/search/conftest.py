from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mnesis import MnesisSession
from mnesis.store.base import Store
from mnesis.store.memory import MemoryStore
from mnesis.store.sqlite import SqliteStore
from tests.support.encrypted import encrypted


@pytest.fixture(params=["sqlite", "encrypted", "memory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """An open, empty store of each kind."""
    store: Store = MemoryStore()
    if request.param != "memory":
        store = SqliteStore(tmp_path / "sessions.db", encrypted() if request.param == "encrypted" else None)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def session(tmp_path: Path) -> AsyncIterator[MnesisSession]:
    """An open, empty session without a model."""
    async with MnesisSession.open(model=None, db_path=tmp_path / "log.db", system_prompt="") as session:
        yield session
