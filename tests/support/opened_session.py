"""A session with a scripted model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mnesis import (
    MnesisSession,
)
from mnesis.testing import ScriptedLLM
from tests.session.support import MODEL


def opened(db: Path, llm: object = "unused", **arguments: Any) -> Any:
    llm = ScriptedLLM("fine") if llm == "unused" else llm
    return MnesisSession.open(model=MODEL, db_path=db, llm=llm, **arguments)
