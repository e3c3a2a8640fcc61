"""Names of the engines of this process, with which a stored reference finds its database again."""

from __future__ import annotations

import os
import threading
import uuid
import weakref

from mnesis.concurrency import is_loop_running
from mnesis.config import ConfigOrDict, MnesisConfig
from mnesis.database_url import is_database_url
from mnesis.engine.engine import Engine
from mnesis.engine.registry import IN_MEMORY, absolute_path
from mnesis.errors import ConfigurationError

_engines_by_key: weakref.WeakValueDictionary[str, Engine] = weakref.WeakValueDictionary()
_keys_by_engine: weakref.WeakKeyDictionary[Engine, str] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def database_key(engine: Engine) -> str:
    """Return the key of an engine's database: its path, or its URL without a password.

    For a database in memory it is a name that is valid in this process.
    """
    with _lock:
        key = _keys_by_engine.get(engine)
        if key is None:
            key = f"{IN_MEMORY}{uuid.uuid4().hex}" if engine.path == IN_MEMORY else absolute_path(engine.path)
            _keys_by_engine[engine] = key
        if key not in _engines_by_key:
            _engines_by_key[key] = engine
        return key


def find_engine(key: str, *, must_exist: bool, config: ConfigOrDict | None = None) -> tuple[Engine, bool]:
    """Return the engine for a database key, and whether the engine is new.

    An open engine of this process is reused; otherwise a new one is created for the database file, with `config`. With
    `must_exist`, only the default database may be a file that does not exist yet, unless the caller runs in an event
    loop. Raises `ConfigurationError` for any other missing file, and for a database in memory whose engine no longer
    exists.
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
    default = absolute_path(MnesisConfig().store.resolve_path())
    # An event loop must not access the disk. In an event loop, the first use of a missing session raises the error.
    if must_exist and key != default and not is_loop_running() and not _exists(key):
        raise ConfigurationError(
            f"the database {key!r} does not exist, and a stored memory can only be restored from an existing database; pass"
            " engine= to from_dict() if the database has moved"
        )
    return Engine(key, config=config), True


def _exists(key: str) -> bool:
    return is_database_url(key) or os.path.isfile(key)
