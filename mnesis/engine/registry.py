"""The registry of open databases: one store and one event bus per database and process."""

from __future__ import annotations

import os
import threading
import weakref

from mnesis.concurrency import FairLock
from mnesis.config import StoreConfig
from mnesis.engine.session_state import SessionRuntime
from mnesis.events.bus import EventBus
from mnesis.store.base import Store
from mnesis.store.memory import MemoryStore
from mnesis.store.sqlite import SqliteStore

MEMORY = ":memory:"


class _Shared:
    """The one store and bus of a database in this process, and how many engines use them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.bus = EventBus()
        self.users = 0
        self.runtimes: weakref.WeakValueDictionary[str, SessionRuntime] = weakref.WeakValueDictionary()
        self.lock = FairLock()


_shared: dict[tuple[int, str, bool], _Shared] = {}

_guard = threading.Lock()


def _acquire(path: str, config: StoreConfig) -> _Shared:
    """The shared parts of a database. The process id is part of the key: a forked child makes its own."""
    if path == MEMORY:
        shared = _Shared(MemoryStore())
        shared.users = 1
        return shared
    key = (os.getpid(), os.path.realpath(path), config.read_only)
    with _guard:
        shared = _shared.get(key) or _Shared(SqliteStore(path, config=config))
        _shared[key] = shared
        shared.users += 1
        return shared


def _release(shared: _Shared) -> bool:
    """Give the shared parts back; True if nobody uses them any more."""
    with _guard:
        shared.users -= 1
        if shared.users > 0:
            return False
        for key in [key for key, value in _shared.items() if value is shared]:
            del _shared[key]
        return True
