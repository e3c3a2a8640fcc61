"""Where sub-sessions come from: their database, parent, settings and client, and how deep they are."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

from mnesis.config import MnesisConfig
from mnesis.engine.engine import Engine
from mnesis.engine.registry import MEMORY
from mnesis.errors import ConfigurationError, DelegationRefusedError, SessionNotFoundError
from mnesis.llm.resolve import mock_is_on
from mnesis.models.session import NO_MODEL
from mnesis.session.session import MnesisSession
from mnesis.store.base import Store
from mnesis.validation import check_integer

MAX_DEPTH = 3
"""How many sub-agents may stand below one another: the sub-agent of a top-level session has depth 1."""


@dataclass(frozen=True, slots=True)
class Station:
    """The sub-agent in whose turn the running code is. `task` is what it was asked to do, in all the words used for it."""

    session: MnesisSession
    depth: int
    max_depth: int
    task: tuple[str, ...]


_station: ContextVar[Station | None] = ContextVar("mnesis_station", default=None)


def current_station() -> Station | None:
    """The sub-agent whose tools are running here, if any; also in tasks and threads that such a tool starts."""
    return _station.get()


@contextmanager
def stationed(station: Station) -> Iterator[None]:
    """Everything that runs in the block runs for this sub-agent."""
    token = _station.set(station)
    try:
        yield
    finally:
        _station.reset(token)


@dataclass(frozen=True, slots=True)
class Origin:
    """What sub-sessions are opened with. `depth` is theirs; `parent` is the open parent session where there is one."""

    engine: Engine
    config: MnesisConfig
    model: str | None
    llm: object | None
    parent_id: str | None
    parent: MnesisSession | None
    depth: int
    max_depth: int

    @asynccontextmanager
    async def session(
        self, *task: str, system_prompt: str, agent: str, max_retries: int, session_id: str | None = None
    ) -> AsyncIterator[MnesisSession]:
        """A sub-session, opened or created, and closed on every path; inside the block its tools know where they are."""
        async with MnesisSession.open(
            model=self.model,
            system_prompt=system_prompt,
            session_id=session_id,
            agent=agent,
            parent_id=self.parent_id,
            config=_retrying(self.config, max_retries),
            engine=self.engine,
            llm=self.llm,
        ) as session:
            with stationed(Station(session, self.depth, self.max_depth, task)):
                yield session


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a caller said about where sub-sessions belong; each None means: from the parent, else the default."""

    parent: MnesisSession | str | None = None
    engine: Engine | None = None
    db_path: str | os.PathLike[str] | None = None
    config: MnesisConfig | None = None
    model: str | None = None
    llm: object | None = None
    max_depth: int = MAX_DEPTH


_KINDS: tuple[tuple[str, str, type | tuple[type, ...]], ...] = (
    ("parent", "the session that sub-agents belong to is a MnesisSession or the id of one", (MnesisSession, str)),
    ("engine", "engine is an Engine", Engine),
    ("config", "config is a MnesisConfig", MnesisConfig),
    ("model", "model is a text such as 'anthropic/claude-sonnet-4-5'", str),
)


@asynccontextmanager
async def opened(wanted: Wanted) -> AsyncIterator[Origin]:
    """The origin for what a caller said. An engine that is made for it is closed again.

    Without a parent, code that runs for a sub-agent makes children of that sub-agent, unless it names another database.
    Raises `SessionNotFoundError` for a parent that is not in the database, `DelegationRefusedError` past the depth limit
    and `ConfigurationError` for databases that contradict each other or a missing model; no model was called then.
    """
    _refuse_wrong(wanted)
    station = current_station()
    wanted = _with_parent(wanted, station)
    engine, owned = _engine(wanted)
    try:
        await engine.open()
        yield await _origin(wanted, engine, station)
    finally:
        if owned:
            await engine.close()


def _with_parent(wanted: Wanted, station: Station | None) -> Wanted:
    if wanted.parent is not None or station is None:
        return wanted
    elsewhere = wanted.engine.path if wanted.engine is not None else wanted.db_path
    if elsewhere is not None and not _same_file(elsewhere, station.session.engine.path):
        return wanted
    return replace(wanted, parent=station.session)


def _engine(wanted: Wanted) -> tuple[Engine, bool]:
    """The engine to use, and whether it was made here. A parent that is an open session brings its own."""
    parent, given = wanted.parent, wanted.engine
    engine = parent.engine if isinstance(parent, MnesisSession) else given
    for name, path in (("engine", given.path if given is not None else None), ("db_path", wanted.db_path)):
        if engine is not None and path is not None and not _same_file(path, engine.path):
            raise ConfigurationError(
                f"the {name} is {os.fspath(path)!r}, but the database of the parent or engine is {engine.path!r};"
                " sub-sessions live in their parent's database: leave one of them out"
            )
    if engine is not None:
        return engine, False
    engine = Engine(wanted.db_path, config=wanted.config)
    if isinstance(parent, str) and (engine.path == MEMORY or not os.path.exists(engine.path)):
        raise SessionNotFoundError(parent, where=engine.path)
    return engine, True


async def _origin(wanted: Wanted, engine: Engine, station: Station | None) -> Origin:
    parent = wanted.parent if isinstance(wanted.parent, MnesisSession) else None
    parent_id = parent.id if parent is not None else wanted.parent if isinstance(wanted.parent, str) else None
    model, depth = wanted.model, 0
    if parent_id is not None:
        record = await engine.store.session(parent_id)
        model = model or (record.model if record.model != NO_MODEL else None)
        depth = await _depth(engine.store, parent_id)
    max_depth = min(wanted.max_depth, station.max_depth) if station is not None else wanted.max_depth
    depth = max(depth, station.depth if station is not None else 0) + 1
    if depth > max_depth:
        raise DelegationRefusedError(
            f"a sub-agent here would be at depth {depth}; the limit is max_depth={max_depth}. Do this part of the work"
            " yourself, or let the session above hand it out"
        )
    llm = wanted.llm
    if llm is None and parent is not None:
        # The parent's own client, which may have been given to the session and not to its engine.
        llm = parent._scope.llm
    if model is None and llm is None and not engine.has_own_llm and not mock_is_on():
        raise ConfigurationError("no model: name one with model=, or give a parent session, or a client with llm=")
    config = wanted.config or (parent.config if parent is not None else engine.config)
    return Origin(engine, config, model, llm, parent_id, parent, depth, max_depth)


async def _depth(store: Store, session_id: str) -> int:
    """How many ancestors a session has. A chain that was cut by a purge ends there."""
    depth, seen = 0, {session_id}
    parent_id = (await store.session(session_id)).parent_id
    while parent_id is not None and parent_id not in seen:
        depth += 1
        seen.add(parent_id)
        try:
            parent_id = (await store.session(parent_id)).parent_id
        except SessionNotFoundError:
            break
    return depth


def _retrying(config: MnesisConfig, max_retries: int) -> MnesisConfig:
    """The settings with passing failures of the model repeated at least so often."""
    retry = config.session.retry
    if retry.max_retries >= max_retries:
        return config
    retry = retry.model_copy(update={"max_retries": max_retries})
    return config.model_copy(update={"session": config.session.model_copy(update={"retry": retry})})


def _same_file(one: str | os.PathLike[str], other: str) -> bool:
    here = os.path.expanduser(os.fspath(one))
    return here == other if MEMORY in (here, other) else os.path.realpath(here) == os.path.realpath(other)


def _refuse_wrong(wanted: Wanted) -> None:
    check_integer("max_depth", wanted.max_depth, least=1)
    for name, what, kinds in _KINDS:
        value = getattr(wanted, name)
        if value is not None and not isinstance(value, kinds):
            raise ConfigurationError(f"{what}, not a {type(value).__name__} ({value!r:.100})")
