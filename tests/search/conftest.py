from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mnesis.store.base import Store
from mnesis.store.memory import MemoryStore
from mnesis.store.sqlite import SqliteStore


@pytest.fixture(params=["sqlite", "memory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """An open, empty store of each kind."""
    store: Store = SqliteStore(tmp_path / "sessions.db") if request.param == "sqlite" else MemoryStore()
    await store.open()
    yield store
    await store.close()
