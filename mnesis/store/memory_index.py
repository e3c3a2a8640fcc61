"""An in-memory full-text index, for stores that do not use SQLite for the log."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence

from mnesis.models.message import Message
from mnesis.models.search import Search
from mnesis.store.base import OnIndexed
from mnesis.store.sqlite import fulltext
from mnesis.store.sqlite.fulltext import LogRange, SearchScope
from mnesis.store.sqlite.migrate import migrations
from mnesis.store.sqlite.unindex import remove_messages

ReadMessages = Callable[[LogRange, int], Sequence[Message]]
"""Returns the messages of a log after a seq."""

SEARCH_MIGRATIONS = (2, 5, 8)
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
        on_progress: OnIndexed | None = None,
    ) -> Iterable[tuple[int, float]]:
        """Index what is missing and return the keys and scores of a search. The caller checks substrings itself."""
        connection = self._open_connection()
        substrings = search.mode == "substring"
        self._catch_up(connection, scope, substrings, read, on_progress)
        if substrings:
            if search.is_filtered:
                # Filters use the index of words.
                self._catch_up(connection, scope, False, read, on_progress)
            return ((key, 1.0) for key in fulltext.substring_candidates(connection, scope, search, covered_seqs))
        return fulltext.rank_messages(connection, scope, search, covered_seqs)

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

    def clear(self) -> None:
        """Clear the index."""
        if self._connection is not None:
            fulltext.clear_index(self._connection)

    def _open_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            for version in SEARCH_MIGRATIONS:
                self._connection.executescript(migrations()[version - 1].sql)
        return self._connection

    def __del__(self) -> None:
        if self._connection is not None:
            self._connection.close()
