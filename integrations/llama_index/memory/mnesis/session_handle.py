"""`SessionHandle`: the session of a memory, opened on first use, and again in a forked child process."""

from __future__ import annotations

import os
import threading
import uuid
import weakref
from dataclasses import dataclass

from llama_index.memory.mnesis.events import forward_events
from llama_index.memory.mnesis.llm import client_for

from mnesis.concurrency import FairLock
from mnesis.config import MnesisConfig
from mnesis.engine.engine import Engine
from mnesis.engine.registry import IN_MEMORY
from mnesis.errors import ConfigurationError, SessionClosedError, SessionNotFoundError
from mnesis.models.context import Budget
from mnesis.session.session import MnesisSession

_engines_by_key: weakref.WeakValueDictionary[str, Engine] = weakref.WeakValueDictionary()
_keys_by_engine: weakref.WeakKeyDictionary[Engine, str] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def engine_key(engine: Engine) -> str:
    """Return the key of an engine's database: its path, or for a database in memory a name valid in this process."""
    with _lock:
        key = _keys_by_engine.get(engine)
        if key is None:
            key = f"{IN_MEMORY}{uuid.uuid4().hex}" if engine.path == IN_MEMORY else os.path.abspath(engine.path)
            _keys_by_engine[engine] = key
        if key not in _engines_by_key:
            _engines_by_key[key] = engine
        return key


def find_engine(key: str, *, must_exist: bool) -> tuple[Engine, bool]:
    """Return the engine for a database key, and whether the engine is new.

    An open engine of this process is reused; otherwise a new one is created for the database file. With `must_exist`,
    only the default database may be a file that does not exist yet. Raises `ConfigurationError` for any other missing
    file, and for a database in memory whose engine no longer exists.
    """
    with _lock:
        known_engine = _engines_by_key.get(key)
    if known_engine is not None and not known_engine.closed:
        return known_engine, False
    if key.startswith(IN_MEMORY):
        raise ConfigurationError(
            f"the database {key!r} was in the memory of another process, or of an engine that no longer exists; use a"
            " database file to restore a memory later"
        )
    default = os.path.abspath(MnesisConfig().store.db_path)
    if must_exist and key != default and not os.path.isfile(key):
        raise ConfigurationError(
            f"the database {key!r} does not exist, and a stored memory can only be restored from an existing database; pass"
            " engine= to from_dict() if the database has moved"
        )
    return Engine(key), True


@dataclass
class _OpenSession:
    """An open session, and the process and settings that it was opened with."""

    pid: int
    key: tuple[object, ...]
    session: MnesisSession


class SessionHandle:
    """The session of one memory. With `must_exist`, a missing session is an error instead of being created."""

    def __init__(self, session_id: str, engine: Engine, *, owns_engine: bool, must_exist: bool = False) -> None:
        self.session_id = session_id
        self.engine = engine
        self.must_exist = must_exist
        self.closed = False
        self._owns_engine = owns_engine
        self._pid = os.getpid()
        self._lock = FairLock()
        self._open_session: _OpenSession | None = None

    async def session(self, token_limit: int, llm: object | None) -> MnesisSession:
        """Return the session, opened with these settings.

        Raises `SessionClosedError` if the handle is closed, `SessionNotFoundError` if the session must exist and does
        not, and the errors of opening a session.
        """
        key = (token_limit, id(llm))
        current = self._open_session
        if current is not None and current.key == key and current.pid == os.getpid() and not self.closed:
            return current.session
        self._reset_after_fork()
        async with self._lock:
            if self.closed:
                raise SessionClosedError(self.session_id)
            if self._open_session is None or self._open_session.key != key:
                session = await self._open(token_limit, llm)
                forward_events(session)
                if self._open_session is not None:
                    await self._open_session.session.close()
                self._open_session = _OpenSession(os.getpid(), key, session)
            return self._open_session.session

    async def close(self) -> None:
        """Wait for background work and close the session, and the engine if it was created for this handle.

        Does nothing if already closed.
        """
        self._reset_after_fork()
        self.closed = True
        async with self._lock:
            if self._open_session is not None:
                await self._open_session.session.close()
                self._open_session = None
        if self._owns_engine:
            await self.engine.close()

    def _reset_after_fork(self) -> None:
        """Use a new engine in a forked child process, which must not use its parent's connections."""
        if self._pid == os.getpid():
            return
        if self.engine.path == IN_MEMORY:
            raise ConfigurationError(
                "a database in memory cannot be used in a forked process; use a database file instead"
            )
        self.engine = Engine(self.engine.path, config=self.engine.config)
        self._owns_engine, self._pid = True, os.getpid()
        self._lock, self._open_session = FairLock(), None

    async def _open(self, token_limit: int, llm: object | None) -> MnesisSession:
        if self.must_exist and _is_file_missing(self.engine):
            raise SessionNotFoundError(self.session_id, location=self.engine.path)
        # A memory does not return the system prompt of a session that another API created.
        budget = Budget.for_tokens(token_limit, includes_system_prompt=False, config=self.engine.config.compaction)
        client = client_for(llm, self.engine)
        try:
            session = await MnesisSession.load(self.session_id, engine=self.engine, llm=client, budget=budget)
        except SessionNotFoundError:
            if self.must_exist:
                raise
            session = await MnesisSession.create(
                model=None,
                system_prompt="",
                session_id=self.session_id,
                engine=self.engine,
                llm=client,
                budget=budget,
            )
        self.must_exist = True
        return session


def _is_file_missing(engine: Engine) -> bool:
    return engine.path != IN_MEMORY and not os.path.exists(engine.path)
