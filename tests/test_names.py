"""Rules for names: no participles for coroutines, and no test name that is longer than a claim."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = [path for root in ("mnesis", "integrations") for path in sorted((ROOT / root).rglob("*.py"))]
MAX_TEST_NAME_CHARS = 70
# Words that end in "ed" and are not participles.
NOT_PARTICIPLES = ("embed", "feed", "need", "seed", "speed", "exceed", "proceed", "succeed")


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text("utf-8"))
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def is_test(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return function.name.startswith("test_")


def is_participle(name: str) -> bool:
    return name.endswith("ed") and not name.endswith(NOT_PARTICIPLES)


def test_no_coroutine_is_named_by_a_participle() -> None:
    """A coroutine does something, so its name is a verb: `notify`, not `notified`."""
    names = [
        f"{path.relative_to(ROOT)}: {function.name}"
        for path in SOURCES
        for function in functions(path)
        if isinstance(function, ast.AsyncFunctionDef) and not is_test(function) and is_participle(function.name)
    ]
    assert names == []


def test_a_test_name_is_a_claim_of_at_most_seventy_characters() -> None:
    tests = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "mnesis" / "testing").rglob("*.py")]
    names = [
        f"{path.relative_to(ROOT)}: {function.name} ({len(function.name)})"
        for path in sorted(tests)
        for function in functions(path)
        if is_test(function) and len(function.name) > MAX_TEST_NAME_CHARS
    ]
    assert names == []
