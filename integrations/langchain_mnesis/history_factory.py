"""Functions that make histories, as `RunnableWithMessageHistory` takes them: synchronous, without I/O."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

from langchain_core.runnables import ConfigurableFieldSpec

from langchain_mnesis.history import MnesisChatMessageHistory, View
from langchain_mnesis.sessions import Sessions, checked_id
from mnesis.config import MnesisConfig
from mnesis.engine.engine import Engine
from mnesis.errors import ConfigurationError

DATABASE_VARIABLE = "MNESIS_DB"
_defaults: dict[tuple[int, str | None], Sessions] = {}


def config_specs(*keys: str) -> list[ConfigurableFieldSpec]:
    """The fields of `configurable` that name a session, for `history_factory_config` and the like."""
    return [
        ConfigurableFieldSpec(
            id=key,
            annotation=str,
            name=key.replace("_", " ").capitalize(),
            description="Names the mnesis session." if len(keys) == 1 else "Part of the mnesis session's name.",
            default="",
            is_shared=True,
        )
        for key in keys
    ]


def session_name(values: Sequence[object]) -> str:
    """The session that one value, or several together, name. Several are joined by "/", each escaped, so that no two lists
    of values give the same name. Raises `ConfigurationError` for anything but non-empty strings."""
    names = [checked_id(value) for value in values]
    return names[0] if len(names) == 1 else "/".join(quote(name, safe="") for name in names)


class HistoryFactory:
    """Makes histories over shared sessions. `config_specs` are the fields to give as `history_factory_config`."""

    def __init__(self, sessions: Sessions, keys: Sequence[str], view: View) -> None:
        if not keys or len(set(keys)) != len(keys) or not all(isinstance(k, str) and k.isidentifier() for k in keys):
            raise ConfigurationError(f"keys are distinct names such as 'session_id' or 'thread_id', not {keys!r}")
        self.sessions = sessions
        self.keys = tuple(keys)
        self.config_specs = config_specs(*keys)
        self._view = view
        # Read by RunnableWithMessageHistory, which wants exactly the parameters it is going to fill.
        self.__signature__ = inspect.Signature(
            [inspect.Parameter(key, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=str) for key in keys]
        )

    @property
    def engine(self) -> Engine:
        """The engine of the histories."""
        return self.sessions.engine

    def __call__(self, *values: Any, **named: Any) -> MnesisChatMessageHistory:
        """A history of its own for one call."""
        given = self.__signature__.bind(*values, **named).arguments
        return MnesisChatMessageHistory.over(
            self.sessions, session_name([given[key] for key in self.keys]), view=self._view
        )


def history_factory(
    *,
    engine: Engine | None = None,
    db_path: str | os.PathLike[str] | None = None,
    keys: Sequence[str] = ("session_id",),
    view: View = "window",
    model: str | None = None,
    config: MnesisConfig | None = None,
    llm: object | None = None,
    types: Iterable[type] = (),
    keep_chunks: bool = False,
) -> HistoryFactory:
    """A function from the values of `keys` to a history, with exactly these parameters.

    Give it as `get_session_history`, and its `config_specs` as `history_factory_config` where `keys` is not
    `("session_id",)`. Each call makes a new view without any I/O; what a history cannot store inside a callback, where an
    exception is only logged, is kept and stored before the session's next read or write, which raises if it still fails.
    The other arguments are those of `MnesisChatMessageHistory`.
    """
    sessions = Sessions(
        engine=engine, db_path=db_path, model=model, config=config, llm=llm, types=types, keep_chunks=keep_chunks
    )
    return HistoryFactory(sessions, keys, view)


def mnesis_history(session_id: str) -> MnesisChatMessageHistory:
    """The history of a session in the default database: `MNESIS_DB` if it is set now, else that of the configuration.

    Give it to `RunnableWithMessageHistory` as it stands.
    """
    path = os.environ.get(DATABASE_VARIABLE) or None
    key = (os.getpid(), path)
    sessions = _defaults.get(key) or _defaults.setdefault(key, Sessions(db_path=path))
    return MnesisChatMessageHistory.over(sessions, session_id)
