"""`python -m tests.upstream` says how to get a suite, refuses others, and its plugin for LlamaIndex swaps the memories."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from tests.upstream.__main__ import Suite, copy_tests, main, run_suite

PACKAGE = "llama-index-core"
pytest.importorskip("llama_index.core")

SWAPPED = """
import inspect

from llama_index.core.agent.workflow import base_agent, multi_agent_workflow
from llama_index.core.chat_engine import SimpleChatEngine, context
from llama_index.core.llms import ChatMessage, MockLLM
from llama_index.core.memory import ChatMemoryBuffer, ChatSummaryMemoryBuffer, Memory
from llama_index.core.memory.chat_memory_buffer import ChatMemoryBuffer as Buffer
from llama_index.memory.mnesis import MnesisMemory


def test_all_names_are_swapped():
    used = {ChatMemoryBuffer, ChatSummaryMemoryBuffer, Memory, Buffer, context.Memory}
    used |= {base_agent.ChatMemoryBuffer, multi_agent_workflow.ChatMemoryBuffer}
    (swapped,) = used
    assert issubclass(swapped, MnesisMemory)


def test_engines_use_the_swapped_class():
    engine = SimpleChatEngine.from_defaults(llm=MockLLM())
    engine.chat("Hello")
    assert isinstance(engine._memory, MnesisMemory)
    assert [message.role for message in engine.chat_history] == ["user", "assistant"]


def test_memories_share_nothing():
    first, second = Memory(token_limit=9, session_id="a"), Memory.from_defaults(session_id="a", token_flush_size=3)
    first.put(ChatMessage("Hello"))
    assert not second.get_all()


def test_fails():
    assert Memory is None
"""


def checkout(directory: Path, package_version: str, test: str = "") -> Path:
    """Write a package's folder as a checkout has it and return where."""
    (directory / "tests/memory").mkdir(parents=True)
    (directory / "pyproject.toml").write_text(f'[project]\nname = "{PACKAGE}"\nversion = "{package_version}"\n')
    (directory / "tests/memory/test_own.py").write_text(test)
    return directory


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the message with which the command refuses."""
    with pytest.raises(SystemExit) as refused:
        main(list(arguments))
    assert refused.value.code == 2
    return capsys.readouterr().err


def test_a_suite_without_tests_names_the_clone_command(capsys: pytest.CaptureFixture[str]) -> None:
    message = refusal(capsys, PACKAGE)
    assert f"git clone --depth 1 --branch v{version(PACKAGE)} https://github.com/run-llama/llama_index" in message
    assert "--source llama_index/llama-index-core" in message


def test_a_checkout_must_be_of_the_installed_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refusal(capsys, PACKAGE, "--source", str(checkout(tmp_path, "0.1.2")))
    assert "llama-index-core 0.1.2" in message
    assert f"{version(PACKAGE)} is installed" in message
    assert "has no tests" in refusal(capsys, PACKAGE, "--source", str(tmp_path / "nowhere"))
    assert "name it" in refusal(capsys, "--source", str(tmp_path))
    assert "'other' is not one of" in refusal(capsys, "other")


def test_llamaindex_runs_with_memories_of_mnesis(tmp_path: Path) -> None:
    source = copy_tests(PACKAGE, checkout(tmp_path / "clone", version(PACKAGE), SWAPPED), tmp_path / "copy")
    file = "tests/memory/test_own.py"
    allowed = {f"{file}::test_fails": "fails", f"{file}::test_memories_share_nothing": "passes", f"{file}::test_x": ""}
    suite = Suite((file,), "swap_llamaindex", allowed)
    passed, problems = run_suite(PACKAGE, suite, source, tmp_path / "packages")
    stale = [f"{PACKAGE}: {name} passes; remove it from the list" for name in sorted(allowed) if "fails" not in name]
    assert (passed, problems) == (3, stale)
