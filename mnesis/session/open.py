"""Opening a session: which database, which session, which settings, checked before anything stays open."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from anyio import to_thread

from mnesis.compaction.summarize import Count
from mnesis.config import MnesisConfig, ModelOverrides
from mnesis.context.budget import make_budget
from mnesis.engine.engine import Engine
from mnesis.engine.registry import MEMORY
from mnesis.errors import ConfigurationError, SessionNotFoundError
from mnesis.events.bus import MnesisEvent
from mnesis.events.payloads import SessionUpdatedPayload
from mnesis.ids import new_id, now_ms
from mnesis.llm.base import LLM
from mnesis.llm.no_model import NoModel
from mnesis.llm.resolve import resolve
from mnesis.models.context import Budget
from mnesis.models.session import NO_MODEL, SessionRecord
from mnesis.session.core import SessionCore
from mnesis.tokens.estimator import TokenEstimator
from mnesis.tokens.model_info import ModelInfo

DEFAULT_SYSTEM_PROMPT = "You are a helpful assistant."
MESSAGE_OVERHEAD = 4


@dataclass(frozen=True, slots=True)
class Opening:
    """Where a session is and how it is to be used; each None means the default."""

    config: MnesisConfig | None = None
    db_path: str | os.PathLike[str] | None = None
    engine: Engine | None = None
    llm: object | None = None

    @property
    def overrides(self) -> ModelOverrides | None:
        settings = self.config or (self.engine.config if self.engine is not None else None)
        return settings.model_overrides if settings is not None else None


@dataclass(frozen=True, slots=True)
class Opened:
    """An opened session; whether its engine was made for it, and whether the session was created now."""

    scope: SessionCore
    owns_engine: bool
    created: bool


@dataclass(frozen=True, slots=True)
class _Settled:
    """What a session is going to be opened with: checked, nothing stored yet."""

    settings: MnesisConfig
    info: ModelInfo
    count: Count
    prompt: str
    prompt_tokens: int
    budget: Budget
    llm: LLM


async def open_or_create(
    opening: Opening,
    *,
    model: str | None,
    system_prompt: str | None,
    session_id: str | None,
    agent: str,
    parent_id: str | None,
) -> Opened:
    """The session of this name, created if there is none. Nothing is stored or stays open when it raises."""
    _refuse_wrong_types(session_id, model=model, system_prompt=system_prompt, agent=agent, parent_id=parent_id)
    if model is not None:
        ModelInfo.from_model_string(model, opening.overrides)
    async with _engine(opening) as (engine, owned):
        existing = await _existing(engine, session_id)
        settled = await _settled(opening, engine, existing, model, system_prompt)
        if parent_id is not None:
            await engine.store.session(parent_id)
        created = False
        if existing is None:
            existing, created = await engine.store.create_session(_new(settled, session_id, agent, parent_id))
        record = existing if created else await _brought_up_to_date(engine, existing, settled)
        return Opened(_scope(engine, record, settled), owned, created)


async def load_existing(opening: Opening, session_id: str, model: str | None) -> Opened:
    """The session of this name, or `SessionNotFoundError`; no database is created for it."""
    _refuse_wrong_types(None, model=model)
    if not isinstance(session_id, str) or not session_id or _is_missing(opening):
        raise SessionNotFoundError(str(session_id), where=_path(opening))
    async with _engine(opening) as (engine, owned):
        existing = await engine.store.session(session_id)
        settled = await _settled(opening, engine, existing, model, None)
        record = await _brought_up_to_date(engine, existing, settled)
        return Opened(_scope(engine, record, settled), owned, False)


async def _existing(engine: Engine, session_id: str | None) -> SessionRecord | None:
    if session_id is None:
        return None
    try:
        return await engine.store.session(session_id)
    except SessionNotFoundError:
        return None


async def _settled(
    opening: Opening, engine: Engine, existing: SessionRecord | None, model: str | None, system_prompt: str | None
) -> _Settled:
    """Given values win, then those of the session that exists, then the defaults."""
    if model is None:
        model = existing.model if existing is not None else NO_MODEL
    if system_prompt is None:
        system_prompt = existing.system_prompt if existing is not None else DEFAULT_SYSTEM_PROMPT
    settings = opening.config or engine.config
    info = ModelInfo.from_model_string(model, settings.model_overrides)
    count = await _counter(info)
    tokens = count(system_prompt) + MESSAGE_OVERHEAD if system_prompt else 0
    budget = make_budget(info, settings.compaction, tokens)
    llm = _client(engine, model, opening.llm)
    return _Settled(settings, info, count, system_prompt, tokens, budget, llm)


def _new(settled: _Settled, session_id: str | None, agent: str, parent_id: str | None) -> SessionRecord:
    now = now_ms()
    return SessionRecord(
        id=session_id or new_id("sess"),
        model=settled.info.model_id,
        system_prompt=settled.prompt,
        agent=agent,
        parent_id=parent_id,
        system_tokens=settled.prompt_tokens,
        context_tokens=settled.prompt_tokens,
        created_at=now,
        updated_at=now,
    )


@asynccontextmanager
async def _engine(opening: Opening) -> AsyncIterator[tuple[Engine, bool]]:
    """The engine to use, open, and whether it was made here; released again if the block raises."""
    engine, db_path = opening.engine, opening.db_path
    if db_path is not None and not os.fspath(db_path):
        raise ConfigurationError("db_path is empty; give the path of a file, ':memory:', or leave it out")
    if engine is not None:
        if db_path is not None and not _same_file(db_path, engine.path):
            raise ConfigurationError(
                f"db_path={os.fspath(db_path)!r} is not the database of the engine, {engine.path!r}; give one of them"
            )
        yield await engine.open(), False
        return
    made = Engine(db_path, config=opening.config)
    try:
        yield await made.open(), True
    except BaseException:
        await made.close()
        raise


async def _counter(info: ModelInfo) -> Count:
    """The function that counts for a model. Its tables are loaded here, off the event loop."""
    estimator = TokenEstimator(encoding=info.encoding)
    count = partial(estimator.estimate, model=info.model_id)
    await to_thread.run_sync(count, "warm")
    return count


def _refuse_wrong_types(session_id: object, **others: object) -> None:
    if session_id is not None and (not isinstance(session_id, str) or not session_id):
        raise ConfigurationError(f"session_id is a non-empty string, not {session_id!r}")
    for name, value in others.items():
        if value is not None and not isinstance(value, str):
            raise ConfigurationError(f"{name} is a string, not {value!r}")


async def _brought_up_to_date(engine: Engine, record: SessionRecord, settled: _Settled) -> SessionRecord:
    """The stored session with the model and prompt it is opened with now."""
    wanted = (settled.info.model_id, settled.prompt, settled.prompt_tokens)
    if wanted == (record.model, record.system_prompt, record.system_tokens):
        return record
    record = await engine.store.update_session(
        record.id, model=wanted[0], system_prompt=wanted[1], system_tokens=wanted[2]
    )
    payload = SessionUpdatedPayload(record.id, record.context_tokens, record.turn_count)
    engine.events.for_session(record.id).publish(MnesisEvent.SESSION_UPDATED, payload)
    return record


def _scope(engine: Engine, record: SessionRecord, settled: _Settled) -> SessionCore:
    runtime = engine.runtime(record.id)
    runtime.state = record
    return SessionCore(
        engine=engine,
        session_id=record.id,
        config=settled.settings,
        model=settled.info,
        budget=settled.budget,
        count=settled.count,
        llm=settled.llm,
        runtime=runtime,
        bus=engine.events.for_session(record.id),
    )


def _client(engine: Engine, model: str, llm: object | None) -> LLM:
    if llm is not None:
        return resolve(llm)
    return engine.llm if model != NO_MODEL or engine.has_own_llm else resolve(NoModel())


def _path(opening: Opening) -> str:
    if opening.engine is not None:
        return opening.engine.path
    settings = opening.config or MnesisConfig()
    return os.path.expanduser(os.fspath(opening.db_path if opening.db_path is not None else settings.store.db_path))


def _same_file(one: str | os.PathLike[str], other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _is_missing(opening: Opening) -> bool:
    path = _path(opening)
    return opening.engine is None and path != MEMORY and not os.path.exists(path)
