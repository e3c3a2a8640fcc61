"""The sessions of sub-agents: database, parent, settings, client and depth."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

from mnesis.config import MnesisConfig
from mnesis.database_url import database_exists, is_same_database
from mnesis.engine.engine import Engine
from mnesis.engine.registry import IN_MEMORY
from mnesis.errors import ConfigurationError, DelegationDeniedError, SessionNotFoundError
from mnesis.llm.resolve import is_mock_enabled
from mnesis.models.session import NO_MODEL
from mnesis.operators.agent_steps import Agent
from mnesis.session.session import MnesisSession
from mnesis.store.base import Store
from mnesis.validation import check_integer

MAX_DEPTH = 3
"""The number of levels of sub-agents that may be nested. The sub-agent of a top-level session has depth 1."""


@dataclass(frozen=True, slots=True)
class RunningAgent:
    """The sub-agent whose turn is running the current code.

    `task` contains the wordings of its task.
    """

    session: MnesisSession
    depth: int
    max_depth: int
    task: tuple[str, ...]


_running_agent: ContextVar[RunningAgent | None] = ContextVar("mnesis_running_agent", default=None)


def current_agent() -> RunningAgent | None:
    """Return the sub-agent whose tool runs the current code, if any.

    Tasks and threads of the tool inherit it.
    """
    return _running_agent.get()


@contextmanager
def running_agent(agent: RunningAgent) -> Iterator[None]:
    """Make this sub-agent the current one within the block."""
    token = _running_agent.set(agent)
    try:
        yield
    finally:
        _running_agent.reset(token)


@dataclass(frozen=True, slots=True)
class ChildSessions:
    """Opens the sessions of sub-agents.

    `depth` is the depth of these sessions; `parent` is set if it is open.
    """

    engine: Engine
    config: MnesisConfig
    model: str | None
    llm: object | None
    parent_id: str | None
    parent: MnesisSession | None
    depth: int
    max_depth: int

    @asynccontextmanager
    async def open(self, agent: Agent, *task: str, session_id: str | None = None) -> AsyncIterator[MnesisSession]:
        """Open or create an agent's session and close it after the block.

        Code in the block runs as that sub-agent. `task` contains the wordings of the agent's task.
        """
        async with MnesisSession.open(
            model=self.model,
            system_prompt=agent.full_system_prompt,
            session_id=session_id,
            agent=agent.name,
            parent_id=self.parent_id,
            config=_with_min_retries(self.config, agent.max_retries),
            engine=self.engine,
            llm=self.llm,
        ) as session:
            with running_agent(RunningAgent(session, self.depth, self.max_depth, task)):
                yield session


@dataclass(frozen=True, slots=True)
class ChildSessionRequest:
    """The caller's choice for the sessions of sub-agents. None means the value of the parent session, or else the
    default.
    """

    parent: MnesisSession | str | None = None
    engine: Engine | None = None
    db_path: str | os.PathLike[str] | None = None
    config: MnesisConfig | None = None
    model: str | None = None
    llm: object | None = None
    max_depth: int = MAX_DEPTH


_EXPECTED_TYPES: tuple[tuple[str, str, type | tuple[type, ...]], ...] = (
    ("parent", "the parent session must be a MnesisSession or the id of one", (MnesisSession, str)),
    ("engine", "engine must be an Engine", Engine),
    ("model", "model must be a string such as 'anthropic/claude-sonnet-4-5'", str),
)


@asynccontextmanager
async def open_child_sessions(request: ChildSessionRequest) -> AsyncIterator[ChildSessions]:
    """Resolve a request. An engine that this function creates is closed after the block.

    Code that runs as a sub-agent makes children of that sub-agent, unless it names a parent or another database.
    Raises, before any model is called, `SessionNotFoundError` if the parent is not in the database,
    `DelegationDeniedError` beyond the depth limit, and `ConfigurationError` for contradictory databases or a missing
    model.
    """
    _check_request(request)
    caller = current_agent()
    request = _with_default_parent(request, caller)
    engine, is_own_engine = _resolve_engine(request)
    try:
        await engine.open()
        yield await _resolve(request, engine, caller)
    finally:
        if is_own_engine:
            await engine.close()


def _with_default_parent(request: ChildSessionRequest, caller: RunningAgent | None) -> ChildSessionRequest:
    if request.parent is not None or caller is None:
        return request
    path = request.engine.path if request.engine is not None else request.db_path
    if path is not None and not is_same_database(path, caller.session.engine.path):
        return request
    return replace(request, parent=caller.session)


def _resolve_engine(request: ChildSessionRequest) -> tuple[Engine, bool]:
    """Return the engine to use, and whether it was created here.

    An open parent session has its own engine.
    """
    parent, requested_engine = request.parent, request.engine
    engine = parent.engine if isinstance(parent, MnesisSession) else requested_engine
    engine_path = requested_engine.path if requested_engine is not None else None
    for name, path in (("engine", engine_path), ("db_path", request.db_path)):
        if engine is not None and path is not None and not is_same_database(path, engine.path):
            raise ConfigurationError(
                f"the {name} is {os.fspath(path)!r}, but the database of the parent or engine is {engine.path!r};"
                " child sessions are stored in their parent's database: pass only one of them"
            )
    if engine is not None:
        return engine, False
    engine = Engine(request.db_path, config=request.config)
    if isinstance(parent, str) and (engine.path == IN_MEMORY or not database_exists(engine.path)):
        raise SessionNotFoundError(parent, location=engine.path)
    return engine, True


async def _resolve(request: ChildSessionRequest, engine: Engine, caller: RunningAgent | None) -> ChildSessions:
    parent = request.parent if isinstance(request.parent, MnesisSession) else None
    parent_id = parent.id if parent is not None else request.parent if isinstance(request.parent, str) else None
    model, parent_depth = request.model, 0
    if parent_id is not None:
        record = await engine.store.session(parent_id)
        model = model or (record.model if record.model != NO_MODEL else None)
        parent_depth = await _count_ancestors(engine.store, parent_id)
    max_depth = min(request.max_depth, caller.max_depth) if caller is not None else request.max_depth
    depth = max(parent_depth, caller.depth if caller is not None else 0) + 1
    if depth > max_depth:
        raise DelegationDeniedError(
            f"a sub-agent here would be at depth {depth}; the limit is max_depth={max_depth}. Do this part of the work"
            " yourself, or let the session above delegate it"
        )
    llm = request.llm
    if llm is None and parent is not None:
        # The parent's client may belong to the session and not to its engine.
        llm = parent._core.llm
    if model is None and llm is None and not engine.has_own_llm and not is_mock_enabled():
        raise ConfigurationError("no model: pass model=, a parent session, or a client with llm=")
    config = request.config or (parent.config if parent is not None else engine.config)
    return ChildSessions(engine, config, model, llm, parent_id, parent, depth, max_depth)


async def _count_ancestors(store: Store, session_id: str) -> int:
    """Count the ancestors of a session. The chain ends at a parent that was purged."""
    count, seen = 0, {session_id}
    parent_id = (await store.session(session_id)).parent_id
    while parent_id is not None and parent_id not in seen:
        count += 1
        seen.add(parent_id)
        try:
            parent_id = (await store.session(parent_id)).parent_id
        except SessionNotFoundError:
            break
    return count


def _with_min_retries(config: MnesisConfig, min_retries: int) -> MnesisConfig:
    """Return the settings with at least this many retries of temporary failures."""
    retry = config.session.retry
    if retry.max_retries >= min_retries:
        return config
    retry = retry.model_copy(update={"max_retries": min_retries})
    return config.model_copy(update={"session": config.session.model_copy(update={"retry": retry})})


def _check_request(request: ChildSessionRequest) -> None:
    check_integer("max_depth", request.max_depth, minimum=1)
    for name, expectation, types in _EXPECTED_TYPES:
        value = getattr(request, name)
        if value is not None and not isinstance(value, types):
            raise ConfigurationError(f"{expectation}, not a {type(value).__name__} ({value!r:.100})")
