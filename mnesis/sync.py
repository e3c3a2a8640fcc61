"""`SyncSession`: `MnesisSession` without `await`, with one line per method.

Calls work from plain threads, within a running event loop (a notebook), and from several threads at once. They run on
the background loop of `mnesis.concurrency`; called from the thread of that loop, they raise, because they would wait
for themselves.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from mnesis.concurrency import run
from mnesis.config import MnesisConfig
from mnesis.display.displayable import Displayable
from mnesis.display.panel import Panel
from mnesis.engine.engine import Engine
from mnesis.events.bus import EventBus
from mnesis.files.handler import LargeFileHandler
from mnesis.models.context import Budget
from mnesis.models.session import ForkPoint
from mnesis.models.usage import TokenUsage
from mnesis.session.forked_turn import ForkedTurn
from mnesis.session.session import MnesisSession
from mnesis.session.turn_lock import within

__all__ = ["SyncSession", "run"]

P = ParamSpec("P")
R = TypeVar("R")


def _blocking(
    method: Callable[Concatenate[MnesisSession, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[SyncSession, P], R]:
    """Return a method with the same signature that runs an asynchronous method and waits for its result."""
    name = method.__name__

    @wraps(method)
    def call(self: SyncSession, /, *args: P.args, **kwargs: P.kwargs) -> R:
        coroutine: Coroutine[Any, Any, R] = getattr(self._session, name)(*args, **kwargs)
        return run(coroutine)

    return call


def _blocking_iterator(
    method: Callable[Concatenate[MnesisSession, P], AsyncIterator[R]],
) -> Callable[Concatenate[SyncSession, P], Iterator[R]]:
    """Return a method with the same signature that iterates over an asynchronous iterator."""
    name = method.__name__

    @wraps(method)
    def iterate(self: SyncSession, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[R]:
        items: AsyncIterator[R] = getattr(self._session, name)(*args, **kwargs)
        try:
            while (item := run(_next_item(items))) is not None:
                yield item
        finally:
            run(_close(items))

    return iterate


def _direct(method: Callable[Concatenate[MnesisSession, P], R]) -> Callable[Concatenate[SyncSession, P], R]:
    """Return a method with the same signature that calls a method that is not asynchronous."""
    name = method.__name__

    @wraps(method)
    def call(self: SyncSession, /, *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = getattr(self._session, name)(*args, **kwargs)
        return result

    return call


def _constructor(
    method: Callable[P, Coroutine[Any, Any, MnesisSession]],
) -> Callable[Concatenate[type[SyncSession], P], SyncSession]:
    """Return a class method with the same signature that wraps the session that a class method returns."""

    @wraps(_function_of(method))
    def call(cls: type[SyncSession], /, *args: P.args, **kwargs: P.kwargs) -> SyncSession:
        return cls(run(method(*args, **kwargs)))

    return call


def _forking(
    method: Callable[Concatenate[MnesisSession, P], Coroutine[Any, Any, MnesisSession]],
) -> Callable[Concatenate[SyncSession, P], SyncSession]:
    """Return a method with the same signature that wraps the fork that a method returns."""
    name = method.__name__

    @wraps(method)
    def call(self: SyncSession, /, *args: P.args, **kwargs: P.kwargs) -> SyncSession:
        return SyncSession(run(getattr(self._session, name)(*args, **kwargs)))

    return call


def _forked_turn(
    method: Callable[Concatenate[MnesisSession, P], Coroutine[Any, Any, ForkedTurn[MnesisSession]]],
) -> Callable[Concatenate[SyncSession, P], ForkedTurn[SyncSession]]:
    """Return a method with the same signature that wraps the fork of a turn."""
    name = method.__name__

    @wraps(method)
    def call(self: SyncSession, /, *args: P.args, **kwargs: P.kwargs) -> ForkedTurn[SyncSession]:
        turn: ForkedTurn[MnesisSession] = run(getattr(self._session, name)(*args, **kwargs))
        return ForkedTurn(SyncSession(turn.session), turn.result)

    return call


def _function_of(method: Any) -> Any:
    """Return the function of a bound class method; its signature includes `cls`."""
    return method.__func__


async def _next_item(items: AsyncIterator[R]) -> R | None:
    return await anext(items, None)


async def _close(items: Any) -> None:
    await items.aclose()


class SyncSession(Displayable):
    """`MnesisSession` for code without `await`: the same methods with the same meaning, which wait for their result.

    ```python
    with SyncSession.open(model="openai/gpt-4o", session_id="ada") as session:
        print(session.send("Hello").text)
    ```
    """

    def __init__(self, session: MnesisSession) -> None:
        self._session = session

    open = classmethod(_constructor(MnesisSession.open))
    create = classmethod(_constructor(MnesisSession.create))
    load = classmethod(_constructor(MnesisSession.load))

    send = _blocking(MnesisSession.send)
    stream = _blocking_iterator(MnesisSession.stream)
    retry = _blocking(MnesisSession.retry)
    stream_retry = _blocking_iterator(MnesisSession.stream_retry)
    prepare = _blocking(MnesisSession.prepare)
    fork = _forking(MnesisSession.fork)
    edit = _forked_turn(MnesisSession.edit)
    regenerate = _forked_turn(MnesisSession.regenerate)

    @contextmanager
    def exclusive(self, *, wait_seconds: float | None = None) -> Iterator[Self]:
        """See `MnesisSession.exclusive`. Calls of this thread within the block are part of it."""
        block = run(self._session._begin_exclusive(wait_seconds))
        if block is None:
            yield self
            return
        try:
            with within(block):
                yield self
        finally:
            run(block.end())

    record = _blocking(MnesisSession.record)
    append = _blocking(MnesisSession.append)
    window = _blocking(MnesisSession.window)
    is_compaction_due = _direct(MnesisSession.is_compaction_due)
    compact_if_due = _blocking(MnesisSession.compact_if_due)
    set_shown_forms = _blocking(MnesisSession.set_shown_forms)
    context_for_next_turn = _blocking(MnesisSession.context_for_next_turn)

    compact = _blocking(MnesisSession.compact)
    hide = _blocking(MnesisSession.hide)
    revise = _blocking(MnesisSession.revise)
    replace_covers = _blocking(MnesisSession.replace_covers)
    unfold = _blocking(MnesisSession.unfold)
    clear_context = _blocking(MnesisSession.clear_context)
    focus = _blocking(MnesisSession.focus)
    pin = _blocking(MnesisSession.pin)
    pin_fact = _blocking(MnesisSession.pin_fact)
    unpin = _blocking(MnesisSession.unpin)
    pins = _blocking(MnesisSession.pins)

    messages = _blocking(MnesisSession.messages)
    conversation_messages = _blocking(MnesisSession.conversation_messages)
    iter_messages = _blocking_iterator(MnesisSession.iter_messages)
    message = _blocking(MnesisSession.message)
    history = _direct(MnesisSession.history)
    compactions = _blocking(MnesisSession.compactions)
    interruptions = _blocking(MnesisSession.interruptions)
    verify = _blocking(MnesisSession.verify)
    summaries = _blocking(MnesisSession.summaries)
    dag = _blocking(MnesisSession.dag)
    timeline = _blocking(MnesisSession.timeline)

    search = _blocking(MnesisSession.search)
    grep = _blocking(MnesisSession.grep)
    expand = _blocking(MnesisSession.expand)
    describe = _blocking(MnesisSession.describe)
    read_file = _blocking(MnesisSession.read_file)
    search_file = _blocking(MnesisSession.search_file)
    file_path = _blocking(MnesisSession.file_path)
    file_content = _blocking(MnesisSession.file_content)
    recall_tools = _direct(MnesisSession.recall_tools)
    redact = _direct(MnesisSession.redact)
    file_tools = _direct(MnesisSession.file_tools)

    subscribe = _direct(MnesisSession.subscribe)
    subscribe_all = _direct(MnesisSession.subscribe_all)
    unsubscribe = _direct(MnesisSession.unsubscribe)
    inspect = _direct(MnesisSession.inspect)
    close = _blocking(MnesisSession.close)

    @property
    def id(self) -> str:
        return self._session.id

    @property
    def model(self) -> str:
        return self._session.model

    @property
    def system_prompt(self) -> str:
        return self._session.system_prompt

    @property
    def agent(self) -> str:
        return self._session.agent

    @property
    def parent_id(self) -> str | None:
        return self._session.parent_id

    @property
    def forked_from(self) -> ForkPoint | None:
        return self._session.forked_from

    @property
    def config(self) -> MnesisConfig:
        return self._session.config

    @property
    def engine(self) -> Engine:
        return self._session.engine

    @property
    def budget(self) -> Budget:
        return self._session.budget

    @property
    def context_tokens(self) -> int:
        return self._session.context_tokens

    @property
    def token_usage(self) -> TokenUsage:
        return self._session.token_usage

    @property
    def cost(self) -> float:
        return self._session.cost

    @property
    def compaction_in_progress(self) -> bool:
        return self._session.compaction_in_progress

    @property
    def files(self) -> LargeFileHandler:
        return self._session.files

    @property
    def event_bus(self) -> EventBus:
        return self._session.event_bus

    def __enter__(self) -> SyncSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._session).replace("MnesisSession", "SyncSession", 1)

    def _panel(self) -> Panel:
        return replace(self._session._panel(), title=f"SyncSession {self.id}")
