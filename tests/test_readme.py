"""What the README shows is run, block by block, as a newcomer would run it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, python_blocks
from tests.docs.test_docs_blocks import run_page, skip_without_packages
from tests.support.warm_python import run_python

README = ROOT / "README.md"
BLOCKS = python_blocks(README)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_block_of_the_readme_runs_by_itself(number: int, tmp_path: Path) -> None:
    skip_without_packages(BLOCKS[number].text)
    ran = run_page(README, tmp_path, number)
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr
    assert "1 blocks were run" in ran.stderr


def test_the_first_block_shows_its_real_output(tmp_path: Path) -> None:
    ran = run_page(README, tmp_path, 0, mock="0")
    assert ran.returncode == 0, ran.stderr
    assert BLOCKS[0].output is not None
    assert "before:" in BLOCKS[0].output
    assert "after:" in BLOCKS[0].output


def test_with_a_model_the_compaction_brings_the_context_down(tmp_path: Path) -> None:
    script = tmp_path / "real.py"
    script.write_text(next(block.text for block in BLOCKS if "session.send(" in block.text), "utf-8")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "MNESIS_MOCK_LLM": "1"}
    ran = run_python([str(script)], cwd=tmp_path, env=environment, has_mnesis=True)
    shown = re.findall(r"(\d+) messages, (\d+) tokens", ran.stdout)
    assert len(shown) == 2, ran.stderr
    (messages, tokens), (messages_after, tokens_after) = shown
    assert int(messages_after) < int(messages)
    assert int(tokens_after) < int(tokens)


def test_the_readme_has_what_a_newcomer_looks_for() -> None:
    text = README.read_text("utf-8")
    assert len(BLOCKS) >= 5
    for wanted in (
        "pip install uv && uv run mnesis demo",
        "pip install uv && uv run pytest",
        "docs/pictures/session.svg",
        "python docs/pictures/draw.py",
        "session.record(",
        "langchain_mnesis",
        "llama_index.memory.mnesis",
    ):
        assert wanted in text
