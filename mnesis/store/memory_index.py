"""An in-memory full-text index, for stores that do not use SQLite for the log."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence

from mnesis.models.message import Message
from mnesis.models.search import Search
from mnesis.store.base import OnIndexed
from mnesis.store.sqlite import fulltext, ranked_search
from mnesis.store.sqlite.migrate import migrations
from mnesis.store.sqlite.queries import sql
from mnesis.store.sqlite.search_scope import LogRange, SearchScope
from mnesis.store.sqlite.search_vectors import save_vectors
from mnesis.store.sqlite.unindex import remove_messages

ReadMessages = Callable[[LogRange, int], Sequence[Message]]
"""Returns the messages of a log after a seq."""

SEARCH_MIGRATIONS = (2, 5, 8, 13)
"""The versions of the migrations that create the search tables."""


class InMemoryIndex:
    """An in-memory index. It is not thread-safe; the caller must hold a lock."""

    def __init__(self) -> None:
        self._connection: sqlite3.Connection | None = None

    def find(
        self,
        scope: SearchScope,
        search: Search,
        covered_seqs: frozenset[int] | None,
        read: ReadMessages,
        read_texts: ranked_search.ReadTexts,
        on_progress: OnIndexed | None = None,
    ) -> tuple[Iterable[tuple[int, float]], int]:
        """Index missing messages, and return the keys and scores of a search and the number of messages without a
        vector.

        The caller checks substrings itself.
        """
        connection = self._open_connection()
        substrings = search.mode == "substring"
        self._catch_up(connection, scope, substrings, read, on_progress)
        if substrings:
            if search.is_filtered:
                # Filters use the index of words.
                self._catch_up(connection, scope, False, read, on_progress)
            keys = ranked_search.substring_candidates(connection, scope, search, covered_seqs)
            return ((key, 1.0) for key in keys), 0
        ranked = ranked_search.rank_messages(connection, scope, search, covered_seqs, read_texts)
        return ranked.hits, ranked.missing_vectors

    def keys_with_vectors(self, scope: SearchScope, model: str) -> frozenset[int]:
        """Return the keys of the messages that have a vector of a model."""
        connection = self._open_connection()
        rows = (
            key
            for first_key, last_key in scope.spans
            for key, *_ in connection.execute(
                sql("search_vectors"), {"model": model, "first_key": first_key, "last_key": last_key}
            )
        )
        return frozenset(rows)

    def save_vectors(self, model: str, vectors: Mapping[int, bytes]) -> None:
        """Store the vectors of messages by key."""
        save_vectors(self._open_connection(), model, vectors)

    def _catch_up(
        self,
        connection: sqlite3.Connection,
        scope: SearchScope,
        substrings: bool,
        read: ReadMessages,
        on_progress: OnIndexed | None,
    ) -> None:
        missing = [(log, read(log, fulltext.indexed_up_to(connection, log.pk)[substrings])) for log in scope.logs]
        total, indexed = sum(len(messages) for _, messages in missing), 0
        for log, messages in missing:
            if messages:
                add = fulltext.add_trigrams if substrings else fulltext.add_words
                add(connection, log.pk, messages, messages[-1].seq)
                indexed += len(messages)
                if on_progress is not None:
                    on_progress(indexed, total)

    def remove(self, session_pk: int, messages: Sequence[Message]) -> None:
        """Remove a session with all of its messages."""
        if self._connection is not None:
            remove_messages(self._connection, session_pk, messages, 0)
            self._connection.execute(sql("purge_search_vectors"), {"session_pk": session_pk})

    def clear(self) -> None:
        """Clear the index."""
        if self._connection is not None:
            fulltext.clear_index(self._connection)

    def _open_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            for version in SEARCH_MIGRATIONS:
                connection.executescript(migrations()[version - 1].sql)
            self._connection = connection
        return self._connection

    def __del__(self) -> None:
        if self._connection is not None:
            self._connection.close()
