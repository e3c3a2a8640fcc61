from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mnesis import Engine


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    async with Engine(tmp_path / "work.db") as engine:
        yield engine
