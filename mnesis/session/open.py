"""Opening a session: the database, the session and its settings, validated before anything is stored."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from anyio import to_thread

from mnesis.concurrency import import_in_thread
from mnesis.config import ConfigOrDict, MnesisConfig, ModelOverrides, parse_config
from mnesis.context.budget import resolve_budget
from mnesis.database_url import database_exists, is_database_url, is_same_database
from mnesis.engine.engine import Engine
from mnesis.engine.registry import IN_MEMORY
from mnesis.errors import ConfigurationError, SessionNotFoundError
from mnesis.events.bus import MnesisEvent
from mnesis.events.payloads import SessionUpdatedPayload
from mnesis.ids import new_id, now_ms
from mnesis.llm.base import LLM
from mnesis.llm.no_model import NoModel
from mnesis.llm.resolve import resolve
from mnesis.models.context import Budget
from mnesis.models.dialects import find_dialect
from mnesis.models.session import NO_MODEL, SessionRecord
from mnesis.session.core import SessionCore
from mnesis.tokens.encodings import preload_encoding
from mnesis.tokens.estimator import MESSAGE_OVERHEAD_TOKENS, ModelTokenCounter, TokenCounter, TokenEstimator
from mnesis.tokens.model_info import ModelInfo, find_model_info
from mnesis.validation import check_string

DEFAULT_SYSTEM_PROMPT = "You are a helpful assistant."


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """The place and the settings of a session to open. None means the default."""

    config: MnesisConfig | None = None
    db_path: str | os.PathLike[str] | None = None
    engine: Engine | None = None
    llm: object | None = None
    budget: Budget | int | None = None

    @classmethod
    def parse(
        cls,
        config: ConfigOrDict | None,
        db_path: str | os.PathLike[str] | None,
        engine: Engine | None,
        llm: object | None,
        budget: Budget | int | None,
    ) -> OpenRequest:
        """Build a request from the arguments of a user. Raises `ConfigurationError` for values of a wrong type."""
        if engine is not None and not isinstance(engine, Engine):
            raise ConfigurationError(f"engine must be an Engine, not {engine!r:.100}; pass a path as db_path=")
        if db_path is not None and not isinstance(db_path, str | os.PathLike):
            raise ConfigurationError(f"db_path must be a path, not {db_path!r:.100}; pass an Engine as engine=")
        return cls(parse_config(config), db_path, engine, llm, budget)

    @property
    def overrides(self) -> ModelOverrides | None:
        """The model overrides of the configuration, if that is known before an engine is created."""
        config = self.config or (self.engine.config if self.engine is not None else None)
        return config.model_overrides if config is not None else None


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """An open session, whether it closes its engine, and whether it was created now."""

    core: SessionCore
    owns_engine: bool
    is_new: bool


@dataclass(frozen=True, slots=True)
class _ResolvedSettings:
    """The validated settings that a session is opened with. Nothing is stored yet."""

    config: MnesisConfig
    model: ModelInfo
    count_tokens: TokenCounter
    system_prompt: str
    system_tokens: int
    budget: Budget
    llm: LLM


async def open_or_create(
    request: OpenRequest,
    *,
    model: str | None,
    system_prompt: str | None,
    session_id: str | None,
    agent: str,
    parent_id: str | None,
) -> OpenedSession:
    """Open a session, and create it if it does not exist. If it raises, nothing is stored, and nothing remains open."""
    _check_strings(session_id, model=model, system_prompt=system_prompt, agent=agent, parent_id=parent_id)
    if model is not None:
        await find_model_info(model, request.overrides)
    async with _open_engine(request) as (engine, owns_engine):
        existing = await _find_session(engine, session_id)
        settings = await _resolve_settings(request, engine, existing, model, system_prompt)
        if parent_id is not None:
            await engine.store.session(parent_id)
        is_new = False
        if existing is None:
            existing, is_new = await engine.store.create_session(_new_record(settings, session_id, agent, parent_id))
        record = existing if is_new else await _apply_settings(engine, existing, settings)
        return OpenedSession(_make_core(engine, record, settings), owns_engine, is_new)


async def load_existing(request: OpenRequest, session_id: str, model: str | None) -> OpenedSession:
    """Open an existing session. Raises `SessionNotFoundError`; creates no database."""
    _check_strings(None, model=model)
    if not isinstance(session_id, str) or not session_id or await _is_database_missing(request):
        raise SessionNotFoundError(str(session_id), location=_database_path(request))
    async with _open_engine(request) as (engine, owns_engine):
        existing = await engine.store.session(session_id)
        settings = await _resolve_settings(request, engine, existing, model, None)
        record = await _apply_settings(engine, existing, settings)
        return OpenedSession(_make_core(engine, record, settings), owns_engine, False)


def open_fork(core: SessionCore, record: SessionRecord) -> OpenedSession:
    """Open a fork of a session with the settings of the object that forked it. It does not close the engine."""
    shared = core.engine.session_state(record.id)
    shared.advance(record)
    shown = {seq: form for seq, form in core.shared.shown_forms.items() if seq <= record.inherited_seq}
    shared.shown_forms = shown | shared.shown_forms
    if core.shared.seqs_with_known_forms is not None:
        known = {seq for seq in core.shared.seqs_with_known_forms if seq <= record.inherited_seq}
        shared.seqs_with_known_forms = known | (shared.seqs_with_known_forms or set())
    fork = SessionCore(
        engine=core.engine,
        session_id=record.id,
        config=core.config,
        model=core.model,
        system_prompt=core.system_prompt,
        budget=core.budget,
        count_tokens=core.count_tokens,
        llm=core.llm,
        shared=shared,
        bus=core.engine.events.for_session(record.id),
    )
    return OpenedSession(fork, owns_engine=False, is_new=False)


async def _find_session(engine: Engine, session_id: str | None) -> SessionRecord | None:
    if session_id is None:
        return None
    try:
        return await engine.store.session(session_id)
    except SessionNotFoundError:
        return None


async def _resolve_settings(
    request: OpenRequest, engine: Engine, existing: SessionRecord | None, model: str | None, system_prompt: str | None
) -> _ResolvedSettings:
    """Combine the arguments, the stored values of an existing session and the defaults, in this order."""
    if model is None:
        model = existing.model if existing is not None else NO_MODEL
    if system_prompt is None:
        system_prompt = existing.system_prompt if existing is not None else DEFAULT_SYSTEM_PROMPT
    config = request.config or engine.config
    redaction = config.redaction or engine.config.redaction
    if redaction is not None:
        system_prompt = redaction.text(system_prompt)
    info = await find_model_info(model, config.model_overrides)
    count_tokens = await _token_counter(info)
    system_tokens = count_tokens(system_prompt) + MESSAGE_OVERHEAD_TOKENS if system_prompt else 0
    budget = resolve_budget(request.budget, info, config.compaction, system_tokens)
    llm = _choose_client(engine, model, request.llm)
    return _ResolvedSettings(config, info, count_tokens, system_prompt, system_tokens, budget, llm)


def _new_record(
    settings: _ResolvedSettings, session_id: str | None, agent: str, parent_id: str | None
) -> SessionRecord:
    now = now_ms()
    return SessionRecord(
        id=session_id or new_id("sess"),
        model=settings.model.model_id,
        system_prompt=settings.system_prompt,
        agent=agent,
        parent_id=parent_id,
        system_tokens=settings.system_tokens,
        context_tokens=settings.system_tokens,
        created_at=now,
        updated_at=now,
    )


@asynccontextmanager
async def _open_engine(request: OpenRequest) -> AsyncIterator[tuple[Engine, bool]]:
    """Open the engine of a request. Yields it and whether it was created here; a new one is closed if the block
    raises.
    """
    engine, db_path = request.engine, request.db_path
    if db_path is not None and not os.fspath(db_path):
        raise ConfigurationError("db_path is empty; pass the path of a file or ':memory:', or omit it")
    if engine is not None:
        if db_path is not None and not await to_thread.run_sync(is_same_database, db_path, engine.path):
            raise ConfigurationError(
                f"db_path={os.fspath(db_path)!r} is not the database of the engine, {engine.path!r}; pass only one of them"
            )
        yield await engine.open(), False
        return
    await import_in_thread(_store_module(_database_path(request)))
    engine = Engine(db_path, config=request.config)
    try:
        yield await engine.open(), True
    except BaseException:
        await engine.close()
        raise


def _store_module(path: str) -> str:
    """Return the module that the first engine of a database imports."""
    if is_database_url(path):
        return "mnesis.store.postgres"
    return "mnesis.store.memory" if path == IN_MEMORY else "mnesis.store.sqlite"


async def _token_counter(info: ModelInfo) -> TokenCounter:
    """Return the function that counts tokens for a model. Loads its tables in a thread."""
    await preload_encoding(info.encoding)
    if info.encoding != "heuristic":
        await preload_encoding("unknown")  # agents count the results of tools without a model
    reasoning = find_dialect(info.model_id, info.dialect).reasoning
    return ModelTokenCounter(TokenEstimator(encoding=info.encoding), info.model_id, reasoning)


def _check_strings(session_id: object, **others: object) -> None:
    if session_id is not None and (not isinstance(session_id, str) or not session_id):
        raise ConfigurationError(f"session_id must be a non-empty string, not {session_id!r}")
    for name, value in others.items():
        if value is not None:
            check_string(name, value)


async def _apply_settings(engine: Engine, record: SessionRecord, settings: _ResolvedSettings) -> SessionRecord:
    """Store the model and system prompt that a session is opened with, if they changed. Returns its record."""
    model, system_prompt, system_tokens = settings.model.model_id, settings.system_prompt, settings.system_tokens
    if (model, system_prompt, system_tokens) == (record.model, record.system_prompt, record.system_tokens):
        return record
    record = await engine.store.update_session(
        record.id, model=model, system_prompt=system_prompt, system_tokens=system_tokens
    )
    payload = SessionUpdatedPayload(record.id, record.context_tokens, record.turn_count)
    engine.events.for_session(record.id).publish(MnesisEvent.SESSION_UPDATED, payload)
    return record


def _make_core(engine: Engine, record: SessionRecord, settings: _ResolvedSettings) -> SessionCore:
    shared = engine.session_state(record.id)
    shared.advance(record)
    return SessionCore(
        engine=engine,
        session_id=record.id,
        config=settings.config,
        model=settings.model,
        system_prompt=settings.system_prompt,
        budget=settings.budget,
        count_tokens=settings.count_tokens,
        llm=settings.llm,
        shared=shared,
        bus=engine.events.for_session(record.id),
    )


def _choose_client(engine: Engine, model: str, llm: object | None) -> LLM:
    if llm is not None:
        return resolve(llm)
    return engine.llm if model != NO_MODEL or engine.has_own_llm else resolve(NoModel())


def _database_path(request: OpenRequest) -> str:
    if request.engine is not None:
        return request.engine.path
    return (request.config or MnesisConfig()).store.resolve_path(request.db_path)


async def _is_database_missing(request: OpenRequest) -> bool:
    path = _database_path(request)
    return request.engine is None and path != IN_MEMORY and not await to_thread.run_sync(database_exists, path)
