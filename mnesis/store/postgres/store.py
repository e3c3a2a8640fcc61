"""The PostgreSQL store: each verb runs one function in one transaction, on a thread of the database."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

from mnesis.config import StoreConfig
from mnesis.database_url import DatabaseURL
from mnesis.errors import ConfigurationError, CorruptStoreError
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
from mnesis.store.context_cache import SharedContextCache
from mnesis.store.heads import Heads, parse_heads
from mnesis.store.postgres import changes as change_list
from mnesis.store.postgres import check, context, forks, log, sessions, turn_leases
from mnesis.store.postgres import search as search_index
from mnesis.store.postgres.active_context import read_active_context
from mnesis.store.postgres.database import PostgresDatabase
from mnesis.store.postgres.file_mentions import find_mentioned_files
from mnesis.store.postgres.group_commit import PendingAppend, may_share
from mnesis.store.postgres.run_store import PostgresRunStore
from mnesis.store.postgres.seal import OnHashed, seal_all

BEHIND_SECONDS = 0.02
"""The interval at which the store checks changes again that wait for an older transaction."""


class PostgresStore(PostgresRunStore):
    """Sessions in one schema of a PostgreSQL database. `mnesis.store.base.Store` documents the verbs.

    Any number of threads, event loops, processes and machines may use the same schema.
    """

    def __init__(self, url: str, config: StoreConfig | None = None) -> None:
        config = config or StoreConfig()
        if config.encryption_key is not None:
            raise ConfigurationError(
                f"{DatabaseURL(url)} is encrypted by its server, not by StoreConfig.encryption_key; omit it, or use an SQLite"
                " file"
            )
        self._database = PostgresDatabase(DatabaseURL(url), config)
        self._contexts = SharedContextCache()
        self._session_names: change_list.SessionNames | None = None
        self._is_behind = False
        """Whether there are committed changes that a transaction still running may precede."""

    @property
    def location(self) -> str:
        """The URL of the database, without its password."""
        return self._database.location

    async def open(self, on_progress: OnHashed | None = None) -> None:
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
        """See `Store.update_session`. Raises TypeError for settings that cannot change."""
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
        if not may_share(append, encoded):
            return await self._database.write(log.append, session_id, append, encoded)
        append_alone = partial(log.append, session_id=session_id, append=append, encoded=encoded)
        send_append = partial(log.send_append_to_known, append=append, encoded=encoded)
        return await self._database.write_together(PendingAppend(session_id, append_alone, send_append))

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
        return await self._database.read(log.page, session_id, after_seq, until_seq, limit, on_damage)

    async def message(self, session_id: str, message_id: str) -> Message:
        """See `Store.message`."""
        return await self._database.read(log.message, session_id, message_id)

    async def active_context(self, session_id: str, *, shared: bool = False) -> ActiveContext:
        """See `Store.active_context`."""
        return await read_active_context(self._database, self._contexts, session_id, shared)

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
        """See `Store.purge`. The server frees the space and overwrites the bytes when it vacuums."""
        row, _ = await self._database.write(sessions.purge, session_id)
        if self._session_names is not None:
            self._session_names[row] = session_id

    async def search(self, search: Search, on_progress: OnIndexed | None = None) -> SearchPage:
        """See `Store.search`."""
        return await search_index.find_page(self._database, search, on_progress)

    async def messages_without_vectors(
        self, session_id: str | None, model: str, *, after_seq: int = 0, limit: int = 256
    ) -> list[UnembeddedMessage]:
        """See `Store.messages_without_vectors`."""
        return await self._database.read(search_index.messages_without_vectors, session_id, model, after_seq, limit)

    async def save_vectors(self, model: str, vectors: Mapping[int, bytes]) -> None:
        """See `Store.save_vectors`."""
        await self._database.write_without_listing(search_index.save_vectors, model, vectors)

    async def reindex(self, on_progress: OnIndexed | None = None) -> None:
        """See `Store.reindex`."""
        await search_index.reindex(self._database, on_progress)

    async def pin(self, session_id: str, seq: int, pinned: bool = True) -> None:
        """See `Store.pin`."""
        await self._database.write(context.pin, session_id, seq, pinned)

    async def claim_turn(
        self, session_id: str, holder: str, *, now_ms: int, lease_ms: int, dead_fence: int | None = None
    ) -> TurnLease:
        """See `TurnLeaseStore.claim_turn`. The connection that listens for changes shows that this process is alive."""
        database = self._database
        has_presence = not database.url.uses_pgbouncer
        if has_presence and database.listener.count is None:
            await asyncio.to_thread(database.listener.version)
        times = (now_ms, lease_ms, dead_fence)
        return await database.write_without_listing(turn_leases.claim, session_id, holder, *times, has_presence)

    async def renew_turn(self, session_id: str, lease: TurnLease, *, now_ms: int, lease_ms: int) -> bool:
        """See `TurnLeaseStore.renew_turn`."""
        until_ms = now_ms + lease_ms
        return await self._database.write_without_listing(turn_leases.change, session_id, lease, lease.holder, until_ms)

    async def release_turn(self, session_id: str, lease: TurnLease) -> None:
        """See `TurnLeaseStore.release_turn`."""
        await self._database.write_without_listing(turn_leases.change, session_id, lease, None, 0)

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
        """See `ChangeLog.change_version`. Queries the database only behind a pooler, where no connection can listen."""
        if self._database.url.uses_pgbouncer:
            return await self.last_change()
        count = self._database.listener.count
        if count is None:
            count = await asyncio.to_thread(self._database.listener.version)
        return object() if self._is_behind else count

    async def wait_for_change(self, version: object, timeout_seconds: float) -> None:
        """See `ChangeLog.wait_for_change`. A notification of the server wakes the caller."""
        count = self._database.listener.count
        if isinstance(version, int) and count is not None and not self._is_behind:
            await self._database.listener.wait(version, timeout_seconds)
        else:
            await asyncio.sleep(min(timeout_seconds, BEHIND_SECONDS if self._is_behind else timeout_seconds))

    async def last_change(self) -> int:
        """See `ChangeLog.last_change`. Loads the names of all sessions at its first call."""
        if self._session_names is None:
            self._session_names = await self._database.read(change_list.session_names)
        return await self._horizon() - 1

    async def changes(self, *, after: int, limit: int) -> list[StoredChange]:
        """See `ChangeLog.changes`."""
        names = self._session_names if self._session_names is not None else {}
        page, self._is_behind = await self._changes_page(names, after, limit, None)
        if not page and self._is_behind:
            # A transaction of another application, or one that adds no change, does not count.
            page, self._is_behind = await self._changes_page(names, after, limit, await self._horizon())
        self._database.next_changes.expect(page[-1].position if page else after, limit)
        return page

    async def _changes_page(
        self, names: change_list.SessionNames, after: int, limit: int, before: int | None
    ) -> tuple[list[StoredChange], bool]:
        database = self._database
        rows = database.next_changes.take(after, limit) if before is None else None
        if rows is None:
            rows = await database.read_one_statement(change_list.load_page, after, limit, before)
        details: change_list.Details = {}
        if change_list.has_compactions(rows):
            details = await database.read(change_list.load_compactions, rows)
        return change_list.events_of_page(rows, names, details, database.origin)

    async def backup(self, path: str | Path, on_progress: OnCopied | None = None) -> None:
        """Raise `ConfigurationError`, because a server has its own tools for copies. `mnesis migrate` copies it to an
        SQLite file.
        """
        raise ConfigurationError(
            f"{self.location} is a server and has no file to copy; use pg_dump, or mnesis migrate --to {str(path)!r}"
        )

    async def check(self, *, session_id: str | None = None, on_progress: OnChecked | None = None) -> list[Finding]:
        """See `Store.check`."""
        return list((await self.verify(session_id=session_id, on_progress=on_progress)).findings)

    async def verify(
        self, *, session_id: str | None = None, heads: Heads | None = None, on_progress: OnChecked | None = None
    ) -> Verification:
        """See `Store.verify`."""
        return await check.verify(self._database, session_id, parse_heads(heads or {}), on_progress)

    async def seal(self, on_progress: OnChecked | None = None) -> int:
        """See `Store.seal`."""
        if not self._database.has_key:
            raise ConfigurationError("there is no key to seal with; pass StoreConfig(integrity_key=…), or --key-file")
        checked = await self.check(on_progress=on_progress)
        findings = [each for each in checked if each.severity == "error" and each.check != "seal"]
        if findings:
            raise CorruptStoreError(
                f"{self.location} is not sealed, because a seal would confirm its damage: {findings[0].detail}; run"
                " `mnesis doctor`",
                db_path=self.location,
            )
        return await self._database.write_without_listing(seal_all)

    async def _horizon(self) -> int:
        # Two transactions, because the second must see the transactions that are running after the first one.
        running = await self._database.read(change_list.snapshot)
        return await self._database.read(change_list.horizon, running)
