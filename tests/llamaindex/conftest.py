"""Fixtures for LlamaIndex tests: memories and engines that are closed after the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("llama_index.core")

from llama_index.core.base.llms import types
from llama_index.memory.mnesis import MnesisMemory

from mnesis.engine import Engine
from tests.support.llamaindex_fakes import MakeMemory

# These tests use blocks that older versions of llama-index-core do not have.
collect_ignore = (
    [] if hasattr(types, "ToolCallBlock") else ["test_messages.py", "test_agents.py", "test_one_session.py"]
)


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "memory.db"


@pytest.fixture
def make_memory(db: Path) -> Iterator[MakeMemory]:
    """`MnesisMemory.from_defaults` over one database file."""
    made: list[MnesisMemory] = []

    def make(**fields: Any) -> MnesisMemory:
        if "engine" not in fields:
            fields.setdefault("db_path", db)
        made.append(MnesisMemory.from_defaults(**fields))
        return made[-1]

    yield make
    for memory in made:
        memory.close()


@pytest.fixture
def memory(make_memory: MakeMemory) -> MnesisMemory:
    return make_memory(session_id="s")


@pytest.fixture
def engine(db: Path) -> Iterator[Engine]:
    from mnesis import concurrency

    made = Engine(db)
    yield made
    concurrency.run(made.close())
