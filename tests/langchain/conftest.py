from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("langchain_core")

from mnesis import Engine, concurrency, sync
from tests.support.langchain_fakes import ReadLog


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = Engine(tmp_path / "sessions.db")
    yield made
    concurrency.run(made.close())


@pytest.fixture
def log(engine: Engine) -> ReadLog:
    """The log of a session as (role, text) pairs, read natively."""

    def read(session_id: str) -> list[tuple[str, str]]:
        session = sync.SyncSession.load(session_id, engine=engine)
        return [(m.role, m.text_content() or "".join(r.output for r in m.tool_results)) for m in session.messages()]

    return read
