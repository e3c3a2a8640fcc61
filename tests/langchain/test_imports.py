from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import langchain_mnesis

ROOT = Path(__file__).parents[2]


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT / "integrations", check=True
    )
    return done.stdout.strip()


def test_the_public_names_are_sorted_and_there() -> None:
    pytest.importorskip("langchain.agents")
    assert sorted(langchain_mnesis.__all__) == langchain_mnesis.__all__
    assert all(getattr(langchain_mnesis, name) is not None for name in langchain_mnesis.__all__)
    with pytest.raises(AttributeError):
        _ = langchain_mnesis.nothing_of_the_kind  # type: ignore[attr-defined]  # what is tested


def test_importing_loads_no_langgraph_and_opens_nothing() -> None:
    heavy = ["langgraph", "langchain", "litellm", "tiktoken", "llama_index", "sqlalchemy"]
    code = f"import sys, langchain_mnesis; print([name for name in {heavy} if name in sys.modules])"
    assert run(code) == "[]"


@pytest.mark.parametrize(
    ("missing", "statement", "command"),
    [
        ("langchain_core", "import langchain_mnesis", 'pip install "mnesis-context[langchain]"'),
        (
            "langchain",
            "from langchain_mnesis import MnesisMiddleware",
            'pip install "mnesis-context[langchain-agents]"',
        ),
    ],
)
def test_a_missing_extra_says_how_to_install_it(missing: str, statement: str, command: str) -> None:
    code = f"import sys\nsys.modules[{missing!r}] = None\ntry:\n    {statement}\nexcept ImportError as error:\n    print(error)"
    assert command in run(code)
