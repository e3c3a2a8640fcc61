"""Sessions with a small window, and a count of open files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mnesis import (
    MnesisSession,
)
from mnesis.testing import ScriptedLLM
from tests.session.support import MODEL, small
from tests.support.summaries import acceptable_summary


def opened(db: Path, summariser: Any = acceptable_summary, **settings: Any) -> Any:
    llm = summariser if callable(summariser) else ScriptedLLM(summariser)
    return MnesisSession.open(model=MODEL, db_path=db, llm=llm, config=small(**settings))


def count_open_files() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
