"""`MnesisChatStore`: the store under LlamaIndex's own `Memory`, for those who keep that (llama-index-core 0.14.25 and newer)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.storage.chat_store.base_db import AsyncDBChatStore, MessageStatus
from llama_index.memory.mnesis.attachment import Attachment, engine_named, name_of
from llama_index.memory.mnesis.history import History, counter
from llama_index.memory.mnesis.messages import from_record
from pydantic import ConfigDict, PrivateAttr

from mnesis.concurrency import FairLock
from mnesis.engine.engine import Engine
from mnesis.errors import ConfigurationError, StaleContextError
from mnesis.models.message import Message

KEY = "llama_index_archive"
UNLIMITED_TOKENS = 2**40
"""`Memory` keeps its queue short by itself; the sessions behind it are never compacted."""
_TRIES = 20


class MnesisChatStore(AsyncDBChatStore):
    """Sessions as chat store keys: `Memory.from_defaults(chat_store=MnesisChatStore.from_defaults(db_path=…))`.

    Nothing is ever erased: archived and deleted messages leave the queue and stay in the session's log.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    database: str = ""
    _engine: Engine | None = PrivateAttr(default=None)
    _owns_engine: bool = PrivateAttr(default=False)
    _lock: FairLock = PrivateAttr(default_factory=FairLock)
    _open: dict[str, tuple[Attachment, History]] = PrivateAttr(default_factory=dict)

    @classmethod
    def class_name(cls) -> str:
        """The name LlamaIndex stores with it."""
        return "MnesisChatStore"

    @classmethod
    def from_defaults(
        cls, *, engine: Engine | None = None, db_path: str | os.PathLike[str] | None = None
    ) -> MnesisChatStore:
        """A store over an engine, or over the database at `db_path` (`~/.mnesis/sessions.db` by default)."""
        if engine is not None and db_path is not None:
            raise ConfigurationError("give engine= or db_path=, not both: an engine has its database")
        used = engine or Engine(db_path)
        made = cls(database=name_of(used))
        made._engine, made._owns_engine = used, engine is None
        return made

    async def get_messages(
        self,
        key: str,
        status: MessageStatus | None = MessageStatus.ACTIVE,
        limit: int | None = None,
        offset: int | None = None,
    ) -> list[ChatMessage]:
        """Messages of a session in order; `status` None: active and archived ones."""
        found = [made for record in await self._records(key, status) for made in from_record(record)]
        start = offset or 0
        return found[start : None if limit is None else start + limit]

    async def count_messages(self, key: str, status: MessageStatus | None = MessageStatus.ACTIVE) -> int:
        """How many messages `get_messages` would return."""
        return len(await self.get_messages(key, status))

    async def add_message(self, key: str, message: ChatMessage, status: MessageStatus = MessageStatus.ACTIVE) -> None:
        """Store a message."""
        await self.add_messages(key, [message], status)

    async def add_messages(
        self, key: str, messages: list[ChatMessage], status: MessageStatus = MessageStatus.ACTIVE
    ) -> None:
        """Store messages in one transaction."""
        history = await self._history(key)
        stored = await history.add(messages)
        if status == MessageStatus.ARCHIVED and stored:
            async with self._lock:
                await history.session.hide(stored[0].seq, stored[-1].seq)
                archived = [*await self._archived(history), *(record.seq for record in stored)]
                await self._set_archived(history, archived)

    async def set_messages(
        self, key: str, messages: list[ChatMessage], status: MessageStatus = MessageStatus.ACTIVE
    ) -> None:
        """Make these the messages of a session; what they repeat is not stored again, the log keeps the others."""
        if status == MessageStatus.ACTIVE:
            history = await self._history(key)
            await history.replace(messages, token_limit=UNLIMITED_TOKENS, insert="system")
            return
        await self.delete_messages(key, status)
        await self.add_messages(key, messages, status)

    async def delete_message(self, key: str, idx: int) -> ChatMessage | None:
        """Take one message out of the queue; None if there is none at `idx`."""
        active = await self._records(key, MessageStatus.ACTIVE)
        if not -len(active) <= idx < len(active):
            return None
        history = await self._history(key)
        await history.session.hide(active[idx].seq, active[idx].seq)
        return from_record(active[idx])[0]

    async def delete_messages(self, key: str, status: MessageStatus | None = None) -> None:
        """Take all messages out of the session's view; `status` None: archived ones too."""
        history = await self._history(key)
        if status != MessageStatus.ARCHIVED:
            await history.replace([], token_limit=UNLIMITED_TOKENS, insert="system")
        if status != MessageStatus.ACTIVE:
            await self._set_archived(history, [])

    async def delete_oldest_messages(self, key: str, n: int) -> list[ChatMessage]:
        """Take the oldest `n` messages out of the queue."""
        async with self._lock:
            _, gone = await self._taken(key, n)
        return gone

    async def archive_oldest_messages(self, key: str, n: int) -> list[ChatMessage]:
        """Move the oldest `n` messages from the queue to the archive."""
        async with self._lock:
            seqs, gone = await self._taken(key, n)
            history = await self._history(key)
            await self._set_archived(history, [*await self._archived(history), *seqs])
        return gone

    async def get_keys(self) -> list[str]:
        """The names of all sessions of the database."""
        engine, keys, cursor = self._used_engine(), [], None
        while True:
            page = await engine.sessions(limit=500, cursor=cursor)
            keys += [record.id for record in page.sessions]
            if page.next_cursor is None:
                return keys
            cursor = page.next_cursor

    async def aclose(self) -> None:
        """Let go of the sessions and of an engine that was made for this store."""
        for attachment, _ in self._open.values():
            await attachment.close()
        self._open.clear()
        if self._owns_engine and self._engine is not None:
            await self._engine.close()

    def _used_engine(self) -> Engine:
        if self._engine is None:
            named = engine_named(self.database, must_be_known=False) if self.database else (Engine(), True)
            self._engine, self._owns_engine = named
        return self._engine

    async def _history(self, key: str) -> History:
        if key not in self._open:
            attachment = Attachment(key, self._used_engine(), owns_engine=False)
            self._open[key] = (attachment, History(await attachment.session(UNLIMITED_TOKENS, None), counter(None)))
        attachment, history = self._open[key]
        session = await attachment.session(UNLIMITED_TOKENS, None)
        if history.session is not session:
            history = History(session, counter(None))
            self._open[key] = (attachment, history)
        return history

    async def _records(self, key: str, status: MessageStatus | None) -> list[Message]:
        history = await self._history(key)
        active = [] if status == MessageStatus.ARCHIVED else await history.records()
        if status == MessageStatus.ACTIVE:
            return active
        wanted = set(await self._archived(history))
        archived = [record async for record in history.session.iter_messages() if record.seq in wanted]
        return sorted([*archived, *active], key=lambda record: record.seq)

    async def _taken(self, key: str, n: int) -> tuple[list[int], list[ChatMessage]]:
        """Hide the oldest `n` messages; which they were."""
        history = await self._history(key)
        for _ in range(_TRIES):
            last_seq = (await history.session.engine.store.session(key)).last_seq
            oldest = (await history.records())[: max(n, 0)]
            if not oldest:
                return [], []
            try:
                await history.session.revise(hide=[(oldest[0].seq, oldest[-1].seq)], messages=[], last_seq=last_seq)
            except StaleContextError:
                continue
            return [record.seq for record in oldest], [made for record in oldest for made in from_record(record)]
        raise StaleContextError(
            f"session {key!r}: {_TRIES} times in a row others wrote while messages were being archived"
        )

    async def _archived(self, history: History) -> Sequence[int]:
        record = await history.session.engine.store.session(history.session.id)
        noted: Any = record.metadata.get(KEY, [])
        return list(noted)

    async def _set_archived(self, history: History, seqs: Sequence[int]) -> None:
        store, session_id = history.session.engine.store, history.session.id
        record = await store.session(session_id)
        await store.update_session(session_id, metadata={**record.metadata, KEY: sorted(set(seqs))})
