"""The in-memory store: the same verbs and rules in plain Python. Its content is lost when the process ends."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from mnesis.errors import (
    ConfigurationError,
    MessageNotFoundError,
    MnesisStoreError,
    NotFoundError,
    SessionForkedError,
)
from mnesis.events.bus import MnesisEvent
from mnesis.events.payloads import SessionCreatedPayload
from mnesis.models.context import ActiveContext, Cover
from mnesis.models.finding import Finding, Verification
from mnesis.models.message import FileReference, Message
from mnesis.models.results import CompactionResult, TurnSnapshot
from mnesis.models.search import Search, SearchPage, UnembeddedMessage
from mnesis.models.session import Interruption, SessionRecord
from mnesis.models.summary import Summary
from mnesis.models.turn_lease import TurnLease
from mnesis.search.pagination import check_search
from mnesis.store.accounting import (
    accounts_after_append,
    add_spending,
    attach_compactions,
    file_ids,
    finalize_result,
    new_record,
    refuse_repeated_ids,
    with_settings,
)
from mnesis.store.base import Append, AppendResult, Compaction, OnChecked, OnCopied, OnDamage, OnIndexed, SessionPage
from mnesis.store.chain import first_log_head
from mnesis.store.change_log import StoredChange, append_events, compaction_events, updated_event
from mnesis.store.codec import (
    DamagedValueError,
    encode_message,
)
from mnesis.store.covers import (
    change_covers,
    contains,
    folded_spans,
    hide_span,
    hide_spans,
    leaf_spans,
    order_items,
    refuse_pinned,
    refuse_unpinnable,
    validate_compaction,
    visible_spans,
)
from mnesis.store.forks import refuse_missing_fork_point, refuse_other_fork
from mnesis.store.heads import Heads, parse_heads
from mnesis.store.memory_changes import headers
from mnesis.store.memory_runs import MemoryRunStore
from mnesis.store.memory_search import MemorySearch
from mnesis.store.memory_session import (
    MemorySession,
    apply_diff,
    copy_record,
    covered_by,
    extend_log,
    find_memory_session,
    find_summary,
    fork_memory_session,
    fork_point,
    read_messages,
    repeat_append,
    save_record,
)
from mnesis.store.memory_verify import MemoryLog, verify_logs
from mnesis.store.session_cursor import format_cursor, parse_cursor
from mnesis.store.turn_leases import decide_claim, refuse_stale_fence


class MemoryStore(MemoryRunStore):
    """Sessions in memory. `mnesis.store.base.Store` documents the verbs; `close` keeps the content for the next `open`."""

    def __init__(self) -> None:
        super().__init__()
        self._sessions: dict[str, MemorySession] = {}
        self._lock = threading.RLock()
        self._last_key = 0
        self._search = MemorySearch(self._sessions)
        self._is_open = False

    @property
    def location(self) -> str:
        """Always ":memory:"."""
        return ":memory:"

    async def open(self) -> None:
        """See `Store.open`."""
        self._is_open = True

    async def close(self) -> None:
        """See `Store.close`."""
        self._is_open = False

    async def create_session(self, session: SessionRecord) -> tuple[SessionRecord, bool]:
        """See `Store.create_session`."""
        with self._hold_lock():
            record = copy_record(new_record(session))
            if session.id in self._sessions:
                return copy_record(self._sessions[session.id].record), False
            self._last_key += 1
            self._sessions[session.id] = MemorySession(
                self._last_key, record, time.time_ns(), first_log_head(record.id)
            )
            created = SessionCreatedPayload(record.id, record.model, record.parent_id)
            self._changes.add((MnesisEvent.SESSION_CREATED, created))
            return copy_record(record), True

    async def fork_session(
        self, session_id: str, fork: SessionRecord, *, last_seq: int, summary_ids: Collection[str] | None = None
    ) -> tuple[SessionRecord, bool]:
        """See `Store.fork_session`."""
        with self._hold_session(session_id) as origin:
            refuse_missing_fork_point(origin.record, last_seq)
            if fork.id in self._sessions:
                existing = self._sessions[fork.id].record
                refuse_other_fork(existing, fork_point(origin, last_seq))
                return copy_record(existing), False
            self._last_key += 1
            forked = fork_memory_session(self._last_key, origin, fork, last_seq, summary_ids)
            self._sessions[fork.id] = forked
            record = forked.record
            created = SessionCreatedPayload(record.id, record.model, record.parent_id, record.origin_id)
            self._changes.add((MnesisEvent.SESSION_CREATED, created))
            return copy_record(record), True

    async def forks(self, session_id: str) -> list[str]:
        """See `Store.forks`."""
        with self._hold_session(session_id):
            return self._forks(session_id)

    def _forks(self, session_id: str) -> list[str]:
        return [
            each.record.id
            for each in self._sessions.values()
            if session_id in (*(owner_id for _, owner_id in each.segments), *each.summary_owners.values())
        ]

    async def update_session(self, session_id: str, **changes: object) -> SessionRecord:
        """See `Store.update_session`. Raises TypeError for settings that cannot change."""
        with self._hold_session(session_id) as stored:
            record = save_record(stored, copy_record(with_settings(stored.record, changes)))
            self._note_update(record)
            return record

    async def session(self, session_id: str) -> SessionRecord:
        """See `Store.session`."""
        with self._hold_session(session_id) as stored:
            return copy_record(stored.record)

    async def sessions(
        self, *, limit: int = 100, cursor: str | None = None, parent_id: str | None = None
    ) -> SessionPage:
        """See `Store.sessions`."""
        with self._hold_lock():
            position = parse_cursor(cursor)
            candidates = [s for s in self._sessions.values() if parent_id is None or s.record.parent_id == parent_id]
            candidates = [s for s in candidates if (s.last_used, s.key) < position]
            candidates.sort(key=lambda s: (-s.last_used, -s.key))
            page = candidates[:limit]
            has_more = page and len(candidates) > limit
            return SessionPage(
                tuple(copy_record(s.record) for s in page),
                format_cursor(page[-1].last_used, page[-1].key) if has_more else None,
            )

    async def append(self, session_id: str, append: Append) -> AppendResult:
        """See `Store.append`."""
        refuse_repeated_ids(append.messages)
        encoded = [encode_message(message) for message in append.messages]
        with self._hold_session(session_id) as stored:
            if any(message.id in stored.seqs_by_id for message in encoded):
                return repeat_append(stored, encoded)
            _refuse_stale_fence(stored, append)
            after, snapshot = accounts_after_append(stored.record, append)
            first_seq = stored.record.last_seq + 1
            extend_log(stored, encoded)
            stored.seqs_by_id.update((message.id, seq) for seq, message in enumerate(encoded, first_seq))
            for seq, message in enumerate(append.messages, first_seq):
                stored.file_references.extend(
                    FileReference(session_id, message.id, seq, name) for name in file_ids(message)
                )
            if snapshot is not None:
                stored.turns.append(snapshot)
            messages = read_messages(stored, [(first_seq, after.last_seq)])
            events = append_events(session_id, headers(messages), after.context_tokens, after.turn_count)
            self._changes.add(*events)
            return AppendResult(save_record(stored, after), tuple(messages), snapshot)

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
        with self._hold_session(session_id) as stored:
            last_seq = stored.record.last_seq
            first = max(after_seq, 0) + 1
            last = last_seq if until_seq is None else min(until_seq, last_seq)
            return read_messages(stored, [(first, last if limit is None else min(last, first + limit - 1))])

    async def message(self, session_id: str, message_id: str) -> Message:
        """See `Store.message`."""
        with self._hold_session(session_id) as stored:
            if message_id not in stored.seqs_by_id:
                raise MessageNotFoundError(message_id, location=f"session {session_id!r}")
            seq = stored.seqs_by_id[message_id]
            return read_messages(stored, [(seq, seq)])[0]

    async def active_context(self, session_id: str, *, shared: bool = False) -> ActiveContext:
        """See `Store.active_context`. The items are always new."""
        with self._hold_session(session_id) as stored:
            spans = visible_spans(stored.covers, stored.record.last_seq)
            return ActiveContext(
                session=copy_record(stored.record),
                covers=stored.covers,
                items=order_items(stored.covers, stored.summaries, read_messages(stored, spans)),
                prunes={key: prune for key, prune in sorted(stored.prunes.items()) if contains(spans, prune.seq)},
                pins=frozenset(stored.pins),
            )

    async def compact(self, session_id: str, compaction: Compaction) -> SessionRecord:
        """See `Store.compact`."""
        with self._hold_session(session_id) as stored:
            spans = {key: (summary.first_seq, summary.last_seq) for key, summary in stored.summaries.items()}
            diff = validate_compaction(compaction, stored.covers, stored.record.last_seq, spans, session_id)
            refuse_pinned(stored.pins, diff.hidden, session_id)
            for summary in compaction.summaries:
                stored.summaries[summary.id] = summary.model_copy(update={"session_id": session_id})
                if summary.kind == "leaf":
                    stored.leaves[summary.id] = leaf_spans(summary, compaction.read_covers)
            stored.record = add_spending(stored.record, compaction)
            after = apply_diff(stored, diff, compaction.prunes)
            result = finalize_result(compaction.result, after)
            stored.compactions.append(result)
            prunes = [(prune.seq, prune.part_index, prune.tokens_saved) for prune in compaction.prunes]
            ids = {seq: message.id for seq, message in enumerate(stored.log, 1)}
            events = compaction_events(session_id, result, folded_spans(diff), prunes, ids)
            self._changes.add(*events, updated_event(session_id, after.context_tokens, after.turn_count))
            return after

    async def hide(self, session_id: str, first_seq: int, last_seq: int) -> SessionRecord:
        """See `Store.hide`."""
        with self._hold_session(session_id) as stored:
            diff = hide_span(stored.covers, (first_seq, last_seq), stored.record.last_seq)
            if diff.covers == stored.covers:
                return copy_record(stored.record)
            after = apply_diff(stored, diff, ())
            self._note_update(after)
            return after

    async def revise(
        self, session_id: str, hidden_spans: Sequence[tuple[int, int]], append: Append, *, last_seq: int
    ) -> AppendResult:
        """See `Store.revise`."""
        with self._hold_session(session_id) as stored:
            if any(message.id in stored.seqs_by_id for message in append.messages):
                return await self.append(session_id, append)
            _refuse_stale_fence(stored, append)
            diff = hide_spans(stored.covers, hidden_spans, stored.record.last_seq, last_seq)
            refuse_repeated_ids(append.messages)
            for message in append.messages:
                encode_message(message)
            if diff.covers != stored.covers:
                self._note_update(apply_diff(stored, diff, ()))
            return (
                await self.append(session_id, append)
                if append.messages
                else AppendResult(copy_record(stored.record), ())
            )

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
        with self._hold_session(session_id) as stored:
            if any(message.id in stored.seqs_by_id for message in append.messages):
                return await self.append(session_id, append)
            _refuse_stale_fence(stored, append)
            diff = change_covers(
                stored.covers,
                covers,
                stored.record.last_seq,
                read_covers=read_covers,
                expected_last_seq=last_seq,
                summary_spans={key: (s.first_seq, s.last_seq) for key, s in stored.summaries.items()},
                session_id=session_id,
            )
            refuse_repeated_ids(append.messages)
            for message in append.messages:
                encode_message(message)
            if diff.covers != stored.covers:
                self._note_update(apply_diff(stored, diff, ()))
            return (
                await self.append(session_id, append)
                if append.messages
                else AppendResult(copy_record(stored.record), ())
            )

    async def summary(self, session_id: str, summary_id: str) -> Summary:
        """See `Store.summary`."""
        with self._hold_session(session_id) as stored:
            return find_summary(stored, summary_id)

    async def summaries(self, session_id: str) -> list[Summary]:
        """See `Store.summaries`."""
        with self._hold_session(session_id) as stored:
            return list(stored.summaries.values())

    async def covered_messages(
        self, session_id: str, summary_id: str, *, after_seq: int = 0, limit: int | None = None
    ) -> list[Message]:
        """See `Store.covered_messages`."""
        with self._hold_session(session_id) as stored:
            seqs = sorted({seq for seq in covered_by(stored, find_summary(stored, summary_id)) if seq > after_seq})
            return read_messages(stored, [(seq, seq) for seq in seqs[:limit]])

    def turns(self, session_id: str, *, after_turn: int = -1, limit: int | None = None) -> list[TurnSnapshot]:
        """See `Store.turns`."""
        first = max(after_turn + 1, 0)
        with self._hold_session(session_id) as stored:
            page = stored.turns[first:] if limit is None else stored.turns[first : first + limit]
            return attach_compactions(page, stored.compactions)

    async def compactions(self, session_id: str) -> list[CompactionResult]:
        """See `Store.compactions`."""
        with self._hold_session(session_id) as stored:
            return list(stored.compactions)

    async def record_interruption(self, session_id: str, interruption: Interruption) -> None:
        """See `Store.record_interruption`."""
        with self._hold_session(session_id) as stored:
            stored.interruptions.append(interruption)
            self._note_update(stored.record)

    async def interruptions(self, session_id: str) -> list[Interruption]:
        """See `Store.interruptions`."""
        with self._hold_session(session_id) as stored:
            return list(stored.interruptions)

    async def purge(self, session_id: str) -> None:
        """See `Store.purge`."""
        with self._hold_session(session_id) as stored:
            if fork_ids := self._forks(session_id):
                raise SessionForkedError(session_id, fork_ids)
            self._search.remove(stored)
            del self._sessions[session_id]
            self._changes.replace_session(session_id)

    async def search(self, search: Search, on_progress: OnIndexed | None = None) -> SearchPage:
        """See `Store.search`. Runs in a thread, because ranking takes long and the first search reads files."""
        check_search(search)
        loop = asyncio.get_running_loop()

        def publish_progress(indexed: int, total: int) -> None:
            if on_progress is not None:
                loop.call_soon_threadsafe(on_progress, indexed, total)

        def find_page() -> SearchPage:
            with self._hold_lock():
                return self._search.find_page(search, publish_progress)

        return await asyncio.to_thread(find_page)

    async def messages_without_vectors(
        self, session_id: str | None, model: str, *, after_seq: int = 0, limit: int = 256
    ) -> list[UnembeddedMessage]:
        """See `Store.messages_without_vectors`."""

        def find() -> list[UnembeddedMessage]:
            with self._hold_lock():
                return self._search.find_unembedded(session_id, model, after_seq, limit)

        return await asyncio.to_thread(find)

    async def save_vectors(self, model: str, vectors: Mapping[int, bytes]) -> None:
        """See `Store.save_vectors`."""

        def save() -> None:
            with self._hold_lock():
                self._search.save_vectors(model, vectors)

        await asyncio.to_thread(save)

    async def reindex(self, on_progress: OnIndexed | None = None) -> None:
        """See `Store.reindex`. The next search builds the index."""
        with self._hold_lock():
            self._search.clear()

    async def pin(self, session_id: str, seq: int, pinned: bool = True) -> None:
        """See `Store.pin`."""
        with self._hold_session(session_id) as stored:
            refuse_unpinnable(stored.covers, stored.record.last_seq, seq, session_id)
            (stored.pins.add if pinned else stored.pins.discard)(seq)
            self._note_update(stored.record)

    async def claim_turn(
        self, session_id: str, holder: str, *, now_ms: int, lease_ms: int, dead_fence: int | None = None
    ) -> TurnLease:
        """See `TurnLeaseStore.claim_turn`."""
        with self._hold_session(session_id) as stored:
            claimed = decide_claim(stored.turn_lease, holder, now_ms=now_ms, lease_ms=lease_ms, dead_fence=dead_fence)
            stored.turn_lease = claimed or stored.turn_lease
            assert stored.turn_lease is not None  # noqa: S101  # a session without a lease is free
            return stored.turn_lease

    async def renew_turn(self, session_id: str, lease: TurnLease, *, now_ms: int, lease_ms: int) -> bool:
        """See `TurnLeaseStore.renew_turn`."""
        with self._hold_session(session_id) as stored:
            if not _is_held(stored, lease):
                return False
            stored.turn_lease = replace(lease, lease_until=now_ms + lease_ms)
            return True

    async def release_turn(self, session_id: str, lease: TurnLease) -> None:
        """See `TurnLeaseStore.release_turn`."""
        with self._hold_session(session_id) as stored:
            if _is_held(stored, lease):
                stored.turn_lease = TurnLease(None, lease.fence, 0)

    async def file_references(
        self, *, session_id: str | None = None, content_id: str | None = None
    ) -> list[FileReference]:
        """See `Store.file_references`."""
        with self._hold_lock():
            sessions = (
                self._sessions.values() if session_id is None else [find_memory_session(self._sessions, session_id)]
            )
            references = (
                reference
                for session in sessions
                for reference in (session.file_references if session_id is None else self._references(session))
            )
            return [reference for reference in references if content_id in (None, reference.content_id)]

    async def mentioned_files(
        self, content_ids: Collection[str], *, without_sessions: Collection[str] = ()
    ) -> set[str]:
        """See `Store.mentioned_files`."""
        named = {each.content_id for each in await self.file_references() if each.session_id not in without_sessions}
        return named.intersection(content_ids)

    async def change_version(self) -> object:
        """See `ChangeLog.change_version`."""
        return self._changes.last

    async def wait_for_change(self, version: object, timeout_seconds: float) -> None:
        """See `ChangeLog.wait_for_change`. Nothing wakes the caller earlier."""
        await asyncio.sleep(timeout_seconds)

    async def last_change(self) -> int:
        """See `ChangeLog.last_change`."""
        return self._changes.last

    async def changes(self, *, after: int, limit: int) -> list[StoredChange]:
        """See `ChangeLog.changes`."""
        with self._hold_lock():
            return self._changes.page(after, limit)

    async def backup(self, path: str | Path, on_progress: OnCopied | None = None) -> None:
        """Raise `ConfigurationError`: an in-memory store has no file."""
        raise ConfigurationError("an in-memory store has no file to copy; pass a db_path to keep sessions on disk")

    async def check(self, *, session_id: str | None = None, on_progress: OnChecked | None = None) -> list[Finding]:
        """See `Store.check`."""
        return list((await self.verify(session_id=session_id, on_progress=on_progress)).findings)

    async def verify(
        self, *, session_id: str | None = None, heads: Heads | None = None, on_progress: OnChecked | None = None
    ) -> Verification:
        """See `Store.verify`."""
        earlier_heads = parse_heads(heads or {})
        with self._hold_lock():
            sessions = (
                [*self._sessions.values()] if session_id is None else [find_memory_session(self._sessions, session_id)]
            )
            verification = verify_logs(
                {each.record.id: MemoryLog(each.log, each.log_head, each.owner_id) for each in sessions}, earlier_heads
            )
        if on_progress is not None:
            on_progress(len(sessions), len(sessions))
        return verification

    async def seal(self, on_progress: OnChecked | None = None) -> int:
        """Raise `ConfigurationError`: an in-memory store has no key."""
        raise ConfigurationError("an in-memory store has no key; pass a db_path and StoreConfig(integrity_key=…)")

    @contextmanager
    def _hold_lock(self) -> Iterator[None]:
        if not self._is_open:
            raise MnesisStoreError("the in-memory store is not open; call open() first")
        with self._lock:
            try:
                yield
            except NotFoundError as error:
                error.location = error.location or self.location
                raise
            except DamagedValueError as error:
                raise error.at(self.location) from error

    def _references(self, stored: MemorySession) -> list[FileReference]:
        shared = [
            replace(reference, session_id=stored.record.id)
            for segment, owner_id in stored.segments
            for reference in self._sessions[owner_id].file_references
            if segment.first_seq <= reference.seq <= segment.last_seq
        ]
        return [*shared, *stored.file_references]

    def _note_update(self, record: SessionRecord) -> None:
        self._changes.add(updated_event(record.id, record.context_tokens, record.turn_count))

    @contextmanager
    def _hold_session(self, session_id: str) -> Iterator[MemorySession]:
        with self._hold_lock():
            yield find_memory_session(self._sessions, session_id)


def _is_held(stored: MemorySession, lease: TurnLease) -> bool:
    current = stored.turn_lease
    return current is not None and (current.holder, current.fence) == (lease.holder, lease.fence)


def _refuse_stale_fence(stored: MemorySession, append: Append) -> None:
    lease = stored.turn_lease
    refuse_stale_fence(stored.record.id, append.fence, lease.fence if lease is not None else None)
