from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.warm_python import run_python

pytest.importorskip("langchain.agents")
pytest.importorskip("langgraph.checkpoint.sqlite.aio")


def test_the_benchmark_runs() -> None:
    done = run_python(["-m", "benchmarks.langchain", "--quick"], cwd=Path(__file__).parents[2], has_mnesis=True)
    for row in ("mnesis: read the window", "AsyncSqliteSaver: put a checkpoint", "loads langgraph: no"):
        assert row in done.stdout
