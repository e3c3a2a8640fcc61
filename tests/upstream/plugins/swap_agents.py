"""A pytest plugin: `SQLiteSession` of the Agents SDK's tests is a session of mnesis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import agents
import agents.memory
import agents.memory.sqlite_session

from agents_mnesis import MnesisAgentSession
from mnesis import concurrency


class SwappedSession(MnesisAgentSession):
    """A session with the constructor and `close()` of the class it replaces."""

    def __init__(
        self,
        session_id: str,
        db_path: str | Path = ":memory:",
        *arguments: str,
        session_settings: Any = None,
        **named: str,
    ) -> None:
        super().__init__(session_id, db_path=db_path, session_settings=session_settings, token_limit=100_000)

    def close(self) -> None:  # type: ignore[override]  # SQLiteSession closes synchronously
        """Close the session."""
        concurrency.run(super().close())


for module in (agents, agents.memory, agents.memory.sqlite_session):
    vars(module)["SQLiteSession"] = SwappedSession
