"""Importing the library does nothing but define names."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HEAVY = (
    "litellm", "tiktoken", "jinja2", "jsonschema", "regex", "rich", "click", "langchain", "langchain_core", "langgraph",
    "llama_index", "stamina", "tenacity", "matplotlib", "numpy", "openai", "httpx", "requests", "sqlalchemy",
)  # fmt: skip

PROBE = """
import json, os, sys, threading
written, connected = [], []
def watch(event, arguments):
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        written.append(str(arguments[0]))
    elif event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        written.append(str(arguments[0]))
    elif event.startswith(("socket.connect", "socket.getaddrinfo", "sqlite3.connect", "subprocess", "os.mkdir", "os.putenv")):
        connected.append(event)
sys.dont_write_bytecode = True
sys.addaudithook(watch)
environment, directory = dict(os.environ), os.getcwd()
import importlib
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps({
    "modules": sorted({name.partition(".")[0] for name in sys.modules}),
    "written": written, "connected": connected,
    "threads": [thread.name for thread in threading.enumerate()],
    "environment_changed": dict(os.environ) != environment, "moved": os.getcwd() != directory,
    "loaded": [name for name in sys.modules if name.startswith("mnesis")],
}))
"""


def probe(*modules: str) -> dict[str, Any]:
    """What importing these modules did, in a process of its own."""
    command = [sys.executable, "-W", "error", "-c", PROBE, *modules]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert outcome.stderr == ""
    assert outcome.stdout.count("\n") == 1, "a banner"
    return dict(json.loads(outcome.stdout))


EVERY_ROOM = (
    "mnesis", "mnesis.events", "mnesis.testing", "mnesis.sync", "mnesis.store.sqlite", "mnesis.llm.litellm", "mnesis.llm.retry",
    "mnesis.compaction.sweep", "mnesis.tokens", "mnesis.tools", "mnesis.testing.store_suite",
)  # fmt: skip


@pytest.mark.parametrize("modules", [("mnesis",), EVERY_ROOM], ids=["the package", "every room"])
def test_importing_loads_nothing_heavy_and_touches_nothing(modules: tuple[str, ...]) -> None:
    found = probe(*modules)
    assert set(found["modules"]) & set(HEAVY) == set()
    assert found["written"] == []
    assert found["connected"] == []
    assert found["threads"] == ["MainThread"]
    assert not found["environment_changed"]
    assert not found["moved"]


def test_importing_the_package_loads_no_command_line_and_no_fakes() -> None:
    loaded = probe("mnesis")["loaded"]
    assert [
        name for name in loaded if name.startswith(("mnesis.cli", "mnesis.demo", "mnesis.testing", "mnesis.sync"))
    ] == []


FIRST_SESSION = """
import asyncio, sys
from mnesis import MnesisSession
async def main():
    async with MnesisSession.open(model=None, db_path=sys.argv[1]) as session:
        await session.record("Which port?", "5433")
        await session.context_for_next_turn()
asyncio.run(main())
print(*sys.modules)
"""
WITHOUT_TABLE = """
from mnesis import MnesisConfig, ModelOverrides
config = MnesisConfig(model_overrides=ModelOverrides(encoding="heuristic"))
"""


def test_a_session_that_estimates_tokens_loads_no_tokenizer(tmp_path: Path) -> None:
    """The table takes more memory than everything else in a small program."""
    code = WITHOUT_TABLE + FIRST_SESSION.replace("model=None,", 'model="openai/gpt-4o", config=config,')
    command = [sys.executable, "-c", code, str(tmp_path / "chat.db")]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "mnesis.tokens.estimator" in loaded
    assert "tiktoken" not in loaded


LATE_PARTS = (
    "compaction.sweep", "compaction.summarizer", "compaction.extract", "files.explorers.columns", "operators", "recall",
    "session.turn", "store.memory", "store.postgres", "store.sqlite.backup", "store.sqlite.check", "store.sqlite.search",
    "tools.recall", "inspect", "mcp", "cli",
)  # fmt: skip


def test_a_first_session_loads_no_summaries_searches_or_checks(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FIRST_SESSION, str(tmp_path / "chat.db")]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    late = [f"mnesis.{part}" for part in LATE_PARTS]
    assert [name for name in loaded if any(name == part or name.startswith(f"{part}.") for part in late)] == []
    assert {"snowballstemmer", "litellm", "dateparser", "jsonschema", "openai"}.isdisjoint(loaded)


def test_the_public_names_are_there_sorted_and_each_once() -> None:
    import mnesis

    assert mnesis.__all__ == sorted(set(mnesis.__all__))
    for name in mnesis.__all__:
        assert getattr(mnesis, name) is not None
