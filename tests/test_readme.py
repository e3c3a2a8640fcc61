"""What the README shows is run, as a newcomer would run it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text("utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_block_of_the_readme_runs(number: int, tmp_path: Path) -> None:
    for package in ("langchain_core", "llama_index.core"):
        if f"from {package}" in BLOCKS[number]:
            pytest.importorskip(package)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "MNESIS_MOCK_LLM": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", BLOCKS[number]],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr


def test_the_readme_has_blocks_and_names_the_two_commands() -> None:
    text = README.read_text("utf-8")
    assert len(BLOCKS) >= 2
    assert "pip install uv && uv run mnesis demo" in text
    assert "pip install uv && uv run pytest" in text
