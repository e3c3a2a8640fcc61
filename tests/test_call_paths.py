"""The call paths in docs/architecture.md exist in the code: each function is in its file, and its caller names it."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
LINE = re.compile(r"(?P<path>\S+\.py)(?P<indent> +)(?P<name>[\w.]+)")
FLOWS = ("send", "record", "context_for_next_turn", "search", "compact", "awrap_model_call", "aput_messages")


def read_paths() -> list[list[tuple[str, int, str]]]:
    """Return the call paths of the page: for each line its path, the column of its function, and the function."""
    section = PAGE.read_text().partition("## Follow a call\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```text\n(.*?)```", section, re.DOTALL)
    return [
        [(line["path"], line.start("name"), line["name"]) for line in map(LINE.match, block.splitlines()) if line]
        for block in blocks
    ]


@cache
def functions(path: str) -> dict[str, ast.AST]:
    file = next(each for each in (ROOT / "mnesis" / path, ROOT / "integrations" / path) if each.is_file())
    return dict(named_functions(ast.parse(file.read_text()).body))


def named_functions(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from named_functions(node.body, f"{node.name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name, node


def used_names(function: ast.AST) -> set[str]:
    return {getattr(node, "attr", None) or getattr(node, "id", "") for node in ast.walk(function)}


def callers_of(lines: list[tuple[str, int, str]], index: int) -> Iterator[tuple[str, str]]:
    """Yield the function above a line in its tree."""
    column = lines[index][1]
    for path, other_column, name in reversed(lines[:index]):
        if other_column < column:
            yield path, name
            return


def test_the_page_follows_the_calls_that_readers_ask_for() -> None:
    first_functions = [lines[0][2].rpartition(".")[2] for lines in read_paths()]
    assert set(FLOWS) <= set(first_functions)


@pytest.mark.parametrize("lines", read_paths(), ids=lambda lines: lines[0][2])
def test_each_function_of_a_call_path_is_called_by_the_one_above(lines: list[tuple[str, int, str]]) -> None:
    for index, (path, _, name) in enumerate(lines):
        assert name in functions(path), f"{path} has no function {name}"
        for caller_path, caller in callers_of(lines, index):
            called = name.rpartition(".")[2]
            assert called in used_names(functions(caller_path)[caller]), f"{caller} does not call {called}"
