from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.promised_sessions import count_open_files


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """The path of a database that does not exist yet."""
    return tmp_path / "sessions.db"


@pytest.fixture
def no_descriptor_is_left() -> Iterator[None]:
    before = count_open_files()
    yield
    assert count_open_files() <= before + 8, "descriptors of databases were left open"
