"""The sessions behind a history, a memory or a middleware: opened once, shared, written through one class."""

from __future__ import annotations

import os
import warnings
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage

from langchain_mnesis.append import count_cleared, store_messages
from langchain_mnesis.chat_model import client_for, model_name
from langchain_mnesis.messages.convert import from_record, payload_of
from langchain_mnesis.messages.values import changed_types, types_by_name
from mnesis.config import ConfigOrDict
from mnesis.engine.engine import Engine
from mnesis.errors import MnesisStoreError
from mnesis.models.context import Window
from mnesis.models.message import Message
from mnesis.session.conversion_cache import ConversionCache
from mnesis.session.pool import SessionPool, SessionSettings
from mnesis.session.session import MnesisSession

MIN_COMPACTION_TOKENS = 400
"""A smaller context is not compacted: a summary with its fence takes about a quarter of it."""


class Sessions:
    """Sessions of one database under one set of settings.

    A session is created by its first write. `model` replaces the model of an existing session; None keeps it. A new
    session gets `model`, or that of `llm`, and no system prompt, because chains and agents bring their own. Nothing is
    opened before the first use.
    """

    def __init__(
        self,
        *,
        engine: Engine | None = None,
        db_path: str | os.PathLike[str] | None = None,
        model: str | None = None,
        config: ConfigOrDict | None = None,
        llm: object | None = None,
        types: Iterable[type] = (),
        keep_chunks: bool = False,
    ) -> None:
        settings = SessionSettings(model=model, default_model=model_name(llm), config=config, llm=client_for(llm))
        self.pool = SessionPool(engine=engine, db_path=db_path, settings=settings)
        self.types = types_by_name(types)
        self._keep_chunks = keep_chunks
        self.converted: ConversionCache[BaseMessage] = ConversionCache()
        self._warned_types: set[str] = set()
        self._failed_writes: dict[str, list[list[BaseMessage]]] = {}

    @property
    def engine(self) -> Engine:
        """The engine passed in, or one created for the database. A forked child process gets its own."""
        return self.pool.engine

    def __copy__(self) -> Sessions:
        return self

    def __deepcopy__(self, memo: Any = None) -> Sessions:
        # A copied list of failed writes would be stored twice.
        return self

    async def compact(self, session_id: str, *, keep_tokens: int) -> None:
        """Fold everything older than the newest `keep_tokens` tokens. Does nothing if that cannot save tokens."""
        session = await self.pool.get(session_id)
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
        """Store messages and return their records in the log.

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
        """Return the window, compacting the session first if necessary; None if the session does not exist.

        Its messages are shared with other readers: convert them with `window_to_langchain()`.
        """
        await self._flush_failed_writes(session_id)

        async def read(session: MnesisSession) -> Window:
            return await session.window(
                system_prompt=system_prompt or None,
                reserved_tokens=reserved_tokens,
                budget_tokens=budget_tokens,
                forms=forms,
                shared=True,
            )

        return await self.pool.run(session_id, read)

    async def iter_log(self, session_id: str) -> AsyncIterator[Message]:
        """Iterate over every message of the log, including those that are hidden from the view."""
        await self._flush_failed_writes(session_id)
        session = await self.pool.get(session_id)
        if session is not None:
            async for message in session.iter_messages():
                yield message

    async def read_since_clear(self, session_id: str) -> list[Message]:
        """Return every message since the last `clear()`, including those that are folded, replaced or removed."""
        records = [record async for record in self.iter_log(session_id)]
        session = await self.pool.get(session_id)
        if session is None:
            return []
        covers = (await session.engine.store.active_context(session_id)).covers
        return records[count_cleared(records, covers) :]

    async def clear(self, session_id: str) -> None:
        """Empty the view. The log keeps everything."""
        await self._flush_failed_writes(session_id)
        await self.pool.run(session_id, MnesisSession.clear_context)

    async def purge(self, session_id: str) -> None:
        """Erase the session permanently. Does nothing if it does not exist."""
        self._failed_writes.pop(session_id, None)
        await self.pool.purge(session_id)

    def to_langchain(self, records: Iterable[Message]) -> list[BaseMessage]:
        """Convert messages of a window or log to LangChain messages."""
        return [
            message for record in records for message in from_record(record, self.types, keep_chunks=self._keep_chunks)
        ]

    def window_to_langchain(self, session_id: str, records: Iterable[Message]) -> list[BaseMessage]:
        """Convert messages of a session's window to LangChain messages. Messages of an earlier window are copied
        instead of converted again.
        """
        return [message for messages in self.convert_window(session_id, records) for message in messages]

    def convert_window(self, session_id: str, records: Iterable[Message]) -> list[list[BaseMessage]]:
        """Return what each message of a session's window becomes, like `window_to_langchain`."""

        def convert(group: Sequence[Message]) -> list[BaseMessage]:
            return self.to_langchain(group)

        return self.converted.read(session_id, ((record,) for record in records), convert)

    async def _append(
        self, session_id: str, messages: Sequence[BaseMessage], origin: str | None = None
    ) -> list[Message]:
        stored = await self.pool.run_or_create(session_id, lambda session: store_messages(session, messages, origin))
        self._warn_of_changes(stored)
        return stored

    def _warn_of_changes(self, stored: Iterable[Message]) -> None:
        """Warn once about each class whose objects come back changed."""
        names = {name for record in stored for name in changed_types(payload_of(record), self.types)}
        for name in sorted(names - self._warned_types):
            self._warned_types.add(name)
            warnings.warn(
                f"objects of {name.replace(':', '.')} in messages come back as plain values or descriptions; to get them"
                f" back, pass types=[{name.rpartition(':')[2]}] if it is a pydantic model, a dataclass or an enum",
                stacklevel=2,
            )

    async def _flush_failed_writes(self, session_id: str) -> None:
        batches = self._failed_writes.pop(session_id, [])
        while batches:
            try:
                await self._append(session_id, batches[0])
            except BaseException:
                self._failed_writes[session_id] = batches + self._failed_writes.get(session_id, [])
                raise
            batches.pop(0)
