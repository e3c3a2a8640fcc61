"""The floors of the house: who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import mnesis

PACKAGE = Path(mnesis.__file__).parent
SOLE_USERS = {
    "litellm": ("llm/litellm.py",),
    "aiosqlite": ("store/sqlite/database_worker.py",),
    # The command line names the library's version; it never opens a database with it. Explorers look into users' files.
    # Search in PostgreSQL splits texts into words with SQLite's tokenizer, and ranks with the same functions.
    "sqlite3": (
        *("store/sqlite/", "store/memory_index.py", "cli/doctor_environment.py", "files/explorers/sqlite.py"),
        *("store/postgres/search.py", "store/postgres/search_terms.py", "testing/fault"),
    ),
    "psycopg": ("store/postgres/",),
    "psycopg_pool": ("store/postgres/database.py",),
    "tiktoken": ("tokens/",),
    "click": ("cli/",),
    "rich": ("cli/", "display/"),
    "jinja2": ("operators/template.py", "inspect/render.py"),
    "starlette": ("inspect/", "mcp/"),
    "uvicorn": ("inspect/", "mcp/"),
    "mcp": ("mcp/",),
    "opentelemetry": ("telemetry/otel.py",),
    "tree_sitter": ("files/explorers/",),
    "pypdf": ("files/explorers/",),
    "langchain": (),
    "langchain_core": (),
    "langgraph": (),
    "llama_index": (),
    "agents": (),
    "pydantic_ai": (),
    "matplotlib": ("display/plots.py",),
    # The pool asks whether a client can be pickled; the suite loads what it has just written.
    "pickle": ("session/pool.py", "testing/adapter_suite.py"),
    "marshal": (),
    "shelve": (),
}


@cache
def imports_of(source: Path) -> frozenset[str]:
    """Top-level names of everything a file imports, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return frozenset(names)


@pytest.mark.parametrize("library", SOLE_USERS)
def test_a_library_is_used_only_where_it_belongs(library: str) -> None:
    users = [p.relative_to(PACKAGE).as_posix() for p in PACKAGE.rglob("*.py") if library in imports_of(p)]
    assert [user for user in users if not user.startswith(SOLE_USERS[library])] == []


def test_the_session_knows_no_sql_and_no_provider() -> None:
    text = (PACKAGE / "session/session.py").read_text("utf-8")
    for word in ("SELECT ", "INSERT ", "sqlite", '"tool_calls"', '"content"', "max_retries"):
        assert word not in text


def test_arrows_between_the_rooms_point_down() -> None:
    pytest.importorskip("importlinter")
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    outcome = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True, timeout=100, check=False)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


ROOT = PACKAGE.parent
INTEGRATIONS = ("agents_mnesis", "langchain_mnesis", "llama_index", "pydantic_ai_mnesis")
SOURCE_ROOTS = (ROOT / "mnesis", *(ROOT / "integrations" / name for name in INTEGRATIONS))


def import_graph() -> dict[str, set[str]]:
    """The modules of every package and what each imports, inside functions too."""
    modules = {}
    for path in (path for root in SOURCE_ROOTS for path in root.rglob("*.py")):
        name = path.relative_to(ROOT).as_posix().removeprefix("integrations/").removesuffix(".py")
        modules[name.removesuffix("/__init__").replace("/", ".")] = path
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        targets: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                targets.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                full = [f"{node.module}.{alias.name}" for alias in node.names]
                targets.update(name if name in modules else node.module for name in full)
        graph[module] = (targets & modules.keys()) - {module}
    return graph


def test_no_module_imports_itself_through_others() -> None:
    try:
        TopologicalSorter(import_graph()).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


LIGHT_PARTS = {
    "concurrency", "display", "errors", "late_types", "models", "models.page_sizes", "redaction", "session", "telemetry", "validation",
    "display.displayable", "session.forked_turn", "session.session", "session.opening", "session.reader", "session.reentrancy", "session.turn_lock", "session.view",
    "telemetry.hooks",
}  # fmt: skip


def test_importing_the_session_class_loads_signatures_only() -> None:
    """What a method alone needs is imported in that method: importing the class costs less than importing pydantic."""
    code = "import sys; from mnesis import MnesisSession; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    parts = {name.removeprefix("mnesis.") for name in loaded if name.startswith("mnesis.")}
    assert parts <= LIGHT_PARTS, (
        "import these inside the methods that use them, and under TYPE_CHECKING for annotations"
    )
    assert {"pydantic", "aiosqlite", "anyio"}.isdisjoint(loaded)
