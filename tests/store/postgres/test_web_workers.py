"""The example with two web workers, on a PostgreSQL server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("httpx")

EXAMPLE = Path(__file__).parents[3] / "examples" / "16_two_web_workers.py"


def test_two_web_workers_share_a_postgresql_database(url: str, tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "MNESIS_MOCK_LLM": "1", "DATABASE_URL": url}
    ran = subprocess.run(
        [sys.executable, str(EXAMPLE)], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "never interleave: True" in ran.stdout
    assert "every message: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]" in ran.stdout
    assert '"done": 20, "failed": 0, "total": 20' in ran.stdout
