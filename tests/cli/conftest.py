from __future__ import annotations

import asyncio
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mnesis import Engine, MnesisConfig, MnesisSession
from mnesis.cli.app import cli
from mnesis.config import CompactionConfig, ModelOverrides
from mnesis.llm.no_model import NoModel
from mnesis.models.message import MessagePart, TextPart, ToolPart, ToolStatus
from tests.support.hostile_commands import HOSTILE, SESSION, Fill, Run, hostile_child, hostile_session


@pytest.fixture(autouse=True)
def _own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("MNESIS_DB", "MNESIS_MOCK_LLM", "NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run() -> Run:
    """Run the command in this process; `result.stdout`, `result.stderr`, `result.exit_code`."""

    def invoke(*arguments: object, **options: Any) -> Result:
        return CliRunner().invoke(cli, [str(argument) for argument in arguments], **options)

    return invoke


def small_window() -> MnesisConfig:
    return MnesisConfig(
        model_overrides=ModelOverrides(context_limit=4_000, max_output_tokens=500),
        compaction=CompactionConfig(
            compaction_output_budget=1_000, prune_protect_tokens=600, prune_minimum_tokens=200, auto=False
        ),
    )


def tool_call(name: str, output: str, call_id: str, *, failed: bool = False) -> ToolPart:
    return ToolPart(
        tool_name=name,
        tool_call_id=call_id,
        input={"path": "a.txt"},
        output=None if failed else output,
        error_message=output if failed else None,
        status=ToolStatus(state="error" if failed else "completed"),
    )


def answer(number: int) -> list[MessagePart]:
    said: list[MessagePart] = [TextPart(text=f"Answer {number}: the cause was valve {number}.")]
    if number % 2:
        said.append(tool_call("read_file", f"line {number} of the log\n" * 40, f"call_{number}"))
    return said


async def record(path: Path, session_id: str, turns: int, *, compact_at: tuple[int, ...] = ()) -> None:
    """A session of some turns with tool calls, folded after the turns in `compact_at`."""
    async with (
        Engine(path, config=small_window(), llm=NoModel()) as engine,
        MnesisSession.open(
            model="demo/none", system_prompt="Be brief.", session_id=session_id, engine=engine
        ) as session,
    ):
        for number in range(1, turns + 1):
            await session.record(f"Question {number} about pump {number}?", answer(number))
            if number in compact_at:
                await session.compact()


@pytest.fixture(scope="session")
def _template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "some.db"
    asyncio.run(record(path, "alpha-session", 14, compact_at=(6, 12)))
    asyncio.run(record(path, "alpine", 1))
    return path


@pytest.fixture
def database(tmp_path: Path, _template: Path) -> Path:
    """Two sessions: `alpha` with compactions, `alpine` with one turn."""
    return Path(shutil.copy(_template, tmp_path / "some.db"))


@pytest.fixture(scope="module")
def hostile_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The hostile session, gone through an export in which somebody made the ids of summaries and messages hostile."""
    directory = tmp_path_factory.mktemp("hostile")
    asyncio.run(hostile_session(directory / "first.db"))
    lines = CliRunner().invoke(cli, ["export", SESSION, "--db", str(directory / "first.db")]).stdout
    ids = re.compile(r'"((?:sum|msg)_[0-9a-z]+)"')
    (directory / "export.jsonl").write_text(ids.sub(lambda found: json.dumps(found[1] + HOSTILE), lines))
    path = directory / "hostile.db"
    done = CliRunner().invoke(cli, ["import", str(directory / "export.jsonl"), "--db", str(path)])
    assert done.exit_code == 0, done.output
    asyncio.run(hostile_child(path))
    return path


@pytest.fixture
def hostile(hostile_source: Path, tmp_path: Path) -> Path:
    """A copy of the hostile database, because commands such as compact and chat change it."""
    return Path(shutil.copy(hostile_source, tmp_path / "hostile.db"))


@pytest.fixture
def fill(tmp_path: Path, run: Run) -> Fill:
    return Fill(tmp_path, run)
