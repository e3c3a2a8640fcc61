"""The registry of open databases: one store and one event bus per database and process."""

from __future__ import annotations

import os
import threading
import weakref

from mnesis.concurrency import FairLock
from mnesis.config import StoreConfig
from mnesis.database_url import DatabaseURL, is_database_url
from mnesis.engine.follow import Publisher
from mnesis.engine.session_state import SessionState
from mnesis.errors import ConfigurationError
from mnesis.events.bus import EventBus
from mnesis.llm.breaker import CircuitBreakers
from mnesis.store.base import Store

IN_MEMORY = ":memory:"
"""The path of a database that is kept in memory, for one engine only."""


class SharedDatabase:
    """The store, event bus, publisher, circuit breakers and session states of a database, shared by all engines of the
    process that use it.
    """

    def __init__(self, store: Store, config: StoreConfig, path: str = IN_MEMORY) -> None:
        self.path = path
        self.store = store
        self.config = config
        self.bus = EventBus()
        self.publisher = Publisher(store, self.bus)
        self.breakers = CircuitBreakers()
        self.refcount = 0
        self.is_identified = False
        self.lock = FairLock()
        self._session_states: weakref.WeakValueDictionary[str, SessionState] = weakref.WeakValueDictionary()

    def session_state(self, session_id: str) -> SessionState:
        """Return the state of a session, a new one if no object of the session is open."""
        with _registry_lock:
            state = self._session_states.get(session_id)
            if state is None:
                state = self._session_states[session_id] = SessionState(breakers=self.breakers)
            return state


_CONNECTION_SETTINGS = ("wal_mode", "connection_timeout", "durability", "max_connections", "encryption_key")
"""The fields of `StoreConfig` that all users of a connection share. Read-only engines have a separate connection."""

_DatabaseKey = tuple[int, str, bool]
_databases: dict[_DatabaseKey, SharedDatabase] = {}
"""The databases by process, by path as given, and by whether they are read-only."""
_databases_by_file: dict[_DatabaseKey, SharedDatabase] = {}
"""The databases that were opened, by the file that their path leads to."""

_registry_lock = threading.Lock()


def acquire_shared(path: str, config: StoreConfig) -> SharedDatabase:
    """Return the shared database at `path` and count the caller as a user. A forked child gets a separate database
    object. Does no I/O.

    Raises `ConfigurationError` if the database is open in this process with other settings.
    """
    if path == IN_MEMORY:
        from mnesis.store.memory import MemoryStore

        memory = SharedDatabase(MemoryStore(), config)
        memory.refcount = 1
        memory.is_identified = True
        return memory
    key = (os.getpid(), absolute_path(path), config.read_only)
    with _registry_lock:
        database = _databases.get(key)
        if database is None:
            database = _databases[key] = _create_shared(key[1], config)
        _refuse_other_settings(path, database.config, config)
        database.refcount += 1
        return database


def identify_shared(database: SharedDatabase) -> SharedDatabase:
    """Return the database of the file that the path leads to, and count the caller as a user of that one only.

    Two paths may lead to one file, through links. The subscribers of `database` move to the bus of the result. Follows
    links, which may block, so call it in a thread. Raises `ConfigurationError` if that database is open with other
    settings.
    """
    key = (os.getpid(), os.path.realpath(database.path), database.config.read_only)
    with _registry_lock:
        same_file = _databases_by_file.setdefault(key, database)
        if same_file is not database:
            _refuse_other_settings(database.path, same_file.config, database.config)
            for path_key in [each for each, value in _databases.items() if value is database]:
                _databases[path_key] = same_file
            same_file.refcount += 1
            database.refcount -= 1
            database.bus.move_to(same_file.bus)
        same_file.is_identified = True
        return same_file


def absolute_path(path: str) -> str:
    """Return an absolute, normalized path, and the URL of a server unchanged. Unlike `os.path.abspath`, it may be
    called in an event loop under checkers.

    `os.getcwdb` is the same system call as `os.getcwd`, which such checkers report although it reads no disk.
    """
    if is_database_url(path):
        return DatabaseURL(path)
    return os.path.normpath(os.path.join(os.fsdecode(os.getcwdb()), path))


def _create_shared(path: str, config: StoreConfig) -> SharedDatabase:
    """Return a new shared database. Raises `ConfigurationError` if the libraries for a URL are not installed."""
    if not isinstance(path, DatabaseURL):
        from mnesis.store.sqlite import SqliteStore

        return SharedDatabase(SqliteStore(path, config=config), config, path)
    from mnesis.store.postgres import PostgresStore

    database = SharedDatabase(PostgresStore(path, config), config, path)
    database.is_identified = True  # no link leads to a server
    return database


def _refuse_other_settings(path: str, current: StoreConfig, requested: StoreConfig) -> None:
    for name in _CONNECTION_SETTINGS:
        current_value, requested_value = getattr(current, name), getattr(requested, name)
        if current_value != requested_value:
            raise ConfigurationError(
                f"{path} is open in this process with store.{name}={current_value!r}, and another engine requests"
                f" store.{name}={requested_value!r}; use the same settings, share one engine, or close the first engine"
            )


def release_shared(database: SharedDatabase) -> bool:
    """Remove the caller as a user. Returns whether it was the last one, so that the store can be closed."""
    with _registry_lock:
        database.refcount -= 1
        if database.refcount > 0:
            return False
        for databases in (_databases, _databases_by_file):
            for key in [key for key, value in databases.items() if value is database]:
                del databases[key]
        return True
