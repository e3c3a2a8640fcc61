"""What the tests of files in sessions share."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from mnesis import CompactionConfig, FileConfig, MnesisConfig, RecallConfig

MODEL = "openai/gpt-4o"
WINDOW = {"context_limit": 16_384, "max_output_tokens": 1_024}
LOG = "".join(f"2026-01-{day % 28 + 1:02} INFO request {day} took {day * 37 % 101} ms\n" for day in range(3_000))
LOG_ID = hashlib.sha256(LOG.encode()).hexdigest()


def configured(where: Path, threshold: int = 500, **compaction: Any) -> MnesisConfig:
    """A window of 16,384 tokens, and files stored below `where`."""
    return MnesisConfig(
        compaction=CompactionConfig(**{"compaction_output_budget": 1_024, **compaction}),
        file=FileConfig(inline_threshold=threshold, storage_dir=where / "kept"),
        recall=RecallConfig(),
        model_overrides=WINDOW,
    )


def stored_ids(where: Path) -> set[str]:
    """The ids of the files that are stored below `where`."""
    return {path.stem for path in (where / "kept").glob("??/*.size")}
