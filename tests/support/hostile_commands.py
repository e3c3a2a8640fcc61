"""Every command with one way to call it, and a database whose content attacks terminals."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from click.testing import Result

from mnesis import Engine, MnesisSession
from mnesis.config import CompactionConfig, MnesisConfig, ModelOverrides
from mnesis.ids import new_id
from mnesis.llm.no_model import NoModel
from mnesis.models.message import DataPart, FileRefPart, Message, ReasoningPart, TextPart, ToolPart, ToolStatus
from mnesis.models.session import Interruption
from mnesis.operators import LLMMap
from mnesis.testing import ScriptedLLM

Run = Callable[..., Result]


HOSTILE = "[/red]\x1b[2J\x1b]0;owned\x07 [bold]\u202egnirts\u2066\x9b31m\x7f\r\x08 <script>alert(1)</script>"


LONG_LINE = "x" * 1_000_000


SESSION = f"hostile {HOSTILE}"


@dataclass(frozen=True)
class Use:
    """One way to call a command. `reads`: it only looks. `json`: what makes it print JSON."""

    arguments: tuple[str, ...]
    reads: bool = True
    json: tuple[str, ...] = ("--json",)
    needs_id: bool = True
    makes_database: bool = False


# {id} is a session, {summary} a summary of it, {new} a file that is not there, {export} an export of another session.
USES = {
    "demo": Use(("demo", "--turns", "3"), needs_id=False, makes_database=True),
    "chat": Use(("chat", "{id}", "--mock"), reads=False, json=("--jsonl",), makes_database=True),
    "ls": Use(("ls", "--tree"), needs_id=False),
    "show": Use(("show", "{id}", "-n", "0")),
    "context": Use(("context", "{id}", "--context-limit", "4000")),
    "dag": Use(("dag", "{id}")),
    "timeline": Use(("timeline", "{id}")),
    "search": Use(("search", "gnirts"), reads=False, needs_id=False),
    "grep": Use(("grep", "gnirts", "{id}", "-C", "2")),
    "expand": Use(("expand", "{summary}", "--session", "{id}", "-n", "0")),
    "stats": Use(("stats",), needs_id=False),
    "export": Use(("export", "{id}"), json=()),
    "import": Use(("import", "{export}", "--as", "{unique}"), reads=False, needs_id=False, makes_database=True),
    "worker": Use(("worker", "{run}"), reads=False, needs_id=False),
    "fork": Use(("fork", "{id}", "--at", "2", "--as", "{unique}"), reads=False),
    "compact": Use(("compact", "{id}", "--dry-run")),
    "purge": Use(("purge", "{id}")),
    "doctor": Use(("doctor", "--deep"), needs_id=False),
    "verify": Use(("verify",), needs_id=False),
    "salvage": Use(("salvage", "--to", "{new}"), reads=False, needs_id=False),
    "seal": Use(("seal", "--key-file", "{key}"), reads=False, needs_id=False),
    "backup": Use(("backup", "{new}"), reads=False, needs_id=False),
    "reindex": Use(("reindex",), reads=False, needs_id=False),
    "migrate": Use(("migrate",), reads=False, needs_id=False),
}


ON_A_DATABASE = [name for name, use in USES.items() if not use.makes_database]


async def hostile_session(path: Path) -> None:
    """A session that is hostile wherever it can be, folded, with an interruption, a file and a line of 1 MB."""
    config = MnesisConfig(
        model_overrides=ModelOverrides(context_limit=4_000, max_output_tokens=500),
        compaction=CompactionConfig(auto=False, compaction_output_budget=1_000),
    )
    call = ToolPart(
        tool_name=HOSTILE,
        tool_call_id=HOSTILE,
        input={HOSTILE: HOSTILE},
        output=f"{HOSTILE}\n" * 30,
        status=ToolStatus(state="completed"),
    )
    file = FileRefPart(
        content_id="ab" * 32, path=f"/tmp/{HOSTILE}", file_type=HOSTILE, token_count=9, exploration_summary=HOSTILE
    )
    async with (
        Engine(path, config=config, llm=NoModel()) as engine,
        MnesisSession.open(
            model=f"demo/{HOSTILE}", system_prompt=HOSTILE, session_id=SESSION, agent=HOSTILE, engine=engine
        ) as session,
    ):
        await engine.store.update_session(SESSION, title=HOSTILE)
        for number in range(8):
            said = [TextPart(text=f"{HOSTILE} {number}"), ReasoningPart(text=HOSTILE), call]
            await session.record(f"{HOSTILE}\nquestion {number}", said)
        odd = (file, DataPart(kind=HOSTILE, data={HOSTILE: HOSTILE}, text=HOSTILE))
        await session.append([Message(id=f"m {HOSTILE}", role="user", parts=odd)])
        await session.compact()
        await session.append([Message(id="long", role="user", parts=(TextPart(text=f"{HOSTILE}\n{LONG_LINE}"),))])
        note = Interruption(3, "failed", HOSTILE, HOSTILE, HOSTILE, 1)
        await engine.store.record_interruption(SESSION, note)


async def hostile_child(path: Path) -> None:
    """A session of a sub-agent, so that a purge has something to name."""
    async with Engine(path) as engine:
        child = f"child {HOSTILE}"
        await (await MnesisSession.create(model=None, session_id=child, parent_id=SESSION, engine=engine)).close()


@dataclass
class Fill:
    """Puts names into the arguments of a use."""

    directory: Path
    run: Run

    def __call__(self, name: str, path: Path, session_id: str, *more: str) -> list[str]:
        arguments = [*USES[name].arguments, *more]
        if any("{summary}" in each for each in arguments):
            arguments = [each.replace("{summary}", self._summary(path, session_id)) for each in arguments]
        if "{run}" in arguments:
            arguments = [each.replace("{run}", self._run_id(path)) for each in arguments]
        if any("{export}" in each for each in arguments):
            arguments = [each.replace("{export}", str(self._export(path, session_id))) for each in arguments]
        new = str(self.directory / "new.db")
        key = self.directory / "key"
        if name == "seal":
            path = self._copy(path) if path.name == "hostile.db" else path
            key.write_text("k" * 32)
        names = {"{id}": session_id, "{new}": new, "{unique}": new_id("again"), "{key}": str(key)}
        filled = [names.get(each, each) for each in arguments]
        return filled if name == "demo" else [*filled, "--db", str(path)]

    def _summary(self, path: Path, session_id: str) -> str:
        if not path.is_file() or path.suffix != ".db":
            return "sum_"

        async def first() -> str:
            async with Engine(path) as engine:
                return (await engine.store.summaries(session_id))[0].id

        return asyncio.run(first())

    def _run_id(self, path: Path) -> str:
        """A finished map run, so that no model is needed."""
        if not path.is_file() or path.suffix != ".db":
            return "run_"

        async def finish() -> str:
            async with Engine(path) as engine:
                mapper = LLMMap(engine=engine, llm=ScriptedLLM("{}"))
                return (await mapper.run_all([HOSTILE], "{{ item }}", {}, run_id=f"run {HOSTILE}")).run_id

        return asyncio.run(finish())

    def _copy(self, path: Path) -> Path:
        """A copy to seal: commands without the key could no longer write the database itself."""
        return Path(shutil.copy(path, self.directory / "to-seal.db"))

    def _export(self, path: Path, session_id: str) -> Path:
        target = self.directory / "export.jsonl"
        assert self.run("export", session_id, "--db", path, "-o", target, "--force").exit_code == 0
        return target
