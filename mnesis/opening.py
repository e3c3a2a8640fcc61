"""Opening a session: which database, which session, which settings, checked before anything stays open."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

from anyio import to_thread

from mnesis.compaction.summarize import Count
from mnesis.config import MnesisConfig, ModelOverrides
from mnesis.context.budget import make_budget
from mnesis.engine import MEMORY, Engine
from mnesis.errors import ConfigurationError, SessionNotFoundError
from mnesis.ids import new_id, now_ms
from mnesis.llm.base import LLM
from mnesis.llm.none import NoModel
from mnesis.llm.resolve import resolve
from mnesis.model_info import ModelInfo
from mnesis.models.session import SessionRecord
from mnesis.scope import Scope
from mnesis.tokens import TokenEstimator

DEFAULT_SYSTEM_PROMPT = "You are a helpful assistant."
NO_MODEL = "none"
"""The model of a session that is only recorded and was never given one."""
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

    scope: Scope
    owns_engine: bool
    created: bool


async def open_or_create(
    opening: Opening,
    *,
    model: str | None,
    system_prompt: str | None,
    session_id: str | None,
    agent: str,
    parent_id: str | None,
) -> Opened:
    """The session of this name, created if there is none. Nothing stays open when it raises."""
    if session_id is not None and (not isinstance(session_id, str) or not session_id):
        raise ConfigurationError(f"session_id is a non-empty string, not {session_id!r}")
    if model is not None:
        ModelInfo.from_model_string(model, opening.overrides)
    async with _engine(opening) as (engine, owned):
        model = model if model is not None else await _model_of(engine, session_id)
        info = ModelInfo.from_model_string(model, opening.overrides)
        count = await _counter(info)
        prompt = DEFAULT_SYSTEM_PROMPT if system_prompt is None else system_prompt
        tokens, now = _prompt_tokens(prompt, count), now_ms()
        wanted = SessionRecord(
            id=session_id or new_id("sess"),
            model=model,
            system_prompt=prompt,
            agent=agent,
            parent_id=parent_id,
            system_tokens=tokens,
            context_tokens=tokens,
            created_at=now,
            updated_at=now,
        )
        settings = opening.config or engine.config
        make_budget(info, settings.compaction, tokens)
        if parent_id is not None:
            await engine.store.session(parent_id)
        record, created = await engine.store.create_session(wanted)
        if not created:
            record = await _brought_up_to_date(engine, record, model, system_prompt, count)
        return Opened(_scope(engine, record, settings, info, count, opening.llm), owned, created)


async def load_existing(opening: Opening, session_id: str, model: str | None) -> Opened:
    """The session of this name, or `SessionNotFoundError`; no database is created for it."""
    if not isinstance(session_id, str) or not session_id or _is_missing(opening):
        raise SessionNotFoundError(str(session_id), where=_path(opening))
    async with _engine(opening) as (engine, owned):
        record = await engine.store.session(session_id)
        settings = opening.config or engine.config
        info = ModelInfo.from_model_string(model or record.model, opening.overrides)
        count = await _counter(info)
        record = await _brought_up_to_date(engine, record, model or record.model, None, count)
        return Opened(_scope(engine, record, settings, info, count, opening.llm), owned, False)


@asynccontextmanager
async def _engine(opening: Opening) -> AsyncIterator[tuple[Engine, bool]]:
    """The engine to use, open, and whether it was made here; released again if the block raises."""
    engine, db_path = opening.engine, opening.db_path
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


async def _model_of(engine: Engine, session_id: str | None) -> str:
    """The model of a session that exists; `NO_MODEL` for one that is going to be created without any."""
    if session_id is None:
        return NO_MODEL
    try:
        return (await engine.store.session(session_id)).model
    except SessionNotFoundError:
        return NO_MODEL


def _prompt_tokens(prompt: str, count: Count) -> int:
    return count(prompt) + MESSAGE_OVERHEAD if prompt else 0


async def _brought_up_to_date(
    engine: Engine, record: SessionRecord, model: str, system_prompt: str | None, count: Count
) -> SessionRecord:
    """The stored session with the model and prompt it is opened with now."""
    prompt = record.system_prompt if system_prompt is None else system_prompt
    wanted = replace(record, model=model, system_prompt=prompt, system_tokens=_prompt_tokens(prompt, count))
    if wanted == record:
        return record
    return await engine.store.update_session(
        record.id, model=model, system_prompt=prompt, system_tokens=wanted.system_tokens
    )


def _scope(
    engine: Engine, record: SessionRecord, settings: MnesisConfig, info: ModelInfo, count: Count, llm: object | None
) -> Scope:
    runtime = engine.runtime(record.id)
    runtime.state = record
    return Scope(
        engine=engine,
        session_id=record.id,
        config=settings,
        model=info,
        budget=make_budget(info, settings.compaction, record.system_tokens),
        count=count,
        llm=_client(engine, record.model, llm),
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
