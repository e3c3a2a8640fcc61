"""Find the session of an agent's run: by its state, its thread, or the agent whose tool started it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from langchain.tools import ToolRuntime

from langchain_mnesis.agent_call import SESSION_FIELD, SessionRef
from mnesis.ids import new_id

_enclosing_session: ContextVar[str | None] = ContextVar("mnesis_enclosing_session", default=None)
"""The session of the agent whose tool runs in this context."""


@contextmanager
def enclose_agents(runtime: ToolRuntime | None, state: Any) -> Iterator[None]:
    """Make the session of a tool call the parent of sessions that agents create during the call."""
    session_ref = find_session_ref(runtime, state)
    token = _enclosing_session.set(session_ref.session_id if session_ref is not None else None)
    try:
        yield
    finally:
        _enclosing_session.reset(token)


def find_session_id(runtime: ToolRuntime) -> str | None:
    """Return the session id of the run that calls the current tool; None if it has no session."""
    session_ref = find_session_ref(runtime, runtime.state)
    return session_ref.session_id if session_ref is not None else None


def new_session_ref() -> SessionRef:
    """Return a new session for a run without a thread."""
    session_id = new_id("run")
    return SessionRef(session_id, session_id, _enclosing_session.get(), is_new=True)


def find_session_ref(runtime: Any, state: Any) -> SessionRef | None:
    """Return the session of a run; None if the run has neither a session id in its state nor a thread.

    A session id in the state takes precedence over the thread and the agent's position in it.
    """
    session_id = (state or {}).get(SESSION_FIELD)
    if isinstance(session_id, str):
        return SessionRef(session_id, session_id)
    names = thread_names(runtime)
    if not names:
        return None
    return SessionRef(names[-1], names[-1], _enclosing_session.get() or (names[-2] if len(names) > 1 else None))


def named_session_ref(session_id: str, runtime: Any, state: Any) -> SessionRef:
    """Return the session that the user names, regardless of the thread."""
    names = thread_names(runtime)
    is_new = state.get(SESSION_FIELD) != session_id
    return SessionRef(session_id, names[-1] if names else None, _enclosing_session.get(), is_new=is_new)


def thread_names(runtime: Any) -> list[str]:
    """Return the session ids of the thread and of each nested agent down to this one; empty without a thread."""
    info = getattr(runtime, "execution_info", None)
    thread = getattr(info, "thread_id", None)
    if isinstance(thread, int | uuid.UUID):
        thread = str(thread)
    if not isinstance(thread, str) or not thread:
        return []
    # The last part of the namespace is the node itself. The parts before it are the enclosing agents.
    outer_nodes = str(getattr(info, "checkpoint_ns", "") or "").split("|")[:-1]
    return ["|".join([thread, *outer_nodes[:depth]]) for depth in range(len(outer_nodes) + 1)]
