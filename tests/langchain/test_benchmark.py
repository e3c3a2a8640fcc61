from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("langchain.agents")
pytest.importorskip("langgraph.checkpoint.sqlite.aio")


def test_the_benchmark_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.langchain", "--quick"],
        capture_output=True,
        text=True,
        timeout=110,
        cwd=Path(__file__).parents[2],
        check=True,
    )
    for row in ("mnesis: read the window", "AsyncSqliteSaver: put a checkpoint", "loads langgraph: no"):
        assert row in done.stdout
