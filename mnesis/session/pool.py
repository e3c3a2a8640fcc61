"""`SessionPool`: the open sessions of one database, for adapters and servers."""

from __future__ import annotations

import os
import pickle
import threading
import uuid
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from anyio import to_thread

from mnesis.concurrency import FairLock
from mnesis.config import ConfigOrDict
from mnesis.database_url import database_exists
from mnesis.engine.engine import Engine
from mnesis.engine.known_engines import database_key, find_engine
from mnesis.engine.registry import IN_MEMORY
from mnesis.errors import ConfigurationError, SessionClosedError, SessionNotFoundError
from mnesis.llm.no_model import NoModel
from mnesis.models.context import Budget
from mnesis.session.session import MnesisSession

T = TypeVar("T")
SessionId = str | int | uuid.UUID
"""The types that frameworks use as the id of a thread. mnesis stores its text."""
MAX_OPEN_SESSIONS = 1_000
"""The number of sessions that stay open; the least recently used one is dropped first. An open session holds a few
small objects and no file."""


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """The settings with which a pool opens sessions.

    `model` replaces the model of existing sessions; None keeps it. `default_model` and `system_prompt` are those of new
    sessions only.
    """

    model: str | None = None
    config: ConfigOrDict | None = None
    llm: object | None = None
    budget: Budget | int | None = None
    system_prompt: str = ""
    default_model: str | None = None

    def is_same(self, other: SessionSettings) -> bool:
        """Return whether open sessions remain valid under the other settings. Clients are compared by identity."""
        if self is other:
            return True
        names = [field.name for field in fields(self) if field.name != "llm"]
        return self.llm is other.llm and all(getattr(self, name) == getattr(other, name) for name in names)


@dataclass(frozen=True, slots=True)
class _OpenSession:
    session: MnesisSession
    settings: SessionSettings


class SessionPool:
    """The open sessions of one database, each opened once and shared. Nothing is opened before the first use.

    Pass an `engine`, which stays open, or the path of the database; then the pool creates an engine and closes it. With
    `owns_engine`, it also closes the engine that was passed. A forked child process gets its own engine. Without
    `settings.llm`, sessions use the engine's own client, or no model; the model that a session was created with is never
    called. `on_open` is called with each session object that the pool opens.

    A copy is the same pool. A pickle contains the location of the database and the settings; it attaches to that database
    when it is loaded. A client or `on_open` that cannot be pickled is left out, with a warning.

    ```python
    pool = SessionPool(db_path="chat.db", settings=SessionSettings(budget=8_000))
    session = await pool.get_or_create("ada")
    await pool.close()
    ```
    """

    def __init__(
        self,
        *,
        engine: Engine | None = None,
        db_path: str | os.PathLike[str] | None = None,
        owns_engine: bool = False,
        settings: SessionSettings | None = None,
        max_sessions: int = MAX_OPEN_SESSIONS,
        on_open: Callable[[MnesisSession], None] | None = None,
    ) -> None:
        if engine is not None and db_path is not None:
            raise ConfigurationError("pass engine= or db_path=, not both: an engine already has a database")
        self.settings = settings or SessionSettings()
        self._engine, self._db_path, self._pid = engine, db_path, os.getpid()
        self._creates_engine, self._owns_engine = engine is None, engine is None or owns_engine
        self._max_sessions, self._on_open = max_sessions, on_open
        self._closed = False
        self._lock = threading.Lock()
        self._open_sessions: OrderedDict[str, _OpenSession] = OrderedDict()
        self._opening: weakref.WeakValueDictionary[str, FairLock] = weakref.WeakValueDictionary()

    @property
    def closed(self) -> bool:
        """Whether the pool is closed."""
        return self._closed

    @property
    def engine(self) -> Engine:
        """The engine of the sessions, with their store and event bus.

        Raises `ConfigurationError` in a forked process if the database is in memory.
        """
        with self._lock:
            is_forked = self._pid != os.getpid()
            engine = self._engine
            if engine is not None and not is_forked and not (self._creates_engine and engine.closed):
                return engine
            # The sessions of a parent process use its connection and its event loops, so they are forgotten, not closed.
            self._open_sessions.clear()
            self._opening = weakref.WeakValueDictionary()
            if engine is None or self._creates_engine:
                self._engine = Engine(self._db_path, config=self.settings.config)
            elif engine.path == IN_MEMORY:
                raise ConfigurationError(
                    "a database in memory cannot be used in a forked process; use a database file instead"
                )
            else:
                self._engine, self._owns_engine = Engine(engine.path, config=engine.config), True
            self._pid = os.getpid()
            return self._engine

    async def get(self, session_id: str) -> MnesisSession | None:
        """Return the session; None if it does not exist. Creates no database."""
        return await self._open(session_id, creates=False)

    async def get_or_create(self, session_id: str, *, parent_id: str | None = None) -> MnesisSession:
        """Return the session, creating it if necessary.

        A new session becomes a child of `parent_id` if that session exists.
        """
        session = await self._open(session_id, creates=True, parent_id=parent_id)
        assert session is not None, "created just now"  # noqa: S101  # an invariant, not input
        return session

    async def run(self, session_id: str, operation: Callable[[MnesisSession], Awaitable[T]]) -> T | None:
        """Call an operation with the session, and again if the session was closed in the meantime. Returns None if the
        session does not exist.
        """
        for attempt in range(2):
            session = await self.get(session_id)
            if session is None:
                return None
            try:
                return await operation(session)
            except (SessionNotFoundError, SessionClosedError):
                self.forget(session_id)
                if attempt or self._closed:
                    raise
        return None

    async def run_or_create(
        self, session_id: str, operation: Callable[[MnesisSession], Awaitable[T]], *, parent_id: str | None = None
    ) -> T:
        """Call an operation with the session, which is created if necessary, and again if it was erased or closed in
        the meantime.
        """
        try:
            return await operation(await self.get_or_create(session_id, parent_id=parent_id))
        except (SessionNotFoundError, SessionClosedError):
            if self._closed:
                raise
            self.forget(session_id)
            return await operation(await self.get_or_create(session_id, parent_id=parent_id))

    def configure(self, settings: SessionSettings) -> None:
        """Use other settings from now on. Sessions that are open with different ones are opened again at their next use."""
        if not self.settings.is_same(settings):
            self.settings = settings

    def lock_view(self, session_id: str) -> FairLock:
        """Return the lock on the view of a session, which all adapters of this process share.

        For adapters that make the view follow a state and then read the window: branches of one thread would otherwise change
        the view in between.
        """
        return self.engine.session_state(session_id).view_lock

    def forget(self, session_id: str) -> None:
        """Open the session again at its next use."""
        with self._lock:
            self._open_sessions.pop(session_id, None)

    async def purge(self, session_id: str) -> None:
        """Erase the session permanently. Does nothing if it does not exist."""
        self.forget(session_id)
        try:
            await self.engine.purge(session_id)
        except SessionNotFoundError:
            return

    async def close(self) -> None:
        """Wait for background work and close the sessions, and the engine if it belongs to the pool.

        Does nothing if already closed. Afterwards every call raises `SessionClosedError`.
        """
        self._closed = True
        engine = self.engine if self._engine is not None else None
        with self._lock:
            open_sessions = list(self._open_sessions.values())
            self._open_sessions.clear()
        for opened in open_sessions:
            await opened.session.close()
        if self._owns_engine and engine is not None:
            await engine.close()

    def __copy__(self) -> SessionPool:
        return self

    def __deepcopy__(self, memo: Any = None) -> SessionPool:
        # Frameworks copy objects that contain a pool before they change them. All copies continue the same sessions.
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        settings = replace(self.settings, config=self.settings.config or self.engine.config)
        if not _can_be_pickled(settings.llm):
            warnings.warn(
                f"llm= of type {type(settings.llm).__name__} cannot be pickled; without it, a restored copy writes"
                " summaries as extracts",
                stacklevel=2,
            )
            settings = replace(settings, llm=None)
        on_open = self._on_open if _can_be_pickled(self._on_open) else None
        return (_restore_pool, (database_key(self.engine), settings, self._max_sessions, on_open))

    async def _open(self, session_id: str, *, creates: bool, parent_id: str | None = None) -> MnesisSession | None:
        if self._closed:
            raise SessionClosedError(session_id)
        engine, settings = self.engine, self.settings
        opened = self._find(session_id)
        if opened is not None and opened.settings is settings:
            return opened.session
        async with self._opening_lock(session_id):
            opened = self._find(session_id)
            if opened is not None and opened.settings is settings:
                return opened.session
            session = await self._load_or_create(engine, settings, session_id, creates, parent_id)
            if opened is not None:
                await opened.session.close()
            if session is not None:
                self._remember(_OpenSession(session, settings))
                if self._on_open is not None:
                    self._on_open(session)
            return session

    async def _load_or_create(
        self, engine: Engine, settings: SessionSettings, session_id: str, creates: bool, parent_id: str | None
    ) -> MnesisSession | None:
        llm = settings.llm if settings.llm is not None else None if engine.has_own_llm else NoModel()
        options = {"config": settings.config, "engine": engine, "budget": settings.budget}
        if not creates and engine.path != IN_MEMORY and not await to_thread.run_sync(database_exists, engine.path):
            return None
        try:
            return await MnesisSession.load(session_id, llm=llm, model=settings.model, **options)  # type: ignore[arg-type]  # as written above
        except SessionNotFoundError:
            if not creates:
                return None
        parent = await self.get(parent_id) if parent_id is not None and parent_id != session_id else None
        return await MnesisSession.create(
            model=settings.model or settings.default_model,
            system_prompt=settings.system_prompt,
            session_id=session_id,
            parent_id=parent.id if parent is not None else None,
            llm=llm,
            **options,  # type: ignore[arg-type]  # as written above
        )

    def _find(self, session_id: str) -> _OpenSession | None:
        with self._lock:
            opened = self._open_sessions.get(session_id)
            if opened is not None:
                self._open_sessions.move_to_end(session_id)
            return opened

    def _remember(self, opened: _OpenSession) -> None:
        with self._lock:
            self._open_sessions[opened.session.id] = opened
            self._open_sessions.move_to_end(opened.session.id)
            while len(self._open_sessions) > self._max_sessions:
                self._open_sessions.popitem(last=False)

    def _opening_lock(self, session_id: str) -> FairLock:
        with self._lock:
            lock = self._opening.get(session_id)
            if lock is None:
                lock = self._opening[session_id] = FairLock()
            return lock


def _can_be_pickled(value: object) -> bool:
    try:
        pickle.dumps(value)
    except Exception:  # the pickling of a value is its own code and may raise any exception
        return False
    return True


def _restore_pool(
    key: str, settings: SessionSettings, max_sessions: int, on_open: Callable[[MnesisSession], None] | None
) -> SessionPool:
    """Return a pool for the database of a pickled one."""
    engine, is_new = find_engine(key, must_exist=False, config=settings.config)
    return SessionPool(engine=engine, owns_engine=is_new, settings=settings, max_sessions=max_sessions, on_open=on_open)


def validate_session_id(session_id: object) -> str:
    """Return a session id as a string. Integers and UUIDs become their usual text.

    Raises `ConfigurationError` for any other value and for an empty string.
    """
    if isinstance(session_id, int | uuid.UUID) and not isinstance(session_id, bool):
        return str(session_id)
    if not isinstance(session_id, str) or not session_id:
        raise ConfigurationError(f"a session id must be a non-empty string, an integer or a UUID, not {session_id!r}")
    return session_id
