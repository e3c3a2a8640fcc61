"""Every Python block of the documentation is run, and prints what the page says it prints."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, PAGES, ROOT, blocks, python_blocks
from tests.support.warm_python import run_python

RUNNER = Path(__file__).with_name("run_page.py")
# These pages need a model of their framework's test suite, or a server, and are run there.
RUN_ELSEWHERE = {
    "langchain.md": "tests/langchain/test_docs.py",
    "llamaindex.md": "tests/llamaindex/test_docs.py",
    "postgres.md": "tests/store/postgres/test_docs.py",
    "tracing.md": "tests/telemetry/test_docs.py",
}
# Files that pages take for granted.
TICKETS = '{"text": "The lift is stuck again."}\n{"text": "Thank you!"}\n'
PARSE = "def parse(text):\n    return text\n"
AT_HAND = {
    "maps.md": {"tickets.jsonl": TICKETS},
    "agents.md": {"parse.py": PARSE},
    "delegation.md": {"parse.py": PARSE},
}
# This page scripts its models, which the mock would replace.
WITHOUT_MOCK = {"testing.md"}
KNOWN_LANGUAGES = {"python", "text", "bash", "console", "sql", "toml", "json"}
NEEDS = (
    "agents",
    "pydantic_ai",
    "fastapi",
    "pytest",
    "langchain_core",
    "langchain",
    "llama_index",
    "matplotlib",
    "pypdf",
)


def run_page(page: Path, home: Path, *numbers: int, mock: str = "1") -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "MNESIS_MOCK_LLM": mock}
    return run_python([str(RUNNER), str(page), *map(str, numbers)], cwd=home, env=environment, has_mnesis=True)


def skip_without_packages(text: str) -> None:
    for package in NEEDS:
        if re.search(rf"^\s*(from|import) {package}\b", text, re.M) and importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")


def name(page: Path) -> str:
    return page.relative_to(DOCS).as_posix()


@pytest.mark.parametrize("page", [p for p in PAGES if python_blocks(p) and name(p) not in RUN_ELSEWHERE], ids=name)
def test_the_blocks_of_a_page_run_as_they_stand(page: Path, tmp_path: Path) -> None:
    skip_without_packages(page.read_text("utf-8"))
    for file_name, content in AT_HAND.get(name(page), {}).items():
        (tmp_path / file_name).write_text(content, "utf-8")
    ran = run_page(page, tmp_path, mock="0" if page.name in WITHOUT_MOCK else "1")
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr
    assert f"{len(python_blocks(page))} blocks were run" in ran.stderr


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.name)
def test_no_block_escapes_being_run(page: Path) -> None:
    text = page.read_text("utf-8")
    assert {block.language for block in blocks(page)} <= KNOWN_LANGUAGES
    assert len(re.findall(r"^\s*(?:```|~~~)\s*py", text, re.M)) == len(python_blocks(page))
    assert "<!-- not run" not in text
    assert not [
        b.line for b in blocks(page) if b.language != "python" and re.search(r"^(from|import) \w", b.text, re.M)
    ]


@pytest.mark.parametrize(("page", "module"), RUN_ELSEWHERE.items())
def test_pages_that_are_run_elsewhere_are_named_there(page: str, module: str) -> None:
    assert f'"{page}"' in (ROOT / module).read_text("utf-8")


def test_a_block_that_fails_or_prints_something_else_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    for body, complaint in (
        ("```python\nprint(1)\n```\n\n```text\n2\n```\n", "the page shows"),
        ("```python\nawait undefined()\n```\n", "NameError"),
        ("```python\nimport socket\nsocket.create_connection(('192.0.2.1', 80))\n```\n", "may not reach the network"),
    ):
        page.write_text(body, "utf-8")
        ran = run_page(page, tmp_path, mock="0" if page.name in WITHOUT_MOCK else "1")
        assert ran.returncode != 0
        assert complaint in ran.stderr
