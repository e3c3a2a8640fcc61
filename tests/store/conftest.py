from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mnesis.store.sqlite import SqliteStore


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "s.db")
    await store.open()
    yield store
    await store.close()
