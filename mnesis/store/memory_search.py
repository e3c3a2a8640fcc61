"""Search in the logs of an in-memory store. The store holds its lock around every use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice

from mnesis.errors import SummaryNotFoundError
from mnesis.formats.text import message_text
from mnesis.models.context import find_cover
from mnesis.models.message import Message
from mnesis.models.search import Search, SearchPage, UnembeddedMessage
from mnesis.search.hits import MatchingMessage, build_page, contains_text
from mnesis.search.pagination import SearchPosition, search_position
from mnesis.store.base import OnIndexed
from mnesis.store.codec import DamagedValueError
from mnesis.store.memory_index import InMemoryIndex
from mnesis.store.memory_session import MemorySession, covered_by, find_memory_session, find_summary, read_messages
from mnesis.store.sqlite.search_scope import SEQ_BITS, LogRange, SearchScope, fork_scope, key_of, seq_of


class MemorySearch:
    """The search index of the sessions of a store, which passes its own dict of them."""

    def __init__(self, sessions: Mapping[str, MemorySession]) -> None:
        self._sessions = sessions
        self._index = InMemoryIndex()

    def find_page(self, search: Search, on_progress: OnIndexed) -> SearchPage:
        """Return a page of a search, after indexing missing messages."""
        place = search_position(search)
        scope = self._search_scope(search.session_id, place)
        covered_seqs = self._covered_seqs(search)
        if not search.query.strip() or not scope.logs:
            return SearchPage()
        read_texts = partial(self._read_texts, scope)
        matches, missing_vectors = self._index.find(
            scope, search, covered_seqs, self._messages_after, read_texts, on_progress
        )
        found = (self._matching_message(scope, key, score, search) for key, score in matches)
        matching = (each for each in found if each is not None)
        last_seq = scope.logs[-1].last_seq if search.session_id is not None else 0
        page = build_page(islice(matching, place.offset, None), search, place, last_seq)
        return replace(page, missing_vectors=missing_vectors)

    def find_unembedded(
        self, session_id: str | None, model: str, after_seq: int, limit: int
    ) -> list[UnembeddedMessage]:
        """Return the next messages without a vector of a model."""
        scope = self._search_scope(session_id, SearchPosition())
        known_keys = self._index.keys_with_vectors(scope, model)
        missing = (
            UnembeddedMessage(key_of(log.pk, message.seq), message_text(message))
            for log in scope.logs
            for message in self._messages_after(log, max(after_seq, log.first_seq - 1))
            if message.seq <= log.last_seq and key_of(log.pk, message.seq) not in known_keys
        )
        return list(islice(missing, limit))

    def save_vectors(self, model: str, vectors: Mapping[int, bytes]) -> None:
        """Store the vectors of messages by key, without those of purged sessions."""
        present = {stored.key for stored in self._sessions.values()}
        self._index.save_vectors(model, {key: each for key, each in vectors.items() if key >> SEQ_BITS in present})

    def remove(self, stored: MemorySession) -> None:
        """Remove a session from the index."""
        log = LogRange(stored.key, stored.record.id, stored.record.last_seq)
        self._index.remove(stored.key, self._messages_after(log, 0))

    def clear(self) -> None:
        """Clear the index. The next search builds it again."""
        self._index.clear()

    def _search_scope(self, session_id: str | None, place: SearchPosition) -> SearchScope:
        if session_id is None:
            sessions = sorted(self._sessions.values(), key=lambda each: each.key)
            logs = [LogRange(s.key, s.record.id, s.record.last_seq, s.record.inherited_seq + 1) for s in sessions]
            return SearchScope(tuple(log for log in logs if log.count))
        stored = find_memory_session(self._sessions, session_id)
        last_seq = min(place.last_seq or stored.record.last_seq, stored.record.last_seq)
        if stored.segments:
            return fork_scope(stored.key, session_id, stored.segments, last_seq)
        return SearchScope((LogRange(stored.key, session_id, last_seq),) if last_seq else ())

    def _covered_seqs(self, search: Search) -> frozenset[int] | None:
        if search.summary_id is None:
            return None
        if search.session_id is None:
            raise SummaryNotFoundError(search.summary_id, location="a search of every session")
        stored = find_memory_session(self._sessions, search.session_id)
        return frozenset(covered_by(stored, find_summary(stored, search.summary_id)))

    def _messages_after(self, log: LogRange, seq: int) -> list[Message]:
        stored = self._sessions[log.owner_id or log.session_id]
        return read_messages(stored, [(max(seq, stored.record.inherited_seq) + 1, stored.record.last_seq)])

    def _matching_message(self, scope: SearchScope, key: int, score: float, search: Search) -> MatchingMessage | None:
        """Return the message of a key, or None if it does not contain the substring."""
        message = self._message_of_key(scope, key)
        if search.mode == "substring" and not contains_text(message, search.query):
            return None
        cover = find_cover(self._sessions[scope.log(key).session_id].covers, seq_of(key))
        return MatchingMessage(message, score, cover.summary_id if cover else None)

    def _message_of_key(self, scope: SearchScope, key: int) -> Message:
        return read_messages(self._sessions[scope.log(key).session_id], [(seq_of(key), seq_of(key))])[0]

    def _read_texts(self, scope: SearchScope, keys: Sequence[int]) -> dict[int, str]:
        """Return the texts of messages by key, without those of damaged messages."""
        texts: dict[int, str] = {}
        for key in keys:
            with suppress(DamagedValueError):
                texts[key] = message_text(self._message_of_key(scope, key))
        return texts
