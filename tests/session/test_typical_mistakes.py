"""What people get wrong at first, and the message that tells them what to do instead."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema.validators  # type: ignore[import-untyped]  # noqa: F401  # loaded at the first schema, which takes a while
import pytest
from pydantic import BaseModel, ValidationError

from mnesis import (
    CompactionConfig,
    ConfigurationError,
    Engine,
    FileConfig,
    FileError,
    InvalidMessageError,
    LLMMap,
    MnesisConfig,
    MnesisEvent,
    MnesisSession,
    MnesisStoreError,
    NothingToRetryError,
    SessionClosedError,
    SessionNotFoundError,
    ToolDefinitionError,
    delegate,
)
from mnesis.errors import (
    CorruptStoreError,
    LLMAuthenticationError,
    MessageNotFoundError,
    NoModelError,
    SummaryNotFoundError,
)
from mnesis.models.message import text_message
from mnesis.session.opening import NotOpenedError
from mnesis.sync import SyncSession

MODEL = "openai/gpt-4o"


class Label(BaseModel):
    topic: str


@dataclass
class Desk:
    """A fresh database and an open session, on which mistakes are made."""

    folder: Path
    session: MnesisSession

    @property
    def db(self) -> Path:
        return self.folder / "work.db"

    def write(self, name: str, content: str) -> Path:
        path = self.folder / name
        path.write_text(content)
        return path

    async def closed_session(self) -> MnesisSession:
        session = await MnesisSession.create(model=MODEL, db_path=self.db)
        await session.close()
        return session

    async def recorder(self) -> MnesisSession:
        return await MnesisSession.create(model=None, engine=self.session.engine)

    def wrong(self, **arguments: Any) -> Any:
        return MnesisSession.create(**{"model": MODEL, "db_path": self.db, **arguments})


async def _enter_synchronously(desk: Desk) -> None:
    with MnesisSession.open(model=MODEL, db_path=desk.db):  # type: ignore[var-annotated]  # the mistake
        pass


async def _loop_without_async(desk: Desk) -> None:
    for _ in LLMMap(model=MODEL).run(["a"], "{{ item }}", Label):  # type: ignore[attr-defined]  # the mistake
        pass


@dataclass(frozen=True)
class Mistake:
    """What somebody does, the class of the error, and what its message must say."""

    title: str
    make: Callable[[Desk], Awaitable[Any] | Any]
    error: type[Exception]
    says: str


MISTAKES = [
    Mistake("no await before a method of open()", lambda d: MnesisSession.open(model=MODEL, db_path=d.db).messages(), NotOpenedError, r"not open yet.*'messages'.*async with MnesisSession\.open\(…\) as session"),
    Mistake("send() on what create() returned", lambda d: MnesisSession.create(model=MODEL, db_path=d.db).send("hi"), NotOpenedError, r"session = await MnesisSession\.create\(…\)"),
    Mistake("with instead of async with", _enter_synchronously, ConfigurationError, r"async with.*SyncSession"),
    Mistake("create() without a model", lambda d: MnesisSession.create(db_path=d.db), TypeError, r"required keyword-only argument: 'model'"),
    Mistake("a model that is no string", lambda d: d.wrong(model=42), ConfigurationError, r"model must be a string.*42"),
    Mistake("an empty session id", lambda d: d.wrong(session_id=""), ConfigurationError, r"session_id must be a non-empty string, not ''"),
    Mistake("an unknown session id", lambda d: MnesisSession.load("sess_nope", engine=d.session.engine), SessionNotFoundError, r"Session not found: 'sess_nope' in .*work\.db"),
    Mistake("a database that does not exist", lambda d: MnesisSession.load("ada", db_path=d.folder / "none.db"), SessionNotFoundError, r"'ada' in .*none\.db"),
    Mistake("a folder as database", lambda d: d.wrong(db_path=d.folder), MnesisStoreError, r"is not a regular file.*pass another db_path"),
    Mistake("a text file as database", lambda d: d.wrong(db_path=d.write("notes.txt", "hello " * 500)), CorruptStoreError, r"notes\.txt is damaged or is not a database\. It was not changed"),
    Mistake("an engine as db_path", lambda d: d.wrong(db_path=d.session.engine), ConfigurationError, r"db_path must be a path.*engine="),
    Mistake("a path as engine", lambda d: MnesisSession.create(model=MODEL, engine="work.db"), ConfigurationError, r"engine must be an Engine, not 'work\.db'; pass a path as db_path="),  # type: ignore[arg-type]
    Mistake("a misspelt setting", lambda d: CompactionConfig(soft_treshold_fraction=0.5), ValidationError, r"no field 'soft_treshold_fraction'.*did you mean 'soft_threshold_fraction'\?"),  # type: ignore[call-arg]
    Mistake("a setting in the wrong group", lambda d: MnesisConfig(soft_threshold_fraction=0.5), ValidationError, r"field of CompactionConfig: pass compaction=\{'soft_threshold_fraction': …\}"),  # type: ignore[call-arg]
    Mistake("a setting out of range", lambda d: CompactionConfig(soft_threshold_fraction=1.5), ValidationError, r"soft_threshold_fraction[\s\S]*less than or equal to 0\.95"),
    Mistake("a misspelt setting in a dict", lambda d: d.wrong(config={"compaction": {"prun": False}}), ValidationError, r"no field 'prun'.*did you mean 'prune'\?"),
    Mistake("a group where a configuration belongs", lambda d: d.wrong(config=FileConfig()), ConfigurationError, r"not a configuration; pass MnesisConfig\(file=…\)"),
    Mistake("a string where a configuration belongs", lambda d: Engine(d.db, config="fast"), ConfigurationError, r"config='fast' is not a configuration.*dict of its groups"),  # type: ignore[arg-type]
    Mistake("a system prompt beyond the window", lambda d: d.wrong(system_prompt="word " * 9_000, config={"model_overrides": {"context_limit": 8_000}}), ConfigurationError, r"system prompt"),
    Mistake("no key in the environment", lambda d: d.session.send("hi"), LLMAuthenticationError, r"^openai/gpt-4o: there is no API key; set OPENAI_API_KEY, or pass api_key in llm_options$"),
    Mistake("send() in a session without a model", lambda d: _then(d.recorder(), lambda s: s.send("hi")), NoModelError, r"has no model: open it with model=.*retry\(\).*record\(\)"),
    Mistake("an empty message", lambda d: d.session.send(""), InvalidMessageError, r"nothing to send: the message is an empty string"),
    Mistake("a list of chat messages", lambda d: d.session.send([{"role": "user", "content": "hi"}]), InvalidMessageError, r"a chat message is not message content.*pass what it says, its 'content'"),
    Mistake("chat messages to record()", lambda d: d.session.record({"role": "user", "content": "hi"}, "x"), InvalidMessageError, r"pass what it says, its 'content'"),  # type: ignore[arg-type]
    Mistake("a reply of None to record()", lambda d: d.session.record("hi", None), InvalidMessageError, r"None is not message content.*ToolPart"),  # type: ignore[arg-type]
    Mistake("one message to append()", lambda d: d.session.append(text_message("user", "hi")), InvalidMessageError, r"a sequence of Message objects, not a Message; pass a list"),  # type: ignore[arg-type]
    Mistake("chat messages to append()", lambda d: d.session.append([{"role": "user", "content": "hi"}]), InvalidMessageError, r"not a dict; build them with .*text_message\(\)"),  # type: ignore[list-item]
    Mistake("usage as a dict", lambda d: d.session.record("hi", "x", tokens={"input": 5}), InvalidMessageError, r"tokens must be a TokenUsage or None, not \{'input': 5\}"),  # type: ignore[arg-type]
    Mistake("bytes as a message", lambda d: d.session.send(b"hi"), InvalidMessageError, r"type bytes is not message content.*pass a string"),  # type: ignore[arg-type]
    Mistake("a file that does not exist", lambda d: d.session.send([Path("/nope.log")]), FileError, r"/nope\.log"),
    Mistake("a tool without a description of its arguments", lambda d: d.session.send("hi", tools=[{"name": "x"}]), ToolDefinitionError, r"'name': 'x'"),
    Mistake("a name as a tool", lambda d: d.session.send("hi", tools=["search"]), ToolDefinitionError, r"str is not a tool; pass a function"),
    Mistake("an event that does not exist", lambda d: d.session.subscribe("compaction.finished", print), ConfigurationError, r"no event 'compaction\.finished'; did you mean 'compaction\.(completed|triggered|failed)'"),  # type: ignore[arg-type]
    Mistake("a handler that is called at once", lambda d: d.session.subscribe(MnesisEvent.SESSION_UPDATED, print()), TypeError, r"handler must be callable as handler\(event, payload\), not None"),  # type: ignore[func-returns-value, arg-type]
    Mistake("a closed session", lambda d: _then(d.closed_session(), lambda s: s.record("a", "b")), SessionClosedError, r"is closed; open it again with MnesisSession\.load\('sess_"),
    Mistake("retry() when nothing failed", lambda d: d.session.retry(), NothingToRetryError, r"is complete, or there is none; send a message instead"),
    Mistake("an unknown summary", lambda d: d.session.expand("sum_nope"), SummaryNotFoundError, r"sum_nope"),
    Mistake("an unknown message", lambda d: d.session.pin("msg_nope"), MessageNotFoundError, r"Message not found: 'msg_nope'"),
    Mistake("a broken regular expression", lambda d: d.session.grep("("), ConfigurationError, r"'\('"),
    Mistake("a limit of zero", lambda d: d.session.search("hi", limit=0), ConfigurationError, r"limit must be an integer of at least 1, not 0"),
    Mistake("a provider that is no format", lambda d: d.session.context_for_next_turn(provider="gemini"), ConfigurationError, r"provider must be 'openai', 'anthropic' or 'litellm', not 'gemini'"),  # type: ignore[arg-type]
    Mistake("a template without the item", lambda d: LLMMap(model=MODEL).run_all(["a"], "no item here", Label), ConfigurationError, r"\{\{ item \}\}"),
    Mistake("a schema that is no schema", lambda d: LLMMap(model=MODEL).run_all(["a"], "{{ item }}", str), ConfigurationError, r"output_schema|schema"),  # type: ignore[call-overload]
    Mistake("a map without a schema", lambda d: LLMMap(model=MODEL).run_all(["a"], "{{ item }}"), ConfigurationError, r"output_schema is missing; pass a pydantic class or a JSON Schema"),
    Mistake("a map without a model", lambda d: LLMMap().run_all(["a"], "{{ item }}", Label), ConfigurationError, r"no model: pass model=, or a client with llm="),
    Mistake("a misspelt option of a map", lambda d: LLMMap(model=MODEL).run_all(["a"], "{{ item }}", Label, concurency=2), TypeError, r"'concurency'; did you mean 'concurrency'\?"),  # type: ignore[call-overload]
    Mistake("for instead of async for", _loop_without_async, TypeError, r"'async_generator' object is not iterable"),
    Mistake("a synchronous session in the loop of mnesis", lambda d: SyncSession.load("nope", db_path=d.db), SessionNotFoundError, r"'nope'"),
    Mistake("a misspelt option of a delegation", lambda d: delegate("Count.", session=d.session, max_turn=2), TypeError, r"'max_turn'; did you mean 'max_turns'\?"),  # type: ignore[call-arg]
]  # fmt: skip


async def _make(mistake: Mistake, desk: Desk) -> None:
    outcome = mistake.make(desk)
    if isinstance(outcome, Awaitable):
        await outcome


async def _then(session: Awaitable[MnesisSession], use: Callable[[MnesisSession], Awaitable[Any]]) -> Any:
    return await use(await session)


def test_there_are_at_least_thirty_mistakes() -> None:
    assert len({mistake.title for mistake in MISTAKES}) == len(MISTAKES) >= 30


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.filterwarnings("ignore::mnesis.context.budget.SmallModelWarning")
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.title)
async def test_a_typical_mistake_names_its_remedy(mistake: Mistake, tmp_path: Path) -> None:
    async with MnesisSession.open(model=MODEL, db_path=tmp_path / "work.db") as session:
        await session.record("question", "answer")
        desk = Desk(tmp_path, session)
        with pytest.raises(mistake.error) as caught:
            await _make(mistake, desk)
        text = str(caught.value)
        assert re.search(mistake.says, text), text
        assert len(text) < 700, text
        assert "Traceback" not in text
        assert json.dumps(text)
