"""The examples of the adapters, which are what users write, are clean in two strict type checkers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("agents")
pytest.importorskip("langchain.agents")
pytest.importorskip("llama_index.core")
pytest.importorskip("pydantic_ai")

ROOT = Path(__file__).parents[2]
SCRIPTS = [str(path) for path in sorted((ROOT / "examples").glob("[01][0-9]_*.py")) if path.name[:2] >= "08"]


def test_mypy_strict_finds_nothing_in_the_examples_of_the_adapters() -> None:
    command = [sys.executable, "-m", "mypy", "--strict", *SCRIPTS]
    outcome = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_pyright_finds_nothing_in_the_examples_of_the_adapters(tmp_path: Path) -> None:
    # basedpyright is pyright with its Node.js in a wheel; "standard" is pyright's own default.
    (tmp_path / "pyrightconfig.json").write_text(
        json.dumps(
            {
                "include": SCRIPTS,
                "extraPaths": [str(ROOT / "examples"), str(ROOT), str(ROOT / "integrations")],
                "typeCheckingMode": "standard",
            }
        )
    )
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--project", str(tmp_path)]
    outcome = subprocess.run([*command, "--pythonpath", sys.executable], capture_output=True, text=True, check=False)
    report = json.loads(outcome.stdout)
    assert report["summary"]["filesAnalyzed"] >= len(SCRIPTS)
    assert [f"{each['file']}: {each['message']}" for each in report["generalDiagnostics"]] == []
