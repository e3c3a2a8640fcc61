"""The operations of every API that `mnesis.testing.faults` interrupts."""

from __future__ import annotations

import asyncio
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mnesis.config import CompactionConfig, FileConfig, MnesisConfig, RetentionConfig
from mnesis.engine.engine import Engine
from mnesis.errors import MnesisError, SessionNotFoundError
from mnesis.files.storage import FileStorage
from mnesis.llm.base import LLMReply
from mnesis.models.message import FilePart, TextPart, ToolPart, text_message
from mnesis.models.search import Search
from mnesis.operators.llm_map import LLMMap
from mnesis.session.session import MnesisSession
from mnesis.store.sqlite import SqliteStore
from mnesis.sync import SyncSession
from mnesis.testing.faults import Operation, Scene
from mnesis.testing.llm import ScriptedLLM

MODEL = "openai/gpt-4o"
WINDOW = {"context_limit": 8_192, "max_output_tokens": 512}
FILLER = "word " * 150
LARGE = "a line of a log\n" * 300


def config_for(directory: Path) -> MnesisConfig:
    """Return a configuration with a small window, and with files in the directory of the scene."""
    return MnesisConfig(
        model_overrides=WINDOW,
        compaction=CompactionConfig(compaction_output_budget=1_000),
        file=FileConfig(storage_dir=directory / "files", inline_threshold=200),
    )


def _engine(scene: Scene, llm: object | None = None) -> Engine:
    return Engine(scene.path, config=config_for(scene.directory), llm=llm)


def _open(scene: Scene, llm: object | None = None, session_id: str = "s") -> Any:
    return MnesisSession.open(
        model=MODEL if llm is not None else None,
        session_id=session_id,
        db_path=scene.path,
        config=config_for(scene.directory),
        llm=llm,
    )


async def _open_session(scene: Scene) -> None:
    scene.arm()
    async with _open(scene):
        pass


async def _record(scene: Scene) -> None:
    async with _open(scene) as session:
        scene.arm()
        await session.record(*scene.attempt("s", "question", "answer"))
        scene.acknowledge()


async def _append(scene: Scene) -> None:
    async with _open(scene) as session:
        scene.arm()
        texts = scene.attempt("s", "one", "two", "three")
        await session.append([text_message("user", text) for text in texts])
        scene.acknowledge()


async def _send(scene: Scene) -> None:
    async with _open(scene, ScriptedLLM(f"answer {scene.run}")) as session:
        scene.arm()
        (question, _) = scene.attempt("s", "question", "answer", atomic=False)
        await session.send(question)
        scene.acknowledge()


async def _stream(scene: Scene) -> None:
    async with _open(scene, ScriptedLLM(f"answer {scene.run}")) as session:
        scene.arm()
        (question, _) = scene.attempt("s", "question", "answer", atomic=False)
        async for _ in session.stream(question):
            pass
        scene.acknowledge()


async def _send_with_tool(scene: Scene) -> None:
    def look_up(word: str) -> str:
        """Look up a word."""
        return f"meaning of {word}"

    call = ToolPart(tool_name="look_up", tool_call_id=f"c-{scene.run}", input={"word": "x"})
    asks = LLMReply(text=f"call {scene.run}", tool_calls=(call,))
    async with _open(scene, ScriptedLLM([asks, f"answer {scene.run}"])) as session:
        scene.arm()
        (question, _, _) = scene.attempt("s", "question", "call", "answer", atomic=False)
        await session.send(question, tools=[look_up])
        scene.acknowledge()


async def _fill(scene: Scene) -> None:
    async with _open(scene) as session:
        for number in range(12):
            await session.record(f"question {number} {FILLER}", f"answer {number} {FILLER}")


async def _compact(scene: Scene) -> None:
    async with _open(scene, ScriptedLLM("Summary of what was said.")) as session:
        question, answer = scene.attempt("s", "question", "answer")
        await session.record(question, answer)
        scene.acknowledge()
        for number in range(4):
            await session.record(f"more {number} {scene.run} {FILLER}", FILLER)
        scene.arm()
        await session.compact()


async def _hide(scene: Scene) -> None:
    async with _open(scene) as session:
        question, answer = scene.attempt("s", "question", "answer")
        await session.record(question, answer)
        scene.acknowledge()
        last = (await session.messages())[-1].seq
        scene.arm()
        await session.hide(last - 1, last)


async def _pin(scene: Scene) -> None:
    async with _open(scene) as session:
        await session.record(*scene.attempt("s", "question", "answer"))
        scene.acknowledge()
        message = (await session.messages())[-1]
        scene.arm()
        await session.pin(message.id)
        await session.unpin(message.id)


async def _search(scene: Scene) -> None:
    async with _open(scene) as session:
        await session.record(*scene.attempt("s", "question", "answer"))
        scene.acknowledge()
        scene.arm()
        await session.search("question")
        await session.engine.store.search(Search("quest", "s", mode="substring"))


async def _reindex(scene: Scene) -> None:
    async with _engine(scene) as engine:
        scene.arm()
        await engine.reindex()


async def _store_file(scene: Scene) -> None:
    async with _open(scene) as session:
        scene.arm()
        question, answer = scene.attempt("s", "question", "answer")
        file = FilePart(name="app.log", text=LARGE + scene.run)
        await session.record([TextPart(text=question), file], answer)
        scene.acknowledge()


async def _files_are_complete(directory: Path) -> list[str]:
    """Every file that a message refers to is stored and intact."""
    store = SqliteStore(directory / "s.db")
    await store.open()
    try:
        ids = dict.fromkeys(each.content_id for each in await store.file_references())
    finally:
        await store.close()
    findings = await asyncio.to_thread(FileStorage(directory / "files").check, ids)
    return [finding.detail for finding in findings]


async def _purge(scene: Scene) -> None:
    name = f"purged-{scene.run}"
    async with _open(scene, session_id=name) as session:
        await session.record(f"question {FILLER}", "answer")
        await session.record([FilePart(name="a.log", text=LARGE + scene.run)], "answer")
        await session.search("question")
    async with _engine(scene) as engine:
        scene.arm()
        await engine.apply_purge(await engine.plan_purge(RetentionConfig(match="purged-*")))


async def _backup(scene: Scene) -> None:
    async with _engine(scene) as engine:
        await engine.open()
        scene.arm()
        await engine.store.backup(scene.directory / f"{scene.run}.backup")


async def _backups_are_complete(directory: Path) -> list[str]:
    violations = []
    for path in await asyncio.to_thread(lambda: list(directory.glob("*.backup"))):
        store = SqliteStore(path)
        try:
            await store.open()
            violations += [finding.detail for finding in await store.check() if finding.severity == "error"]
            if len(await store.messages("s")) != 24:
                violations.append(f"{path.name} is not complete")
        except MnesisError as error:
            violations.append(f"{path.name} cannot be read: {error}")
        finally:
            await store.close()
        await asyncio.to_thread(path.unlink)
    return violations


async def _map(scene: Scene) -> None:
    async with _engine(scene, llm=lambda messages: '"yes"') as engine:
        await engine.open()
        scene.arm()
        await LLMMap(engine=engine).run_all(["a", "b", "c"], "{{ item }}", {"type": "string"}, run_id=scene.run)


async def _runs_go_on(directory: Path) -> list[str]:
    """Every run can be continued, and each item has one result."""
    async with Engine(directory / "s.db", llm=lambda messages: '"yes"') as engine:
        violations = []
        for run in await engine.store.runs():
            if run.done:
                items = await engine.store.run_items(run.id, limit=10)
                done = [item for item in items if item.state == "done"]
                if len(done) != run.done:
                    violations.append(f"run {run.id} counts {run.done} results and has {len(done)}")
        return violations


async def _record_sync(scene: Scene) -> None:
    def work() -> None:
        with SyncSession.open(model=None, session_id="s", db_path=scene.path) as session:
            scene.arm()
            session.record(*scene.attempt("s", "question", "answer"))
            scene.acknowledge()

    await asyncio.to_thread(work)


async def _add_langchain_messages(scene: Scene) -> None:
    messages, adapter = import_module("langchain_core.messages"), import_module("langchain_mnesis")
    async with _engine(scene) as engine:
        history = adapter.MnesisChatMessageHistory("s", engine=engine)
        await history.aget_messages()
        scene.arm()
        question, answer = scene.attempt("s", "question", "answer")
        await history.aadd_messages([messages.HumanMessage(question), messages.AIMessage(answer)])
        scene.acknowledge()


async def _put_llamaindex_messages(scene: Scene) -> None:
    llms, adapter = import_module("llama_index.core.llms"), import_module("llama_index.memory.mnesis")
    async with _engine(scene) as engine:
        memory = adapter.MnesisMemory.from_defaults(session_id="s", engine=engine)
        await memory.aget()
        scene.arm()
        question, answer = scene.attempt("s", "question", "answer")
        await memory.aput_messages(
            [llms.ChatMessage(role="user", content=question), llms.ChatMessage(role="assistant", content=answer)]
        )
        scene.acknowledge()


async def _find_half_purged_sessions(directory: Path) -> list[str]:
    violations = await _files_are_complete(directory)
    store = SqliteStore(directory / "s.db")
    await store.open()
    try:
        for session in (await store.sessions(limit=1_000)).sessions:
            if session.id.startswith("purged-") and len(await store.messages(session.id)) not in (0, 2, 4):
                violations.append(f"session {session.id} is half purged")
        return violations
    except SessionNotFoundError as error:
        return [*violations, str(error)]
    finally:
        await store.close()


def all_operations() -> list[Operation]:
    """Return the operations of every API that is installed."""
    operations = [
        Operation("session", "open", _open_session),
        Operation("session", "record", _record),
        Operation("session", "append", _append),
        Operation("session", "send", _send),
        Operation("session", "stream", _stream),
        Operation("session", "send with a tool", _send_with_tool),
        Operation("session", "compact", _compact, prepare=_fill),
        Operation("session", "hide", _hide),
        Operation("session", "pin", _pin),
        Operation("session", "search", _search),
        Operation("session", "store a file", _store_file, verify=_files_are_complete),
        Operation("sync", "record", _record_sync),
        Operation("engine", "reindex", _reindex, prepare=_fill),
        Operation("engine", "purge", _purge, verify=_find_half_purged_sessions),
        Operation("engine", "backup", _backup, prepare=_fill, verify=_backups_are_complete),
        Operation("map", "run", _map, verify=_runs_go_on),
    ]
    if find_spec("langchain_core") is not None:
        operations.append(Operation("langchain", "add_messages", _add_langchain_messages))
    if find_spec("llama_index") is not None and find_spec("llama_index.core") is not None:
        operations.append(Operation("llama-index", "put_messages", _put_llamaindex_messages))
    return operations
