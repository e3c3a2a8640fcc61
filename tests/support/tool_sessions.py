"""Sessions with tools, and the requests that their models received."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mnesis import (
    MnesisConfig,
    MnesisSession,
    SessionConfig,
    ToolResultPart,
)
from mnesis.llm.base import LLMRequest
from mnesis.testing import ScriptedLLM
from tests.session.support import MODEL

LOOK = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {"at": {"type": "string"}}}},
}


requests: dict[str, list[LLMRequest]] = {}


@asynccontextmanager
async def opened(db: Path, *script: Any, **settings: Any) -> AsyncIterator[MnesisSession]:
    model = ScriptedLLM(list(script), repeat_last=True)
    config = MnesisConfig(session=SessionConfig(**settings))
    async with MnesisSession.open(model=MODEL, db_path=db, llm=model, config=config) as session:
        requests[session.id] = model.requests
        yield session


async def results(session: MnesisSession) -> list[ToolResultPart]:
    """The results in the order of their calls. The log has them in the order in which the tools finished."""
    stored = [part for message in await session.messages() for part in message.tool_results]
    return sorted(stored, key=lambda part: part.tool_call_id)
