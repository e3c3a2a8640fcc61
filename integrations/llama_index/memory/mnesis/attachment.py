"""A memory's way to its session: which engine, which settings, opened at first use, anew in a forked child."""

from __future__ import annotations

import os
import threading
import uuid
import weakref
from dataclasses import dataclass

from llama_index.memory.mnesis.events import forward
from llama_index.memory.mnesis.llm import client_for

from mnesis.concurrency import FairLock
from mnesis.config import CompactionConfig, MnesisConfig, ModelOverrides
from mnesis.engine.engine import Engine
from mnesis.engine.registry import MEMORY
from mnesis.errors import ConfigurationError, SessionClosedError, SessionNotFoundError
from mnesis.session.session import MnesisSession

HEADROOM_TOKENS = 1_000
SMALLEST_USABLE_TOKENS = 334
"""The smallest budget that the engine's reserves allow; with a smaller limit compaction starts at its share of this."""

LARGEST_PROMPT_RATIO = 8
"""A system prompt may take so many times the room for the history before no compaction could help."""

_engines: weakref.WeakValueDictionary[str, Engine] = weakref.WeakValueDictionary()
_names: weakref.WeakKeyDictionary[Engine, str] = weakref.WeakKeyDictionary()
_guard = threading.Lock()


def name_of(engine: Engine) -> str:
    """How a pointer names an engine's database: its path, or for one in memory a name that holds in this process."""
    with _guard:
        name = _names.get(engine)
        if name is None:
            name = f"{MEMORY}{uuid.uuid4().hex}" if engine.path == MEMORY else os.path.abspath(engine.path)
            _names[engine] = name
        if name not in _engines:
            _engines[name] = engine
        return name


def engine_named(name: str, *, must_be_known: bool) -> tuple[Engine, bool]:
    """The engine a pointer names: one that lives in this process, or a new one for a database file; whether it is new.

    With `must_be_known` only files that exist are opened, and the default database. Raises `ConfigurationError` for others
    and for a database in memory that is gone.
    """
    with _guard:
        living = _engines.get(name)
    if living is not None and not living.closed:
        return living, False
    if name.startswith(MEMORY):
        raise ConfigurationError(
            f"the database {name} was in the memory of another process, or of an engine that is gone"
        )
    default = os.path.abspath(MnesisConfig().store.db_path)
    if must_be_known and name != default and not os.path.isfile(name):
        raise ConfigurationError(
            f"{name} is not there; a stored memory is only attached to a database that exists. Give engine= to from_dict()"
            " to say where it is now."
        )
    return Engine(name), True


def limited(config: MnesisConfig, token_limit: int, system_tokens: int) -> MnesisConfig:
    """Settings under which a session keeps its history within `token_limit`. The system prompt of a session that was begun
    natively comes on top: it is no part of what a memory returns."""
    room = max(token_limit, SMALLEST_USABLE_TOKENS, system_tokens // LARGEST_PROMPT_RATIO)
    usable = room + system_tokens
    old = config.compaction
    prompt_share, limit_share = system_tokens / usable, token_limit / usable
    low = min(max(old.low_water_fraction * limit_share, 0.02), 0.5)
    soft = min(max(prompt_share + old.soft_threshold_fraction * limit_share, prompt_share + low + 0.01, 0.1), 0.95)
    changed = {
        "compaction_output_budget": HEADROOM_TOKENS,
        "soft_threshold_fraction": soft,
        "low_water_fraction": low,
    }
    overrides = config.model_overrides or ModelOverrides()
    limits = {"context_limit": usable + HEADROOM_TOKENS + 1, "max_output_tokens": 1}
    return config.model_copy(
        update={
            "compaction": CompactionConfig(**{**dict(old), **changed}),
            "model_overrides": ModelOverrides(**{**dict(overrides), **limits}),
        }
    )


@dataclass
class _Opened:
    """An opened session and what it was opened for."""

    pid: int
    key: tuple[object, ...]
    session: MnesisSession


class Attachment:
    """The session of one memory. `begun`: the session is known to exist, so a missing one is an error."""

    def __init__(self, session_id: str, engine: Engine, *, owns_engine: bool, begun: bool = False) -> None:
        self.session_id = session_id
        self.engine = engine
        self.begun = begun
        self.closed = False
        self._owns_engine = owns_engine
        self._pid = os.getpid()
        self._lock = FairLock()
        self._opened: _Opened | None = None

    async def session(self, token_limit: int, llm: object | None) -> MnesisSession:
        """The session, opened with these settings. Raises `SessionClosedError`, `SessionNotFoundError`, and what opening
        raises."""
        key = (token_limit, id(llm))
        opened = self._opened
        if opened is not None and opened.key == key and opened.pid == os.getpid() and not self.closed:
            return opened.session
        self._after_fork()
        async with self._lock:
            if self.closed:
                raise SessionClosedError(self.session_id)
            if self._opened is None or self._opened.key != key:
                session = await self._open(token_limit, llm)
                forward(session)
                if self._opened is not None:
                    await self._opened.session.close()
                self._opened = _Opened(os.getpid(), key, session)
            return self._opened.session

    async def close(self) -> None:
        """Wait for what runs, let go of the session and of an engine that was made for it. Quiet when closed already."""
        self._after_fork()
        self.closed = True
        async with self._lock:
            if self._opened is not None:
                await self._opened.session.close()
                self._opened = None
        if self._owns_engine:
            await self.engine.close()

    def _after_fork(self) -> None:
        """A child process must not use what its parent has open: it gets an engine of its own."""
        if self._pid == os.getpid():
            return
        if self.engine.path == MEMORY:
            raise ConfigurationError(
                "a database in memory belongs to the process that made it; use a file to share one"
            )
        self.engine = Engine(self.engine.path, config=self.engine.config)
        self._owns_engine, self._pid = True, os.getpid()
        self._lock, self._opened = FairLock(), None

    async def _open(self, token_limit: int, llm: object | None) -> MnesisSession:
        if self.begun and _is_missing(self.engine):
            raise SessionNotFoundError(self.session_id, where=self.engine.path)
        config = limited(self.engine.config, token_limit, await self._system_tokens())
        client = client_for(llm, self.engine)
        try:
            session = await MnesisSession.load(self.session_id, config, engine=self.engine, llm=client)
        except SessionNotFoundError:
            if self.begun:
                raise
            session = await MnesisSession.create(
                model=None,
                system_prompt="",
                session_id=self.session_id,
                config=config,
                engine=self.engine,
                llm=client,
            )
        self.begun = True
        return session

    async def _system_tokens(self) -> int:
        await self.engine.open()
        try:
            return (await self.engine.store.session(self.session_id)).system_tokens
        except SessionNotFoundError:
            return 0


def _is_missing(engine: Engine) -> bool:
    return engine.path != MEMORY and not os.path.exists(engine.path)
