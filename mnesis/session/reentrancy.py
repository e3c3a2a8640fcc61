"""Protection against user code that calls a session whose turn is waiting for that code."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mnesis.errors import MnesisError


@dataclass
class _UserCodeRun:
    """A period of a turn in which user code runs. `is_running` becomes false for tasks that outlive the code."""

    session_id: str
    is_running: bool = True


_user_code_runs: contextvars.ContextVar[tuple[_UserCodeRun, ...]] = contextvars.ContextVar(
    "mnesis_user_code", default=()
)


def refuse_reentrant_call(session_id: str) -> None:
    """Raise `MnesisError` if the caller is a tool or an `on_part` of a turn of this session: it would wait for itself."""
    if any(run.is_running and run.session_id == session_id for run in _user_code_runs.get()):
        raise MnesisError(
            f"a tool or on_part of session {session_id!r} called the session whose turn is waiting for it;"
            " use another session there"
        )


@contextmanager
def user_code(session_id: str) -> Iterator[None]:
    """Mark the block as user code that a turn of the session is waiting for."""
    run = _UserCodeRun(session_id)
    token = _user_code_runs.set((*_user_code_runs.get(), run))
    try:
        yield
    finally:
        run.is_running = False
        _user_code_runs.reset(token)
