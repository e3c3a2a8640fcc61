"""What a type checker sees in code that uses mnesis."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

from mnesis import config

ROOT = Path(__file__).parents[2]
PROGRAM = """
from pydantic import BaseModel

from mnesis import Engine, LLMMap, MnesisConfig, MnesisSession


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


def test_type_checkers_see_every_group_of_settings() -> None:
    tree = ast.parse(inspect.getsource(config.MnesisConfig))
    (stub,) = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    assert [argument.arg for argument in stub.args.kwonlyargs] == list(config.MnesisConfig.model_fields)
