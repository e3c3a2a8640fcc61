"""The store in memory: the same verbs and rules in plain Python. It forgets everything with the process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from mnesis.errors import (
    ConfigurationError,
    MessageNotFoundError,
    MnesisStoreError,
    SessionNotFoundError,
    SummaryNotFoundError,
)
from mnesis.models.context import ActiveContext, Cover, Prune
from mnesis.models.finding import Finding
from mnesis.models.message import FileReference, Message
from mnesis.models.results import CompactionResult, TurnSnapshot
from mnesis.models.search import Search, SearchHit, SearchPage
from mnesis.models.session import Interruption, SessionRecord
from mnesis.models.summary import Summary
from mnesis.search.hits import hit_of, holds_text, page_of
from mnesis.search.pagination import Place, check_search, parse_place
from mnesis.store.accounting import (
    changed,
    completed,
    file_ids,
    folded,
    grown,
    opened,
    refuse_other_content,
    refuse_repeated_ids,
    with_compactions,
)
from mnesis.store.base import Append, Appended, Compaction, SessionPage
from mnesis.store.codec import EncodedMessage, decode_message, encode_message, from_json, message_is_intact, to_json
from mnesis.store.covers import (
    Change,
    Span,
    checked_change,
    contains,
    hiding,
    hiding_all,
    in_order,
    leaf_spans,
    refuse_pinned,
    refuse_unpinnable,
    visible,
)
from mnesis.store.memory_index import VolatileIndex
from mnesis.store.memory_runs import MemoryRuns
from mnesis.store.session_cursor import format_cursor, parse_cursor
from mnesis.store.sqlite.fulltext import Log, Logs, seq_of


@dataclass(slots=True)
class _Session:
    key: int
    record: SessionRecord
    last_used: int
    log: list[EncodedMessage] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)
    summaries: dict[str, Summary] = field(default_factory=dict)
    leaves: dict[str, list[Span]] = field(default_factory=dict)
    covers: tuple[Cover, ...] = ()
    prunes: dict[tuple[int, int], Prune] = field(default_factory=dict)
    turns: list[TurnSnapshot] = field(default_factory=list)
    compactions: list[CompactionResult] = field(default_factory=list)
    interruptions: list[Interruption] = field(default_factory=list)
    pins: set[int] = field(default_factory=set)
    files: list[FileReference] = field(default_factory=list)


class MemoryStore(MemoryRuns):
    """Sessions in memory. `mnesis.store.base.Store` says what each verb does; `close` keeps them for the next `open`."""

    def __init__(self) -> None:
        super().__init__()
        self._sessions: dict[str, _Session] = {}
        self._lock = threading.RLock()
        self._made = 0
        self._index = VolatileIndex()
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
        with self._opened():
            record = _own(opened(session))
            if session.id in self._sessions:
                return _own(self._sessions[session.id].record), False
            self._made += 1
            self._sessions[session.id] = _Session(self._made, record, time.time_ns())
            return _own(record), True

    async def update_session(self, session_id: str, **changes: object) -> SessionRecord:
        """See `Store.update_session`. Raises TypeError for anything that cannot change."""
        with self._found(session_id) as found:
            return _put(found, _own(changed(found.record, changes)))

    async def session(self, session_id: str) -> SessionRecord:
        """See `Store.session`."""
        with self._found(session_id) as found:
            return _own(found.record)

    async def sessions(
        self, *, limit: int = 100, cursor: str | None = None, parent_id: str | None = None
    ) -> SessionPage:
        """See `Store.sessions`."""
        with self._opened():
            place = parse_cursor(cursor)
            known = [s for s in self._sessions.values() if parent_id is None or s.record.parent_id == parent_id]
            after = sorted((s for s in known if (s.last_used, s.key) < place), key=lambda s: (-s.last_used, -s.key))
            shown = after[:limit]
            more = len(after) > limit and shown
            return SessionPage(
                tuple(_own(s.record) for s in shown),
                format_cursor(shown[-1].last_used, shown[-1].key) if more else None,
            )

    async def append(self, session_id: str, append: Append) -> Appended:
        """See `Store.append`."""
        refuse_repeated_ids(append.messages)
        encoded = [encode_message(message) for message in append.messages]
        with self._found(session_id) as found:
            if any(message.id in found.places for message in encoded):
                return self._repeated(found, encoded)
            after, snapshot = grown(found.record, append)
            first_seq = found.record.last_seq + 1
            found.log.extend(encoded)
            found.places.update((message.id, seq) for seq, message in enumerate(encoded, first_seq))
            for seq, message in enumerate(append.messages, first_seq):
                found.files.extend(FileReference(session_id, message.id, seq, name) for name in file_ids(message))
            if snapshot is not None:
                found.turns.append(snapshot)
            messages = self._messages(found, [(first_seq, after.last_seq)])
            return Appended(_put(found, after), tuple(messages), snapshot)

    async def messages(
        self, session_id: str, *, after_seq: int = 0, until_seq: int | None = None, limit: int | None = None
    ) -> list[Message]:
        """See `Store.messages`."""
        with self._found(session_id) as found:
            last_seq = found.record.last_seq
            first = max(after_seq, 0) + 1
            last = last_seq if until_seq is None else min(until_seq, last_seq)
            return self._messages(found, [(first, last if limit is None else min(last, first + limit - 1))])

    async def message(self, session_id: str, message_id: str) -> Message:
        """See `Store.message`."""
        with self._found(session_id) as found:
            if message_id not in found.places:
                raise MessageNotFoundError(message_id, where=f"session {session_id!r}")
            seq = found.places[message_id]
            return self._messages(found, [(seq, seq)])[0]

    async def active_context(self, session_id: str) -> ActiveContext:
        """See `Store.active_context`."""
        with self._found(session_id) as found:
            spans = visible(found.covers, found.record.last_seq)
            return ActiveContext(
                session=_own(found.record),
                covers=found.covers,
                items=in_order(found.covers, found.summaries, self._messages(found, spans)),
                prunes={key: prune for key, prune in sorted(found.prunes.items()) if contains(spans, prune.seq)},
                pins=frozenset(found.pins),
            )

    async def compact(self, session_id: str, compaction: Compaction) -> SessionRecord:
        """See `Store.compact`."""
        with self._found(session_id) as found:
            spans = {key: (summary.first_seq, summary.last_seq) for key, summary in found.summaries.items()}
            change = checked_change(compaction, found.covers, found.record.last_seq, spans, session_id)
            refuse_pinned(found.pins, change.hidden, session_id)
            for summary in compaction.summaries:
                found.summaries[summary.id] = summary.model_copy(update={"session_id": session_id})
                if summary.kind == "leaf":
                    found.leaves[summary.id] = leaf_spans(summary, compaction.read_covers)
            after = self._applied(found, change, compaction.prunes)
            found.compactions.append(completed(compaction.result, after))
            return after

    async def hide(self, session_id: str, first_seq: int, last_seq: int) -> SessionRecord:
        """See `Store.hide`."""
        with self._found(session_id) as found:
            change = hiding(found.covers, (first_seq, last_seq), found.record.last_seq)
            return _own(found.record) if change.covers == found.covers else self._applied(found, change, ())

    async def revise(
        self, session_id: str, hide: Sequence[tuple[int, int]], append: Append, *, last_seq: int
    ) -> Appended:
        """See `Store.revise`."""
        with self._found(session_id) as found:
            if any(message.id in found.places for message in append.messages):
                return await self.append(session_id, append)
            change = hiding_all(found.covers, hide, found.record.last_seq, last_seq)
            refuse_repeated_ids(append.messages)
            for message in append.messages:
                encode_message(message)
            if change.covers != found.covers:
                self._applied(found, change, ())
            return await self.append(session_id, append) if append.messages else Appended(_own(found.record), ())

    async def summary(self, session_id: str, summary_id: str) -> Summary:
        """See `Store.summary`."""
        with self._found(session_id) as found:
            return _summary(found, summary_id)

    async def summaries(self, session_id: str) -> list[Summary]:
        """See `Store.summaries`."""
        with self._found(session_id) as found:
            return list(found.summaries.values())

    async def covered_messages(
        self, session_id: str, summary_id: str, *, after_seq: int = 0, limit: int | None = None
    ) -> list[Message]:
        """See `Store.covered_messages`."""
        with self._found(session_id) as found:
            places = sorted({seq for seq in _behind(found, _summary(found, summary_id)) if seq > after_seq})
            return self._messages(found, [(seq, seq) for seq in places[:limit]])

    def turns(self, session_id: str) -> list[TurnSnapshot]:
        """See `Store.turns`."""
        with self._found(session_id) as found:
            return with_compactions(found.turns, found.compactions)

    async def compactions(self, session_id: str) -> list[CompactionResult]:
        """See `Store.compactions`."""
        with self._found(session_id) as found:
            return list(found.compactions)

    async def interrupted(self, session_id: str, interruption: Interruption) -> None:
        """See `Store.interrupted`."""
        with self._found(session_id) as found:
            found.interruptions.append(interruption)

    async def interruptions(self, session_id: str) -> list[Interruption]:
        """See `Store.interruptions`."""
        with self._found(session_id) as found:
            return list(found.interruptions)

    async def purge(self, session_id: str) -> None:
        """See `Store.purge`."""
        with self._found(session_id):
            del self._sessions[session_id]
            self._index.empty()

    async def search(self, search: Search) -> SearchPage:
        """See `Store.search`."""
        check_search(search)
        place = parse_place(search)
        with self._opened():
            logs = self._logs(search.session_id, place)
            behind = self._places_behind(search)
            if not search.query.strip() or not logs.logs:
                return SearchPage()
            found = self._index.found(logs, search, behind, self._after)
            hits = (hit for key, score in found if (hit := self._hit(logs, key, score, search)) is not None)
            last_seq = logs.logs[0].last_seq if search.session_id is not None else 0
            return page_of(islice(hits, place.offset, None), search, place, last_seq)

    async def reindex(self) -> None:
        """See `Store.reindex`."""
        with self._opened():
            self._index.empty()

    async def pin(self, session_id: str, seq: int, pinned: bool = True) -> None:
        """See `Store.pin`."""
        with self._found(session_id) as found:
            refuse_unpinnable(found.covers, found.record.last_seq, seq, session_id)
            (found.pins.add if pinned else found.pins.discard)(seq)

    async def file_references(
        self, *, session_id: str | None = None, content_id: str | None = None
    ) -> list[FileReference]:
        """See `Store.file_references`."""
        with self._opened():
            among = self._sessions.values() if session_id is None else [self._session(session_id)]
            return [each for found in among for each in found.files if content_id in (None, each.content_id)]

    async def backup(self, path: str | Path) -> None:
        """Always raises `ConfigurationError`: nothing here is on disk."""
        raise ConfigurationError("a store in memory has no file to copy; give a db_path to keep sessions on disk")

    async def check(self, *, session_id: str | None = None) -> list[Finding]:
        """See `Store.check`."""
        with self._opened():
            if session_id is not None:
                self._session(session_id)
            return [
                Finding("error", "content", f"message {message.id!r} of session {known_id!r} is not what was stored")
                for known_id, found in self._sessions.items()
                for message in found.log
                if session_id in (None, known_id) and not message_is_intact(message)
            ]

    def _logs(self, session_id: str | None, place: Place) -> Logs:
        wanted = (
            sorted(self._sessions.values(), key=lambda s: s.key) if session_id is None else [self._session(session_id)]
        )
        logs = [Log(s.key, s.record.id, min(place.last_seq or s.record.last_seq, s.record.last_seq)) for s in wanted]
        return Logs(tuple(log for log in logs if log.last_seq))

    def _places_behind(self, search: Search) -> frozenset[int] | None:
        if search.summary_id is None:
            return None
        if search.session_id is None:
            raise SummaryNotFoundError(search.summary_id, where="a search through every session")
        found = self._session(search.session_id)
        return frozenset(_behind(found, _summary(found, search.summary_id)))

    def _after(self, log: Log, seq: int) -> list[Message]:
        found = self._sessions[log.session_id]
        return self._messages(found, [(seq + 1, found.record.last_seq)])

    def _hit(self, logs: Logs, key: int, score: float, search: Search) -> SearchHit | None:
        """The hit for a key; None if the message does not hold the substring asked for."""
        found, seq = self._sessions[logs.log(key).session_id], seq_of(key)
        message = self._messages(found, [(seq, seq)])[0]
        if search.mode == "substring" and not holds_text(message, search.query):
            return None
        covering = (cover.summary_id for cover in found.covers if cover.first_seq <= seq <= cover.last_seq)
        return hit_of(message, score, search, next(covering, None))

    @contextmanager
    def _opened(self) -> Iterator[None]:
        if not self._is_open:
            raise MnesisStoreError("the store in memory is not open; call open() first")
        with self._lock:
            yield

    @contextmanager
    def _found(self, session_id: str) -> Iterator[_Session]:
        with self._opened():
            yield self._session(session_id)

    def _session(self, session_id: str) -> _Session:
        if session_id not in self._sessions:
            raise SessionNotFoundError(session_id, where=self.location)
        return self._sessions[session_id]

    def _messages(self, found: _Session, spans: Iterable[Span]) -> list[Message]:
        return [
            decode_message(found.record.id, seq, found.log[seq - 1], self.location)
            for first, last in spans
            for seq in range(first, last + 1)
        ]

    def _repeated(self, found: _Session, encoded: Sequence[EncodedMessage]) -> Appended:
        places = sorted(found.places[message.id] for message in encoded if message.id in found.places)
        refuse_other_content(encoded, [found.log[seq - 1] for seq in places])
        snapshots = [turn for turn in found.turns if turn.seq == places[-1]]
        messages = self._messages(found, [(seq, seq) for seq in places])
        return Appended(_own(found.record), tuple(messages), snapshots[-1] if snapshots else None, fresh=False)

    def _applied(self, found: _Session, change: Change, prunes: Iterable[Prune]) -> SessionRecord:
        hidden, hidden_tools = _weight(found, change.hidden)
        shown, shown_tools = _weight(found, change.shown)
        new = {(prune.seq, prune.part_index): prune for prune in reversed(list(prunes))}
        new = {key: prune for key, prune in new.items() if key not in found.prunes}
        spans = visible(change.covers, found.record.last_seq)
        saved = sum(prune.tokens_saved for prune in new.values() if contains(spans, prune.seq))
        found.prunes.update(new)
        found.covers = change.covers
        ids = [cover.summary_id for cover in change.covers if cover.summary_id is not None]
        after = folded(
            found.record,
            message_tokens=shown - hidden - saved,
            tool_tokens=shown_tools - hidden_tools - saved,
            summary_tokens=sum(found.summaries[key].token_count for key in ids),
        )
        return _put(found, after)


def _put(found: _Session, record: SessionRecord) -> SessionRecord:
    found.record = record
    found.last_used = max(found.last_used + 1, time.time_ns())
    return _own(record)


def _own(record: SessionRecord) -> SessionRecord:
    """A record whose metadata nobody else can change."""
    return replace(record, metadata=from_json(to_json(record.metadata, f"session {record.id!r}, metadata")))


def _summary(found: _Session, summary_id: str) -> Summary:
    if summary_id not in found.summaries:
        raise SummaryNotFoundError(summary_id, where=f"session {found.record.id!r}")
    return found.summaries[summary_id]


def _behind(found: _Session, summary: Summary) -> Iterator[int]:
    for first, last in found.leaves.get(summary.id, ()):
        yield from range(first, last + 1)
    for child in summary.child_ids:
        yield from _behind(found, found.summaries[child])


def _weight(found: _Session, spans: Sequence[Span]) -> tuple[int, int]:
    messages = [found.log[seq - 1] for first, last in spans for seq in range(first, last + 1)]
    saved = sum(prune.tokens_saved for prune in found.prunes.values() if contains(spans, prune.seq))
    return (
        sum(message.token_count for message in messages) - saved,
        sum(message.tool_tokens for message in messages) - saved,
    )
