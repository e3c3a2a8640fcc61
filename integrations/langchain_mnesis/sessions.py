"""The sessions behind a history, a memory or a middleware: opened once, shared, written through one door."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from langchain_core.messages import BaseMessage

from langchain_mnesis.append import hide, write
from langchain_mnesis.budgets import SMALLEST_TOKENS, budgeted
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
MAX_OPEN = 1_000
"""Sessions kept open at once; the longest unused one is let go. An open session is a few small objects, no file."""


class Sessions:
    """Sessions of one database under one set of settings.

    Sessions come into being at the first write. One that exists keeps its model and system prompt, whoever began it; a new
    one gets `model` and no system prompt (chains and agents bring their own). Nothing is opened before the first use.
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
            raise ConfigurationError("give engine= or db_path=, not both: an engine has its database")
        self._given, self._db_path = engine, db_path
        self._made: tuple[int, Engine] | None = None
        self.model = model if model is not None else model_name(llm)
        self.config = config
        self.types = types_by_name(types)
        self._keep_chunks = keep_chunks
        self._client = client_for(llm)
        self._guard = threading.Lock()
        self._open: OrderedDict[str, MnesisSession] = OrderedDict()
        self._unwritten: dict[str, list[list[BaseMessage]]] = {}

    @property
    def engine(self) -> Engine:
        """The engine given, or one made for the database; a forked child gets its own."""
        if self._given is not None:
            return self._given
        with self._guard:
            if self._made is None or self._made[0] != os.getpid() or self._made[1].closed:
                self._open.clear()
                self._made = (os.getpid(), Engine(self._db_path, config=self.config))
            return self._made[1]

    @property
    def _llm(self) -> object | None:
        """Who writes summaries. Without a model of its own an adapter never calls the one a session was begun with."""
        return self._client or (None if self.engine.has_own_llm else NoModel())

    async def existing(self, session_id: str) -> MnesisSession | None:
        """The session, or None if there is no such session yet."""
        engine = self.engine
        session = self._open.get(session_id)
        if session is None:
            try:
                session = await MnesisSession.load(session_id, self.config, engine=engine, llm=self._llm)
            except SessionNotFoundError:
                return None
        return self._kept(session)

    async def session(self, session_id: str, *, parent_id: str | None = None) -> MnesisSession:
        """The session, created if there is none, as a child of `parent_id` if there is such a session."""
        found = await self.existing(session_id)
        if found is not None:
            return found
        parent = await self.existing(parent_id) if parent_id is not None else None
        return self._kept(
            await MnesisSession.create(
                model=self.model,
                system_prompt="",
                session_id=session_id,
                parent_id=parent.id if parent is not None else None,
                config=self.config,
                engine=self.engine,
                llm=self._llm,
            )
        )

    async def compact(self, session_id: str, *, keep_tokens: int) -> None:
        """Fold now what is older than the newest `keep_tokens` tokens; nothing where that could not save anything."""
        session = await self.existing(session_id)
        if session is None or session.context_tokens < SMALLEST_TOKENS:
            return
        settings = budgeted(session.config, usable_tokens=session.context_tokens, keep_tokens=keep_tokens)
        # The same session under a budget that its context fills exactly: what does not fit a budget is folded.
        tight = await MnesisSession.load(session_id, settings, engine=self.engine, llm=self._llm)
        await tight.window()

    async def add(
        self,
        session_id: str,
        messages: Sequence[BaseMessage],
        *,
        keep_failed: bool = False,
        origin: str | None = None,
    ) -> list[Message]:
        """Store messages. What the store refuses is raised; with `keep_failed` it is also kept and stored before the
        session's next read or write, which raises if that fails again. Returns the messages as they stand in the log."""
        await self._write_late(session_id)
        try:
            return await self._added(session_id, messages, origin)
        except MnesisStoreError:
            if keep_failed:
                self._unwritten.setdefault(session_id, []).append(list(messages))
            raise

    async def window(
        self, session_id: str, *, system_prompt: str = "", reserved_tokens: int = 0, budget_tokens: int | None = None
    ) -> Window | None:
        """The active context, compacted first if it must be; None if there is no such session."""
        await self._write_late(session_id)

        async def read(session: MnesisSession) -> Window:
            return await session.window(
                system_prompt=system_prompt or None, reserved_tokens=reserved_tokens, budget_tokens=budget_tokens
            )

        return await self._on_existing(session_id, read)

    async def log(self, session_id: str) -> AsyncIterator[Message]:
        """Every message there is, also what an epoch or an edit took out of the view."""
        await self._write_late(session_id)
        session = await self.existing(session_id)
        if session is not None:
            async for message in session.iter_messages():
                yield message

    async def clear(self, session_id: str) -> None:
        """Begin a new epoch: an empty view; the log keeps everything."""
        await self._write_late(session_id)
        await self._on_existing(session_id, MnesisSession.start_epoch)

    async def hide(self, session_id: str, places: Sequence[int]) -> None:
        """Take messages out of the view, by their places in the log."""
        await self._on_existing(session_id, lambda session: hide(session, places))

    async def purge(self, session_id: str) -> None:
        """Erase the session for good; quiet if there is none."""
        self._unwritten.pop(session_id, None)
        self._open.pop(session_id, None)
        try:
            await self.engine.purge(session_id)
        except SessionNotFoundError:
            return

    def messages(self, records: Iterable[Message]) -> list[BaseMessage]:
        """The LangChain messages for messages of a window or log."""
        return [
            message for record in records for message in from_record(record, self.types, keep_chunks=self._keep_chunks)
        ]

    async def _added(
        self, session_id: str, messages: Sequence[BaseMessage], origin: str | None = None
    ) -> list[Message]:
        try:
            return await write(await self.session(session_id), messages, origin)
        except (SessionNotFoundError, SessionClosedError):  # erased or closed through another door meanwhile
            self._open.pop(session_id, None)
            return await write(await self.session(session_id), messages, origin)

    async def _on_existing(self, session_id: str, work: Callable[[MnesisSession], Awaitable[T]]) -> T | None:
        session = await self.existing(session_id)
        if session is None:
            return None
        try:
            return await work(session)
        except (SessionNotFoundError, SessionClosedError):  # as above
            self._open.pop(session_id, None)
            session = await self.existing(session_id)
            return await work(session) if session is not None else None

    async def _write_late(self, session_id: str) -> None:
        batches = self._unwritten.pop(session_id, [])
        while batches:
            try:
                await self._added(session_id, batches[0])
            except BaseException:
                self._unwritten[session_id] = batches + self._unwritten.get(session_id, [])
                raise
            batches.pop(0)

    def _kept(self, session: MnesisSession) -> MnesisSession:
        with self._guard:
            self._open[session.id] = session
            self._open.move_to_end(session.id)
            if len(self._open) > MAX_OPEN:
                self._open.popitem(last=False)
        return session


def checked_id(session_id: object) -> str:
    """A session id as it was given. Raises `ConfigurationError` unless it is a non-empty string."""
    if not isinstance(session_id, str) or not session_id:
        raise ConfigurationError(f"a session id is a non-empty string, not {session_id!r}")
    return session_id
