"""`MnesisChatStore`: a chat store for LlamaIndex's own `Memory` (llama-index-core 0.14.25 and newer)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.storage.chat_store.base_db import AsyncDBChatStore, MessageStatus
from llama_index.memory.mnesis.events import forward_events
from llama_index.memory.mnesis.history import History, token_counter
from llama_index.memory.mnesis.messages import from_record
from pydantic import ConfigDict, PrivateAttr

from mnesis.concurrency import FairLock
from mnesis.engine.engine import Engine
from mnesis.engine.known_engines import database_key, find_engine
from mnesis.errors import ConfigurationError, StaleContextError
from mnesis.models.context import Budget
from mnesis.models.message import Message
from mnesis.session.pool import SessionPool, SessionSettings

ARCHIVE_KEY = "llama_index_archive"
UNLIMITED_TOKENS = 2**40
"""`Memory` limits its queue itself, so its sessions are never compacted."""
MAX_ATTEMPTS = 20
"""Attempts to change the queue while other writers store messages. Each one reads the queue again."""


class MnesisChatStore(AsyncDBChatStore):
    """A chat store whose keys are session ids:
    `Memory.from_defaults(chat_store=MnesisChatStore.from_defaults(db_path=…))`.

    Nothing is erased: archived and deleted messages leave the queue and stay in the session's log.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    database: str = ""
    _attached_pool: SessionPool | None = PrivateAttr(default=None)
    _lock: FairLock = PrivateAttr(default_factory=FairLock)
    _histories: dict[str, History] = PrivateAttr(default_factory=dict)

    @classmethod
    def class_name(cls) -> str:
        """Return the class name that LlamaIndex stores."""
        return "MnesisChatStore"

    @classmethod
    def from_defaults(
        cls, *, engine: Engine | None = None, db_path: str | os.PathLike[str] | None = None
    ) -> MnesisChatStore:
        """Create a chat store on an engine, or on the database at `db_path` (default: `~/.mnesis/sessions.db`)."""
        if engine is not None and db_path is not None:
            raise ConfigurationError("pass engine= or db_path=, not both: an engine already has a database")
        store_engine = engine or Engine(db_path)
        store = cls(database=database_key(store_engine))
        store._attach(store_engine, owns_engine=engine is None)
        return store

    async def get_messages(
        self,
        key: str,
        status: MessageStatus | None = MessageStatus.ACTIVE,
        limit: int | None = None,
        offset: int | None = None,
    ) -> list[ChatMessage]:
        """Return messages of a session in order. With `status=None`, return active and archived messages."""
        messages = [message for record in await self._read_records(key, status) for message in from_record(record)]
        start = offset or 0
        return messages[start : None if limit is None else start + limit]

    async def count_messages(self, key: str, status: MessageStatus | None = MessageStatus.ACTIVE) -> int:
        """Return the number of messages that `get_messages` returns."""
        return len(await self.get_messages(key, status))

    async def add_message(self, key: str, message: ChatMessage, status: MessageStatus = MessageStatus.ACTIVE) -> None:
        """Store a message."""
        await self.add_messages(key, [message], status)

    async def add_messages(
        self, key: str, messages: list[ChatMessage], status: MessageStatus = MessageStatus.ACTIVE
    ) -> None:
        """Store messages in one transaction."""
        history = await self._open_history(key)
        stored = await history.add(messages)
        if status == MessageStatus.ARCHIVED and stored:
            async with self._lock:
                await history.session.hide(stored[0].seq, stored[-1].seq)
                archived = [*await self._archived_seqs(history), *(record.seq for record in stored)]
                await self._store_archived_seqs(history, archived)

    async def set_messages(
        self, key: str, messages: list[ChatMessage], status: MessageStatus = MessageStatus.ACTIVE
    ) -> None:
        """Replace the messages of a session. Stored messages are not stored again; the log keeps all others."""
        if status == MessageStatus.ACTIVE:
            history = await self._open_history(key)
            await history.replace(messages, token_limit=UNLIMITED_TOKENS, placement="system")
            return
        await self.delete_messages(key, status)
        await self.add_messages(key, messages, status)

    async def delete_message(self, key: str, idx: int) -> ChatMessage | None:
        """Remove a message from the queue and return it; None if there is no message at `idx`."""
        active = await self._read_records(key, MessageStatus.ACTIVE)
        if not -len(active) <= idx < len(active):
            return None
        history = await self._open_history(key)
        await history.session.hide(active[idx].seq, active[idx].seq)
        return from_record(active[idx])[0]

    async def delete_messages(self, key: str, status: MessageStatus | None = None) -> None:
        """Remove all messages from the queue. With `status=None`, remove archived messages too."""
        history = await self._open_history(key)
        if status != MessageStatus.ARCHIVED:
            await history.replace([], token_limit=UNLIMITED_TOKENS, placement="system")
        if status != MessageStatus.ACTIVE:
            await self._store_archived_seqs(history, [])

    async def delete_oldest_messages(self, key: str, n: int) -> list[ChatMessage]:
        """Remove the oldest `n` messages from the queue and return them."""
        async with self._lock:
            _, removed = await self._hide_oldest(key, n)
        return removed

    async def archive_oldest_messages(self, key: str, n: int) -> list[ChatMessage]:
        """Move the oldest `n` messages from the queue to the archive and return them."""
        async with self._lock:
            seqs, archived = await self._hide_oldest(key, n)
            history = await self._open_history(key)
            await self._store_archived_seqs(history, [*await self._archived_seqs(history), *seqs])
        return archived

    async def get_keys(self) -> list[str]:
        """Return the ids of all sessions of the database."""
        engine, keys, cursor = self._pool.engine, [], None
        while True:
            page = await engine.sessions(limit=500, cursor=cursor)
            keys += [record.id for record in page.sessions]
            if page.next_cursor is None:
                return keys
            cursor = page.next_cursor

    async def aclose(self) -> None:
        """Close the sessions, and the engine if it was created for this store."""
        self._histories.clear()
        await self._pool.close()

    @property
    def _pool(self) -> SessionPool:
        if self._attached_pool is None:
            engine, is_new = find_engine(self.database, must_exist=False) if self.database else (Engine(), True)
            self._attach(engine, owns_engine=is_new)
        assert self._attached_pool is not None, "attached just now"  # noqa: S101  # an invariant, not input
        return self._attached_pool

    def _attach(self, engine: Engine, *, owns_engine: bool) -> None:
        settings = SessionSettings(budget=Budget.for_tokens(UNLIMITED_TOKENS, includes_system_prompt=False))
        self._attached_pool = SessionPool(
            engine=engine, owns_engine=owns_engine, settings=settings, on_open=forward_events
        )

    async def _open_history(self, key: str) -> History:
        session = await self._pool.get_or_create(key)
        history = self._histories.get(key)
        if history is None or history.session is not session:
            history = self._histories[key] = History(session, await token_counter(None))
        return history

    async def _read_records(self, key: str, status: MessageStatus | None) -> list[Message]:
        history = await self._open_history(key)
        active = [] if status == MessageStatus.ARCHIVED else await history.records()
        if status == MessageStatus.ACTIVE:
            return active
        archived_seqs = set(await self._archived_seqs(history))
        archived = [record async for record in history.session.iter_messages() if record.seq in archived_seqs]
        return sorted([*archived, *active], key=lambda record: record.seq)

    async def _hide_oldest(self, key: str, n: int) -> tuple[list[int], list[ChatMessage]]:
        """Hide the oldest `n` messages and return their seqs and the messages."""
        history = await self._open_history(key)
        for _ in range(MAX_ATTEMPTS):
            last_seq = (await history.session.engine.store.session(key)).last_seq
            oldest_records = (await history.records())[: max(n, 0)]
            if not oldest_records:
                return [], []
            try:
                await history.session.revise(
                    hide=[(oldest_records[0].seq, oldest_records[-1].seq)], messages=[], last_seq=last_seq
                )
            except StaleContextError:
                continue
            messages = [message for record in oldest_records for message in from_record(record)]
            return [record.seq for record in oldest_records], messages
        raise StaleContextError(
            f"session {key!r} changed during each of {MAX_ATTEMPTS} attempts to hide its oldest messages; try again when"
            " fewer writers use it"
        )

    async def _archived_seqs(self, history: History) -> Sequence[int]:
        record = await history.session.engine.store.session(history.session.id)
        seqs: Any = record.metadata.get(ARCHIVE_KEY, [])
        return list(seqs)

    async def _store_archived_seqs(self, history: History, seqs: Sequence[int]) -> None:
        store, session_id = history.session.engine.store, history.session.id
        record = await store.session(session_id)
        await store.update_session(session_id, metadata={**record.metadata, ARCHIVE_KEY: sorted(set(seqs))})
