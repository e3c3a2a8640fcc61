"""What the documentation says about the code is what the code says."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import itertools
import json
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.docs.pages import DOCS, PAGES, ROOT, blocks
from tests.support.warm_python import run_python

PACKAGES = [ROOT / "mnesis", ROOT / "integrations"]


def load(path: Path) -> object:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generate() -> object:
    return load(DOCS / "generate.py")


def test_generated_tables_are_what_the_code_says(generate) -> None:
    pytest.importorskip("langchain.agents")
    pytest.importorskip("llama_index.core")
    stale = [page.name for page, _ in generate.stale_pages()]
    assert stale == [], "run python docs/generate.py"


def test_every_generated_part_has_its_place(generate) -> None:
    placed = [name for page in PAGES for _, name, _ in generate.PART.findall(page.read_text("utf-8"))]
    assert sorted(placed) == sorted(generate.PARTS)


def test_a_setting_that_changes_is_noticed(generate) -> None:
    page = DOCS / "configuration.md"
    text = page.read_text("utf-8")
    changed = text.replace("| `0.6` | ≥ 0.1, ≤ 0.95 |", "| `0.5` | ≥ 0.1, ≤ 0.95 |")
    assert changed != text
    assert generate.render_parts(changed) == text


def test_every_field_of_every_setting_is_described() -> None:
    from mnesis import MnesisConfig

    text = (DOCS / "configuration.md").read_text("utf-8")
    for group in type(MnesisConfig()).model_fields.values():
        fields = getattr(group.annotation, "model_fields", {})
        assert [name for name in fields if f"| `{name}` |" not in text] == []
        assert [name for name, field in fields.items() if not field.description] == []


def test_every_environment_variable_is_documented() -> None:
    text = (DOCS / "configuration.md").read_text("utf-8")
    sources = [path.read_text("utf-8") for package in PACKAGES for path in package.rglob("*.py")]
    named = {name for source in sources for name in re.findall(r"[\"'`](MNESIS_[A-Z_]+)\b", source)}
    assert "MNESIS_MOCK_LLM" in named
    assert sorted(name for name in named if f"`{name}`" not in text) == []


def test_every_public_name_is_in_the_reference() -> None:
    import mnesis

    text = "".join(page.read_text("utf-8") for page in (DOCS / "reference").glob("*.md"))
    assert [name for name in mnesis.__all__ if not re.search(rf"^::: mnesis\.\S*\.{name}$", text, re.M)] == []


def named_class(module: ModuleType, name: str) -> Any:
    """What a name means in a module, also if the module imports it for types only."""
    if inspect.isclass(value := getattr(module, name, None)):
        return value
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}:
            return getattr(importlib.import_module(node.module or ""), name)
    return None


def returned_classes(cls: type) -> Iterator[str]:
    """Names of the classes of mnesis that the methods and properties of a class give."""
    for base in cls.__mro__:
        for name, value in vars(base).items():
            function = getattr(value, "__func__", getattr(value, "fget", value))
            given = getattr(inspect.unwrap(function), "__annotations__", {}).get("return", "") if function else ""
            module = sys.modules[base.__module__]
            if not name.startswith("_") and base.__module__.startswith("mnesis."):
                for word in re.findall(r"\w+", str(given)):
                    named = named_class(module, word)
                    if inspect.isclass(named) and named.__module__.startswith("mnesis."):
                        yield word


def test_everything_a_session_gives_is_in_the_reference() -> None:
    from mnesis import Engine, LargeFileHandler, MnesisSession, SearchPage
    from mnesis.sync import SyncSession

    text = "".join(page.read_text("utf-8") for page in (DOCS / "reference").glob("*.md"))
    classes = (Engine, LargeFileHandler, MnesisSession, SearchPage, SyncSession)
    given = {name for cls in classes for name in returned_classes(cls)}
    assert {"SummaryDag", "TurnResult", "FilePage"} <= given
    internal = {"SessionState"}
    assert [name for name in sorted(given - internal) if not re.search(rf"^::: \S*\.{name}$", text, re.M)] == []


PAGES_OF_PROMISES = [DOCS / f"{name}.md" for name in ("reliability", "fault-injection", "redaction", "retention")]


def test_tests_that_the_pages_name_exist() -> None:
    for page in (*PAGES_OF_PROMISES, DOCS / "architecture.md"):
        path = None
        for name in re.findall(r"`(tests/[\w/.]+|test_\w+)`", page.read_text("utf-8")):
            if name.startswith("tests/"):
                path = ROOT / name
                assert path.exists(), name
            else:
                assert path is not None
                assert f"def {name}(" in path.read_text("utf-8"), f"{name} is not in {path}"


def test_every_promise_of_the_page_on_reliability_names_a_test() -> None:
    text = "".join(page.read_text("utf-8") for page in PAGES_OF_PROMISES)
    rows = re.findall(r"^\| (?!---)(.*) \|$", text, re.M)
    promises = [row for row in rows if not row.startswith("promise |")]
    assert len(promises) > 30
    pages = "| What the documentation shows | `tests/spec`, `tests/docs`"
    assert [row for row in promises if not re.search(r"`tests/[\w/]+\.py`: `test_", row) and f"| {row}" != pages] == []


def test_the_providers_variables_are_those_that_litellm_wants() -> None:
    rows = re.findall(r"^\| [\w ]+ \| `([^`]+/[^`]+)` \| (.*) \|$", (DOCS / "providers.md").read_text("utf-8"), re.M)
    assert len(rows) > 8
    said = {model: set(re.findall(r"`(\w+)`", variables)) for model, variables in rows}
    code = (
        "import json, sys, litellm\n"
        "print(json.dumps({m: litellm.validate_environment(model=m)['missing_keys'] for m in json.loads(sys.argv[1])}))"
    )
    environment = {"PATH": os.environ["PATH"], "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    ran = run_python(["-c", code, json.dumps(list(said))], env=environment)
    wanted = json.loads(ran.stdout.splitlines()[-1])
    # Where several keys would do, the page names one of them.
    assert {model: names for model, names in said.items() if not names or not names <= set(wanted[model])} == {}
    one_will_do = {"gemini/gemini-2.5-pro"}
    assert {m for m in said if m not in one_will_do and said[m] != set(wanted[m])} == set()


def test_the_layers_on_the_architecture_page_are_the_checked_ones() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    checked = [set(re.findall(r"\w+", layer)) for layer in layers]
    rooms = set().union(*checked)
    (block,) = (b for b in blocks(DOCS / "architecture.md") if b.text.startswith("langchain_mnesis "))
    words = [line.split() for line in block.text.splitlines()[1:]]
    assert [set(itertools.takewhile(rooms.__contains__, line)) for line in words] == checked
