"""The SQLite store: each verb runs one function in one transaction on the thread of the database."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from mnesis.config import StoreConfig
from mnesis.encryption import EncryptionKey
from mnesis.errors import ConfigurationError, CorruptStoreError, SessionForkedError
from mnesis.models.context import ActiveContext, Cover
from mnesis.models.finding import Finding, Verification
from mnesis.models.message import FileReference, Message
from mnesis.models.results import CompactionResult, TurnSnapshot
from mnesis.models.search import Search, SearchPage, UnembeddedMessage
from mnesis.models.session import Interruption, SessionRecord
from mnesis.models.summary import Summary
from mnesis.models.turn_lease import TurnLease
from mnesis.store.accounting import refuse_repeated_ids
from mnesis.store.base import Append, AppendResult, Compaction, OnChecked, OnCopied, OnDamage, OnIndexed, SessionPage
from mnesis.store.change_log import StoredChange
from mnesis.store.codec import encode_message
from mnesis.store.heads import Heads, parse_heads
from mnesis.store.sqlite import changes as change_list
from mnesis.store.sqlite import context, forks, log, sessions, turn_leases
from mnesis.store.sqlite.database import Database
from mnesis.store.sqlite.file_mentions import find_mentioned_files
from mnesis.store.sqlite.run_store import SqliteRunStore
from mnesis.store.sqlite.seal import seal_all


class SqliteStore(SqliteRunStore):
    """Sessions in one SQLite database file. `mnesis.store.base.Store` documents the verbs.

    Any number of threads, event loops and processes may use the same file. Open one store per file and process.
    """

    def __init__(self, target: StoreConfig | str | Path, config: StoreConfig | None = None) -> None:
        self._config = target if isinstance(target, StoreConfig) else config or StoreConfig()
        path = self._config.db_path if isinstance(target, StoreConfig) else Path(target).expanduser()
        self._session_names = change_list.SessionNames()
        self._database = Database(Path(path).absolute(), self._config)

    @property
    def database(self) -> Database:
        """The connection to the file, for statements outside the verbs."""
        return self._database

    @property
    def location(self) -> str:
        """The path of the database."""
        return str(self._database.path)

    async def open(self, on_progress: Callable[[int, int], None] | None = None) -> None:
        """See `Store.open`. `on_progress` is called, in a thread, while sessions of an older release get their hashes."""
        await self._database.open(on_progress)

    async def close(self) -> None:
        """See `Store.close`."""
        await self._database.close()

    async def create_session(self, session: SessionRecord) -> tuple[SessionRecord, bool]:
        """See `Store.create_session`."""
        return await self._database.write(sessions.create, session)

    async def fork_session(
        self, session_id: str, fork: SessionRecord, *, last_seq: int, summary_ids: Collection[str] | None = None
    ) -> tuple[SessionRecord, bool]:
        """See `Store.fork_session`."""
        shared = await self._database.read(forks.read_shared_log, session_id, last_seq)
        return await self._database.write(forks.create_fork, session_id, fork, last_seq, shared, summary_ids)

    async def forks(self, session_id: str) -> list[str]:
        """See `Store.forks`."""
        return await self._database.read(sessions.forks, session_id)

    async def update_session(self, session_id: str, **changes: object) -> SessionRecord:
        """See `Store.update_session`. Raises TypeError for anything that cannot change."""
        return await self._database.write(sessions.update, session_id, changes)

    async def session(self, session_id: str) -> SessionRecord:
        """See `Store.session`."""
        return await self._database.read(sessions.session, session_id)

    async def sessions(
        self, *, limit: int = 100, cursor: str | None = None, parent_id: str | None = None
    ) -> SessionPage:
        """See `Store.sessions`."""
        return await self._database.read(sessions.page, limit, cursor, parent_id)

    async def append(self, session_id: str, append: Append) -> AppendResult:
        """See `Store.append`."""
        refuse_repeated_ids(append.messages)
        encoded = [encode_message(message) for message in append.messages]
        write = context.append if append.include_context else log.append
        return await self._database.write_together(write, session_id, append, encoded)

    async def messages(
        self,
        session_id: str,
        *,
        after_seq: int = 0,
        until_seq: int | None = None,
        limit: int | None = None,
        on_damage: OnDamage = "raise",
    ) -> list[Message]:
        """See `Store.messages`."""
        if on_damage == "mark":  # outside a transaction, because SQLite would end it at the first unreadable page
            return await self._database.query(
                lambda connection: log.page(connection, session_id, after_seq, until_seq, limit, on_damage)
            )
        return await self._database.read(log.page, session_id, after_seq, until_seq, limit, on_damage)

    async def message(self, session_id: str, message_id: str) -> Message:
        """See `Store.message`."""
        return await self._database.read(log.message, session_id, message_id)

    async def active_context(self, session_id: str, *, shared: bool = False) -> ActiveContext:
        """See `Store.active_context`."""
        return await self._database.read(context.active_context, session_id, shared)

    async def compact(self, session_id: str, compaction: Compaction) -> SessionRecord:
        """See `Store.compact`."""
        return await self._database.write(context.compact, session_id, compaction)

    async def hide(self, session_id: str, first_seq: int, last_seq: int) -> SessionRecord:
        """See `Store.hide`."""
        return await self._database.write(context.hide, session_id, first_seq, last_seq)

    async def revise(
        self, session_id: str, hidden_spans: Sequence[tuple[int, int]], append: Append, *, last_seq: int
    ) -> AppendResult:
        """See `Store.revise`."""
        refuse_repeated_ids(append.messages)
        encoded = [encode_message(message) for message in append.messages]
        return await self._database.write(context.revise, session_id, hidden_spans, append, encoded, last_seq)

    async def replace_covers(
        self,
        session_id: str,
        covers: Sequence[Cover],
        append: Append,
        *,
        read_covers: Sequence[Cover],
        last_seq: int,
    ) -> AppendResult:
        """See `Store.replace_covers`."""
        refuse_repeated_ids(append.messages)
        encoded = [encode_message(message) for message in append.messages]
        return await self._database.write(
            context.replace_covers, session_id, covers, append, encoded, read_covers, last_seq
        )

    async def summary(self, session_id: str, summary_id: str) -> Summary:
        """See `Store.summary`."""
        return await self._database.read(context.summary, session_id, summary_id)

    async def summaries(self, session_id: str) -> list[Summary]:
        """See `Store.summaries`."""
        return await self._database.read(context.summaries, session_id)

    async def covered_messages(
        self, session_id: str, summary_id: str, *, after_seq: int = 0, limit: int | None = None
    ) -> list[Message]:
        """See `Store.covered_messages`."""
        return await self._database.read(context.covered_messages, session_id, summary_id, after_seq, limit)

    def turns(self, session_id: str, *, after_turn: int = -1, limit: int | None = None) -> list[TurnSnapshot]:
        """See `Store.turns`."""
        return self._database.read_blocking(log.turns, session_id, after_turn, limit)

    async def compactions(self, session_id: str) -> list[CompactionResult]:
        """See `Store.compactions`."""
        return await self._database.read(log.compactions, session_id)

    async def record_interruption(self, session_id: str, interruption: Interruption) -> None:
        """See `Store.record_interruption`."""
        await self._database.write(sessions.record_interruption, session_id, interruption)

    async def interruptions(self, session_id: str) -> list[Interruption]:
        """See `Store.interruptions`."""
        return await self._database.read(sessions.interruptions, session_id)

    async def purge(self, session_id: str) -> None:
        """See `Store.purge`. Overwrites the deleted bytes, also in the write-ahead log unless a reader holds it.

        The search index is updated, and space is returned, in short steps between which others can write.
        """
        from mnesis.store.sqlite import search as search_index

        if fork_ids := await self.forks(session_id):
            raise SessionForkedError(session_id, fork_ids)
        was_indexed = await search_index.unindex(self._database, session_id)
        row = await self._database.write(sessions.purge, session_id)
        self._session_names.ids[row] = session_id
        if was_indexed:
            await search_index.merge_index(self._database)
        await self._database.release_space()
        await self._database.checkpoint_wal()

    async def search(self, search: Search, on_progress: OnIndexed | None = None) -> SearchPage:
        """See `Store.search`."""
        from mnesis.store.sqlite import search as search_index

        return await search_index.find_page(self._database, search, on_progress)

    async def messages_without_vectors(
        self, session_id: str | None, model: str, *, after_seq: int = 0, limit: int = 256
    ) -> list[UnembeddedMessage]:
        """See `Store.messages_without_vectors`."""
        from mnesis.store.sqlite import search as search_index

        return await search_index.messages_without_vectors(self._database, session_id, model, after_seq, limit)

    async def save_vectors(self, model: str, vectors: Mapping[int, bytes]) -> None:
        """See `Store.save_vectors`."""
        from mnesis.store.sqlite import search as search_index

        await search_index.save_message_vectors(self._database, model, vectors)

    async def reindex(self, on_progress: OnIndexed | None = None) -> None:
        """See `Store.reindex`."""
        from mnesis.store.sqlite import search as search_index

        await search_index.reindex(self._database, on_progress)

    async def pin(self, session_id: str, seq: int, pinned: bool = True) -> None:
        """See `Store.pin`."""
        await self._database.write(context.pin, session_id, seq, pinned)

    async def claim_turn(
        self, session_id: str, holder: str, *, now_ms: int, lease_ms: int, dead_fence: int | None = None
    ) -> TurnLease:
        """See `TurnLeaseStore.claim_turn`."""
        return await self._database.write(turn_leases.claim, session_id, holder, now_ms, lease_ms, dead_fence)

    async def renew_turn(self, session_id: str, lease: TurnLease, *, now_ms: int, lease_ms: int) -> bool:
        """See `TurnLeaseStore.renew_turn`."""
        return await self._database.write(turn_leases.renew, session_id, lease, now_ms, lease_ms)

    async def release_turn(self, session_id: str, lease: TurnLease) -> None:
        """See `TurnLeaseStore.release_turn`."""
        await self._database.write(turn_leases.release, session_id, lease)

    async def file_references(
        self, *, session_id: str | None = None, content_id: str | None = None
    ) -> list[FileReference]:
        """See `Store.file_references`."""
        return await self._database.read(log.file_references, session_id, content_id)

    async def mentioned_files(
        self, content_ids: Collection[str], *, without_sessions: Collection[str] = ()
    ) -> set[str]:
        """See `Store.mentioned_files`."""
        return await find_mentioned_files(self._database, content_ids, without_sessions)

    async def change_version(self) -> object:
        """See `ChangeLog.change_version`."""
        return await self._database.query(change_list.version)

    async def wait_for_change(self, version: object, timeout_seconds: float) -> None:
        """See `ChangeLog.wait_for_change`. Nothing wakes the caller earlier."""
        await asyncio.sleep(timeout_seconds)

    async def last_change(self) -> int:
        """See `ChangeLog.last_change`. Loads the names of all sessions at its first call."""
        return await self._database.read(change_list.last, self._session_names)

    async def changes(self, *, after: int, limit: int) -> list[StoredChange]:
        """See `ChangeLog.changes`."""
        return await self._database.read(change_list.page, self._session_names, after, limit)

    async def backup(self, path: str | Path, on_progress: OnCopied | None = None) -> None:
        """See `Store.backup`. Cancellation leaves a complete copy behind, or none."""
        from mnesis.store.sqlite.backup import back_up

        await self._database.read(_require_open)
        await asyncio.to_thread(back_up, self._database.path, self._config, path, on_progress)

    async def convert(self, path: str | Path, new_key: EncryptionKey | None) -> None:
        """Write a copy like `backup`, encrypted with `new_key` or, if that is None, not encrypted."""
        from mnesis.store.sqlite.backup import convert

        await self._database.read(_require_open)
        await asyncio.to_thread(convert, self._database.path, self._config, path, new_key)

    async def check(self, *, session_id: str | None = None, on_progress: OnChecked | None = None) -> list[Finding]:
        """See `Store.check`."""
        from mnesis.store.sqlite import check

        return list((await check.verify(self._database, session_id, {}, on_progress)).findings)

    async def verify(
        self, *, session_id: str | None = None, heads: Heads | None = None, on_progress: OnChecked | None = None
    ) -> Verification:
        """See `Store.verify`."""
        from mnesis.store.sqlite import check

        return await check.verify(self._database, session_id, parse_heads(heads or {}), on_progress)

    async def seal(self, on_progress: OnChecked | None = None) -> int:
        """See `Store.seal`."""
        if self._config.integrity_key is None:
            raise ConfigurationError("there is no key to seal with; pass StoreConfig(integrity_key=…), or --key-file")
        checked = await self.check(on_progress=on_progress)
        findings = [each for each in checked if each.severity == "error" and each.check != "seal"]
        if findings:
            raise CorruptStoreError(
                f"{self.location} is not sealed, because a seal would confirm its damage: {findings[0].detail}; run"
                " `mnesis doctor`",
                db_path=self.location,
            )
        return await self._database.write(seal_all)


def _require_open(connection: sqlite3.Connection) -> None:
    """Do nothing; reading fails unless the database is open."""
