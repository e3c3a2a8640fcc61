"""What a type checker sees in code that uses mnesis."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from mnesis import config

ROOT = Path(__file__).parents[2]
PROGRAM = """
from pydantic import BaseModel

from mnesis import AgenticMap, Engine, LLMMap, MnesisConfig, MnesisSession, SessionConfig
from mnesis.operators import AgentOptions


class Label(BaseModel):
    topic: str


async def main() -> None:
    async with MnesisSession.open(model="openai/gpt-4o") as entered:
        reveal_type(entered)  # MnesisSession
    reveal_type(await MnesisSession.create(model=None, config={"compaction": {"auto": False}}))  # MnesisSession
    mapper = LLMMap(model="openai/gpt-4o")
    async for result in mapper.run([1], "{{ item }}", Label):
        reveal_type(result.output)  # Label
    reveal_type((await mapper.run_all([1], "{{ item }}", Label)).successes[0].output)  # Label
    reveal_type((await mapper.run_all([1], "{{ item }}", {"type": "object"})).results[0].output)  # Any
    typed = LLMMap[Label](model="openai/gpt-4o")
    async for result in typed.run([1], "{{ item }}"):
        reveal_type(result.output)  # Label
    reveal_type((await typed.run_all([1], "{{ item }}")).results[0].output)  # Label
    agents = AgenticMap(model="openai/gpt-4o")
    async for agent_result in agents.run([1], "{{ item }}", output_schema=Label, max_turns=3):
        reveal_type(agent_result.output)  # Label
    reveal_type((await agents.run_all([1], "{{ item }}", output_schema=Label)).successes[0].output)  # Label
    reveal_type((await agents.run_all([1], "{{ item }}")).results[0].output)  # Any
    reveal_type((await agents.run_all([1], "{{ item }}", output_schema={"type": "object"})).results[0].output)  # Any
    common: AgentOptions = {"max_turns": 3}
    reveal_type((await agents.run_all([1], "{{ item }}", **common)).results[0].output)  # Any
    typed_agents = AgenticMap[Label](model="openai/gpt-4o")
    async for agent_result in typed_agents.run([1], "{{ item }}"):
        reveal_type(agent_result.output)  # Label
    reveal_type((await typed_agents.run_all([1], "{{ item }}", max_turns=2)).failures[0].output)  # Label
    MnesisConfig(session=SessionConfig(retry={"max_retries": 2}, prompt_cache="1h"))
    Engine(config=MnesisConfig(model_overrides={"context_limit": 64_000}, session={"retry": {"max_retries": 1}}))
"""


def test_a_strict_type_checker_knows_the_types_of_results(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(program)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    revealed = re.findall(r'Revealed type is "(?:[\w.]+\.)?(\w+)"', done.stdout)
    assert revealed == re.findall(r"reveal_type\(.*  # (\w+)", PROGRAM)


GROUPS = [
    kind
    for kind in vars(config).values()
    if isinstance(kind, type)
    and issubclass(kind, BaseModel)
    and kind.__module__ == config.__name__
    and kind.model_fields
]


def parts(kind: type[BaseModel]) -> list[str]:
    """Return the fields of a group of settings that are groups themselves, so that a dict is accepted."""
    fields = kind.model_fields.items()
    return [name for name, field in fields if {field.annotation, *get_args(field.annotation)} & set(GROUPS)]


@pytest.mark.parametrize("kind", [kind for kind in GROUPS if parts(kind)], ids=lambda kind: kind.__name__)
def test_type_checkers_see_every_group_of_settings(kind: type[BaseModel]) -> None:
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    (stub,) = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    assert [argument.arg for argument in stub.args.kwonlyargs] == list(kind.model_fields)
    for argument in stub.args.kwonlyargs:
        if argument.arg in parts(kind):
            assert "Mapping[str, Any]" in ast.unparse(argument.annotation or ast.Constant(None))
