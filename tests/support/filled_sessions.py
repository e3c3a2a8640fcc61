"""Sessions that are filled to a number of tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mnesis import (
    MnesisSession,
)
from mnesis.testing import ScriptedLLM
from tests.session.support import MODEL, chatter, small
from tests.support.summaries import acceptable_summary


def opened(db: Path, llm: object = None, **settings: Any) -> Any:
    return MnesisSession.open(
        model=MODEL, db_path=db, llm=llm or ScriptedLLM(acceptable_summary), config=small(**settings)
    )


async def fill(session: MnesisSession, tokens: int) -> int:
    """Record turns until the context has that many tokens. Returns the number of turns."""
    turns = 0
    while session.context_tokens < tokens:
        await session.record(*chatter(turns))
        turns += 1
    return turns
