"""The sessions behind a history, a memory or a middleware: opened once, shared, written through one class."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from langchain_core.messages import BaseMessage

from langchain_mnesis.append import store_messages
from langchain_mnesis.chat_model import client_for, model_name
from langchain_mnesis.messages.convert import from_record
from langchain_mnesis.messages.values import types_by_name
from mnesis.config import MnesisConfig
from mnesis.engine.engine import Engine
from mnesis.errors import ConfigurationError, MnesisStoreError, SessionClosedError, SessionNotFoundError
from mnesis.llm.no_model import NoModel
from mnesis.models.context import Window
from mnesis.models.message import Message
from mnesis.session.session import MnesisSession

T = TypeVar("T")
MIN_COMPACTION_TOKENS = 400
"""A smaller context is not compacted: a summary with its fence takes about a quarter of it."""
MAX_OPEN_SESSIONS = 1_000
"""How many sessions stay open; the least recently used one is dropped first. An open session holds a few small objects
and no file."""


class Sessions:
    """Sessions of one database under one set of settings.

    A session is created by its first write. An existing session keeps its model and system prompt, whichever API
    created it. A new session gets `model` and no system prompt, because chains and agents bring their own. Nothing is
    opened before the first use.
    """

    def __init__(
        self,
        *,
        engine: Engine | None = None,
        db_path: str | os.PathLike[str] | None = None,
        model: str | None = None,
        config: MnesisConfig | None = None,
        llm: object | None = None,
        types: Iterable[type] = (),
        keep_chunks: bool = False,
    ) -> None:
        if engine is not None and db_path is not None:
            raise ConfigurationError("pass engine= or db_path=, not both: an engine already has a database")
        self._shared_engine, self._db_path = engine, db_path
        self._own_engine: tuple[int, Engine] | None = None
        self.model = model if model is not None else model_name(llm)
        self.config = config
        self.types = types_by_name(types)
        self._keep_chunks = keep_chunks
        self._client = client_for(llm)
        self._lock = threading.Lock()
        self._open_sessions: OrderedDict[str, MnesisSession] = OrderedDict()
        self._failed_writes: dict[str, list[list[BaseMessage]]] = {}

    @property
    def engine(self) -> Engine:
        """The engine passed in, or one created for the database. A forked child process gets its own."""
        if self._shared_engine is not None:
            return self._shared_engine
        with self._lock:
            if self._own_engine is None or self._own_engine[0] != os.getpid() or self._own_engine[1].closed:
                self._open_sessions.clear()
                self._own_engine = (os.getpid(), Engine(self._db_path, config=self.config))
            return self._own_engine[1]

    @property
    def _summary_llm(self) -> object | None:
        """The client that writes summaries. Without a model, the session's own model is never called."""
        return self._client or (None if self.engine.has_own_llm else NoModel())

    async def find(self, session_id: str) -> MnesisSession | None:
        """Return the session, or None if it does not exist."""
        engine = self.engine
        session = self._open_sessions.get(session_id)
        if session is None:
            try:
                session = await MnesisSession.load(session_id, self.config, engine=engine, llm=self._summary_llm)
            except SessionNotFoundError:
                return None
        return self._remember(session)

    async def find_or_create(self, session_id: str, *, parent_id: str | None = None) -> MnesisSession:
        """Return the session, creating it if necessary.

        A new session becomes a child of `parent_id` if that session exists.
        """
        session = await self.find(session_id)
        if session is not None:
            return session
        parent = await self.find(parent_id) if parent_id is not None else None
        return self._remember(
            await MnesisSession.create(
                model=self.model,
                system_prompt="",
                session_id=session_id,
                parent_id=parent.id if parent is not None else None,
                config=self.config,
                engine=self.engine,
                llm=self._summary_llm,
            )
        )

    async def call(
        self,
        session_id: str,
        operation: Callable[[MnesisSession], Awaitable[T]],
        *,
        parent_id: str | None = None,
    ) -> T:
        """Call an operation with the session, creating it if necessary."""
        try:
            return await operation(await self.find_or_create(session_id, parent_id=parent_id))
        except (SessionNotFoundError, SessionClosedError):  # erased or closed by another caller in the meantime
            self._open_sessions.pop(session_id, None)
            return await operation(await self.find_or_create(session_id, parent_id=parent_id))

    async def compact(self, session_id: str, *, keep_tokens: int) -> None:
        """Fold everything older than the newest `keep_tokens` tokens. Does nothing if that cannot save tokens."""
        session = await self.find(session_id)
        if session is not None and session.context_tokens >= MIN_COMPACTION_TOKENS:
            await session.compact(keep_tokens=keep_tokens)

    async def add(
        self,
        session_id: str,
        messages: Sequence[BaseMessage],
        *,
        retry_failed_writes: bool = False,
        origin: str | None = None,
    ) -> list[Message]:
        """Store messages and return them as they are in the log.

        With `retry_failed_writes`, messages that the store rejects are also kept in memory and stored before the
        session's next read or write, which raises if the store rejects them again. Raises the store's errors in either
        case.
        """
        await self._flush_failed_writes(session_id)
        try:
            return await self._append(session_id, messages, origin)
        except MnesisStoreError:
            if retry_failed_writes:
                self._failed_writes.setdefault(session_id, []).append(list(messages))
            raise

    async def window(
        self,
        session_id: str,
        *,
        system_prompt: str = "",
        reserved_tokens: int = 0,
        budget_tokens: int | None = None,
        forms: Mapping[int, Message] | None = None,
    ) -> Window | None:
        """Return the window, compacting the session first if necessary; None if the session does not exist."""
        await self._flush_failed_writes(session_id)

        async def read(session: MnesisSession) -> Window:
            return await session.window(
                system_prompt=system_prompt or None,
                reserved_tokens=reserved_tokens,
                budget_tokens=budget_tokens,
                forms=forms,
            )

        return await self._call_existing(session_id, read)

    async def iter_log(self, session_id: str) -> AsyncIterator[Message]:
        """Iterate over every message of the log, including those that are hidden from the view."""
        await self._flush_failed_writes(session_id)
        session = await self.find(session_id)
        if session is not None:
            async for message in session.iter_messages():
                yield message

    async def clear(self, session_id: str) -> None:
        """Empty the view. The log keeps everything."""
        await self._flush_failed_writes(session_id)
        await self._call_existing(session_id, MnesisSession.clear_context)

    async def purge(self, session_id: str) -> None:
        """Erase the session permanently. Does nothing if it does not exist."""
        self._failed_writes.pop(session_id, None)
        self._open_sessions.pop(session_id, None)
        try:
            await self.engine.purge(session_id)
        except SessionNotFoundError:
            return

    def to_langchain(self, records: Iterable[Message]) -> list[BaseMessage]:
        """Convert messages of a window or log to LangChain messages."""
        return [
            message for record in records for message in from_record(record, self.types, keep_chunks=self._keep_chunks)
        ]

    async def _append(
        self, session_id: str, messages: Sequence[BaseMessage], origin: str | None = None
    ) -> list[Message]:
        try:
            return await store_messages(await self.find_or_create(session_id), messages, origin)
        except (SessionNotFoundError, SessionClosedError):  # erased or closed by another caller in the meantime
            self._open_sessions.pop(session_id, None)
            return await store_messages(await self.find_or_create(session_id), messages, origin)

    async def _call_existing(self, session_id: str, operation: Callable[[MnesisSession], Awaitable[T]]) -> T | None:
        session = await self.find(session_id)
        if session is None:
            return None
        try:
            return await operation(session)
        except (SessionNotFoundError, SessionClosedError):  # as above
            self._open_sessions.pop(session_id, None)
            session = await self.find(session_id)
            return await operation(session) if session is not None else None

    async def _flush_failed_writes(self, session_id: str) -> None:
        batches = self._failed_writes.pop(session_id, [])
        while batches:
            try:
                await self._append(session_id, batches[0])
            except BaseException:
                self._failed_writes[session_id] = batches + self._failed_writes.get(session_id, [])
                raise
            batches.pop(0)

    def _remember(self, session: MnesisSession) -> MnesisSession:
        with self._lock:
            self._open_sessions[session.id] = session
            self._open_sessions.move_to_end(session.id)
            if len(self._open_sessions) > MAX_OPEN_SESSIONS:
                self._open_sessions.popitem(last=False)
        return session


def validate_session_id(session_id: object) -> str:
    """Return a session id unchanged.

    Raises `ConfigurationError` if it is not a non-empty string.
    """
    if not isinstance(session_id, str) or not session_id:
        raise ConfigurationError(f"a session id must be a non-empty string, not {session_id!r}")
    return session_id
