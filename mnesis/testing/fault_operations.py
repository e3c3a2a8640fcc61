"""The operations of every API that `mnesis.testing.faults` interrupts."""

from __future__ import annotations

import asyncio
import re
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from mnesis.config import DATABASE_STORAGE, CompactionConfig, FileConfig, MnesisConfig, RetentionConfig
from mnesis.database_url import is_database_url
from mnesis.engine.engine import Engine
from mnesis.errors import MnesisError
from mnesis.llm.base import LLMReply, LLMRequest
from mnesis.models.message import FilePart, Message, TextPart, ToolPart, text_message
from mnesis.models.search import Search
from mnesis.models.session import SessionRecord
from mnesis.models.summary import Summary
from mnesis.operators.llm_map import LLMMap
from mnesis.session.session import MnesisSession
from mnesis.store.base import Append
from mnesis.store.file_storage import open_file_storage
from mnesis.store.memory import MemoryStore
from mnesis.store.sqlite import SqliteStore
from mnesis.store.sqlite.salvage import salvage
from mnesis.sync import SyncSession
from mnesis.testing.fault_migration import migrate_scene, write_old_scene
from mnesis.testing.faults import FILE_STORES, Operation, Scene
from mnesis.testing.llm import ScriptedLLM

MODEL = "openai/gpt-4o"
WINDOW = {"context_limit": 8_192, "max_output_tokens": 512}
FILLER = "word " * 150
FORKED_MESSAGES = 15
"""The number of messages of the fork, out of 24; the last one is inside the span of a summary."""
LARGE = "a line of a log\n" * 300


def config_for(scene: Scene) -> MnesisConfig:
    """Return a configuration with a small window, and with files in the directory of the scene."""
    return MnesisConfig(
        store=scene.target.store_config,
        model_overrides=WINDOW,
        compaction=CompactionConfig(compaction_output_budget=1_000),
        file=_file_config(scene),
    )


def _file_config(scene: Scene) -> FileConfig:
    """Return the settings of stored files, which are in the database if that is a server, so that its faults affect
    them too.
    """
    url = DATABASE_STORAGE if is_database_url(scene.database) else None
    return FileConfig(storage_dir=scene.directory / "files", storage_url=url, inline_threshold=200)


def _engine(scene: Scene, llm: object | None = None) -> Engine:
    return Engine(scene.database, config=config_for(scene), llm=llm)


def _open(scene: Scene, llm: object | None = None, session_id: str = "s") -> Any:
    return MnesisSession.open(
        model=MODEL if llm is not None else None,
        session_id=session_id,
        db_path=scene.database,
        config=config_for(scene),
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


def _summarize(request: LLMRequest) -> str:
    """Answer as a model whose summary is accepted: it keeps the numbers and names of its source."""
    source = " ".join(str(message["content"]) for message in request.messages)
    kept = " ".join(dict.fromkeys(re.findall(r"\brun\w+|\b(?:question|answer|more) \d+", source)))
    return f"The user asked several questions in words, and each got an answer in words: {kept}."


async def _fill_and_fold(scene: Scene) -> None:
    await _fill(scene)
    async with _open(scene, ScriptedLLM(_summarize)) as session:
        await session.compact()


async def _fork(scene: Scene) -> None:
    """Fork a session behind a summary, and continue the fork."""
    async with _open(scene) as session:
        origin = (await session.messages())[FORKED_MESSAGES - 1]
        name = f"fork-{scene.run}"
        scene.arm()
        async with session.fork(origin.id, session_id=name) as fork:
            await fork.record(*scene.attempt(name, "question", "answer"))
            scene.acknowledge()


async def _find_half_forks(scene: Scene) -> list[str]:
    """Every fork that exists begins with the messages of its origin, has all or nothing of its turn, and can be read."""
    violations = []
    async with scene.open_store() as store:
        origin = [message.id for message in await store.messages("s")]
        known = set(await store.forks("s"))
        for session in (await store.sessions(limit=1_000)).sessions:
            if not session.id.startswith("fork-"):
                continue
            messages = await store.messages(session.id)
            context = await store.active_context(session.id)
            shown = [seq for item in context.items for seq in range(_first_seq(item), _last_seq(item) + 1)]
            if [message.id for message in messages[:FORKED_MESSAGES]] != origin[:FORKED_MESSAGES]:
                violations.append(f"{session.id} does not begin with the messages of its origin")
            if len(messages) not in (FORKED_MESSAGES, FORKED_MESSAGES + 2) or session.id not in known:
                violations.append(f"{session.id} is half a fork")
            if shown != list(range(1, len(messages) + 1)):
                violations.append(f"{session.id} shows {shown} of {len(messages)} messages")
    return violations


def _first_seq(item: Summary | Message) -> int:
    return item.first_seq if isinstance(item, Summary) else item.seq


def _last_seq(item: Summary | Message) -> int:
    return item.last_seq if isinstance(item, Summary) else item.seq


async def _compact(scene: Scene) -> None:
    async with _open(scene, ScriptedLLM(_summarize)) as session:
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


async def _files_are_complete(scene: Scene) -> list[str]:
    """Every file that a message refers to is stored and intact."""
    async with scene.open_store() as store:
        ids = dict.fromkeys(each.content_id for each in await store.file_references())
    storage = open_file_storage(_file_config(scene), scene.target.store_config, scene.database)
    findings = await asyncio.to_thread(storage.check, ids)
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


async def _backups_are_complete(scene: Scene) -> list[str]:
    violations = []
    for path in await asyncio.to_thread(lambda: list(scene.directory.glob("*.backup"))):
        store = SqliteStore(path, scene.target.store_config)
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


async def _write_old(scene: Scene) -> None:
    await _fill(scene)
    await write_old_scene(scene, 24)


async def _is_whole(scene: Scene) -> list[str]:
    """The next opening finishes the update, and nothing is lost."""
    async with scene.open_store() as store:
        count = len(await store.messages("s"))
        findings = [finding.detail for finding in await store.check() if finding.severity == "error"]
    return findings if count == 24 else [f"{count} of 24 messages are left"]


async def _import(scene: Scene) -> None:
    """Import a session of three turns."""
    parse = import_module("mnesis.cli.import_replay")
    session = SessionRecord(id=f"imported-{scene.run}", model="m")
    source = MemoryStore()
    await source.open()
    await source.create_session(session)
    for number in range(3):
        await source.append(session.id, Append([text_message("user", f"text {number}", token_count=1)], ends_turn=True))
    messages = await source.messages(session.id)
    export = parse.Export(
        session=await source.session(session.id), messages=messages, summaries=[], hidden={}, covers=[], prunes=[],
        turn_ends=[message.seq for message in messages], compactions=[], interruptions=[],
    )  # fmt: skip
    async with _engine(scene) as engine:
        await engine.open()
        scene.arm()
        await parse.Replay(engine.store, export).run()


async def _find_half_imports(scene: Scene) -> list[str]:
    violations = []
    async with scene.open_store() as store:
        for session in (await store.sessions(limit=1_000)).sessions:
            is_marked = session.unfinished == "import" or not session.id.startswith("imported-")
            if not is_marked and len(await store.messages(session.id)) != 3:
                violations.append(f"session {session.id} is half imported and not marked")
    return violations


async def _salvage(scene: Scene) -> None:
    scene.arm()
    copy = scene.directory / f"{scene.run}.backup"
    result = await salvage(scene.path, copy, config=scene.target.store_config)
    if not result.is_complete:  # rows that cannot be read are left out, and the result says so
        await asyncio.to_thread(copy.unlink)


async def _map(scene: Scene) -> None:
    async with _engine(scene, llm=lambda messages: '"yes"') as engine:
        await engine.open()
        scene.arm()
        await LLMMap(engine=engine).run_all(["a", "b", "c"], "{{ item }}", {"type": "string"}, run_id=scene.run)


async def _runs_go_on(scene: Scene) -> list[str]:
    """Every run can be continued, and each item has one result."""
    async with _engine(scene, llm=lambda messages: '"yes"') as engine:
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
        with SyncSession.open(model=None, session_id="s", db_path=scene.database, config=config_for(scene)) as session:
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


async def _find_half_purged_sessions(scene: Scene) -> list[str]:
    violations = await _files_are_complete(scene)
    async with scene.open_store() as store:
        for session in (await store.sessions(limit=1_000)).sessions:
            if session.id.startswith("purged-") and len(await store.messages(session.id)) not in (0, 2, 4):
                violations.append(f"session {session.id} is half purged")
    return violations


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
        Operation("session", "fork", _fork, prepare=_fill_and_fold, verify=_find_half_forks),
        Operation("session", "hide", _hide),
        Operation("session", "pin", _pin),
        Operation("session", "search", _search),
        Operation("session", "store a file", _store_file, verify=_files_are_complete),
        Operation("sync", "record", _record_sync),
        Operation("engine", "reindex", _reindex, prepare=_fill),
        Operation("engine", "purge", _purge, verify=_find_half_purged_sessions),
        Operation("engine", "backup", _backup, prepare=_fill, verify=_backups_are_complete, stores=FILE_STORES),
        Operation("engine", "salvage", _salvage, prepare=_fill, verify=_backups_are_complete, stores=FILE_STORES),
        Operation(
            "engine", "migrate", migrate_scene, prepare=_write_old, verify=_is_whole, stores=frozenset({"sqlite"})
        ),
        Operation("engine", "import", _import, verify=_find_half_imports),
        Operation("map", "run", _map, verify=_runs_go_on),
    ]
    if find_spec("langchain_core") is not None:
        operations.append(Operation("langchain", "add_messages", _add_langchain_messages))
    if find_spec("llama_index") is not None and find_spec("llama_index.core") is not None:
        operations.append(Operation("llama-index", "put_messages", _put_llamaindex_messages))
    return operations
