"""Functions that create histories for `RunnableWithMessageHistory`: synchronous, without I/O."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

from langchain_core.runnables import ConfigurableFieldSpec

from langchain_mnesis.history import MnesisChatMessageHistory, View
from langchain_mnesis.sessions import Sessions
from mnesis.config import DATABASE_VARIABLE, ConfigOrDict
from mnesis.engine.engine import Engine
from mnesis.errors import ConfigurationError
from mnesis.session.pool import SessionId, validate_session_id

_default_sessions: dict[tuple[int, str | None], Sessions] = {}


def config_specs(*keys: str) -> list[ConfigurableFieldSpec]:
    """Return the fields of `configurable` that identify a session, for use as `history_factory_config`."""
    return [
        ConfigurableFieldSpec(
            id=key,
            annotation=SessionId,
            name=key.replace("_", " ").capitalize(),
            description="Names the mnesis session." if len(keys) == 1 else "Part of the mnesis session's name.",
            default="",
            is_shared=True,
        )
        for key in keys
    ]


def join_session_id(values: Sequence[object]) -> str:
    """Return the session id that one or several values form.

    Several values are escaped and joined by "/", so that different lists of values never form the same id. Raises
    `ConfigurationError` if a value is not a non-empty string, an integer or a UUID.
    """
    session_ids = [validate_session_id(value) for value in values]
    return (
        session_ids[0] if len(session_ids) == 1 else "/".join(quote(session_id, safe="") for session_id in session_ids)
    )


class HistoryFactory:
    """A callable that creates histories on shared sessions. Pass its `config_specs` as `history_factory_config`."""

    def __init__(self, sessions: Sessions, keys: Sequence[str], view: View) -> None:
        if not keys or len(set(keys)) != len(keys) or not all(isinstance(k, str) and k.isidentifier() for k in keys):
            raise ConfigurationError(f"keys must be distinct names such as 'session_id' or 'thread_id', not {keys!r}")
        self.sessions = sessions
        self.keys = tuple(keys)
        self.config_specs = config_specs(*keys)
        self._view = view
        # RunnableWithMessageHistory reads the signature and requires exactly the parameters that it will pass.
        self.__signature__ = inspect.Signature(
            [inspect.Parameter(key, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=SessionId) for key in keys]
        )

    @property
    def engine(self) -> Engine:
        """The engine of the histories."""
        return self.sessions.engine

    def __call__(self, *values: Any, **named: Any) -> MnesisChatMessageHistory:
        """Create a history for one call."""
        arguments = self.__signature__.bind(*values, **named).arguments
        return MnesisChatMessageHistory.from_sessions(
            self.sessions, join_session_id([arguments[key] for key in self.keys]), view=self._view
        )


def history_factory(
    *,
    engine: Engine | None = None,
    db_path: str | os.PathLike[str] | None = None,
    keys: Sequence[str] = ("session_id",),
    view: View = "window",
    model: str | None = None,
    config: ConfigOrDict | None = None,
    llm: object | None = None,
    types: Iterable[type] = (),
    keep_chunks: bool = False,
) -> HistoryFactory:
    """Create a function that maps the values of `keys` to a history and has exactly these parameters.

    Pass it as `get_session_history`, and its `config_specs` as `history_factory_config` if `keys` is not
    `("session_id",)`. Each call creates a new history without I/O. LangChain writes in callbacks, where exceptions are
    only logged. Messages that cannot be stored there are kept and stored before the session's next read or write, which
    raises if the store fails again. The other arguments are those of `MnesisChatMessageHistory`.
    """
    sessions = Sessions(
        engine=engine, db_path=db_path, model=model, config=config, llm=llm, types=types, keep_chunks=keep_chunks
    )
    return HistoryFactory(sessions, keys, view)


def mnesis_history(session_id: SessionId) -> MnesisChatMessageHistory:
    """Create the history of a session in the default database.

    The default database is the path in `MNESIS_DB` at the time of the call, or the database of the configuration if it
    is not set. Pass this function to `RunnableWithMessageHistory` directly.
    """
    path = os.environ.get(DATABASE_VARIABLE) or None
    key = (os.getpid(), path)
    sessions = _default_sessions.get(key) or _default_sessions.setdefault(key, Sessions(db_path=path))
    return MnesisChatMessageHistory.from_sessions(sessions, session_id)
