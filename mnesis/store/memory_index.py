"""An in-memory full-text index, for stores that do not use SQLite for the log."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence

from mnesis.models.message import Message
from mnesis.models.search import Search
from mnesis.store.sqlite import fulltext
from mnesis.store.sqlite.fulltext import LogRange, SearchScope
from mnesis.store.sqlite.migrate import migrations

ReadMessages = Callable[[LogRange, int], Sequence[Message]]
"""Returns the messages of a log after a seq."""

SEARCH_MIGRATIONS = (2, 5)
"""The versions of the migrations that create the search tables."""


class InMemoryIndex:
    """An in-memory index. It is not thread-safe; the caller must hold a lock."""

    def __init__(self) -> None:
        self._connection: sqlite3.Connection | None = None

    def find(
        self, scope: SearchScope, search: Search, covered_seqs: frozenset[int] | None, read: ReadMessages
    ) -> Iterable[tuple[int, float]]:
        """Index what is missing and return the keys and scores of a search. The caller checks substrings itself."""
        connection = self._open_connection()
        substrings = search.mode == "substring"
        for log in scope.logs:
            messages = read(log, fulltext.indexed_up_to(connection, log.pk)[substrings])
            if messages:
                add = fulltext.add_trigrams if substrings else fulltext.add_words
                add(connection, log.pk, messages, messages[-1].seq)
        if substrings:
            self._index_words_for_filters(connection, scope, search, read)
            return ((key, 1.0) for key in fulltext.substring_candidates(connection, scope, search, covered_seqs))
        return fulltext.rank_messages(connection, scope, search, covered_seqs)

    def clear(self) -> None:
        """Clear the index."""
        if self._connection is not None:
            fulltext.clear_index(self._connection)

    def _index_words_for_filters(
        self, connection: sqlite3.Connection, scope: SearchScope, search: Search, read: ReadMessages
    ) -> None:
        """Index words if the search has filters, which use the index of words."""
        for log in scope.logs if search.is_filtered else ():
            messages = read(log, fulltext.indexed_up_to(connection, log.pk)[0])
            if messages:
                fulltext.add_words(connection, log.pk, messages, messages[-1].seq)

    def _open_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            for version in SEARCH_MIGRATIONS:
                self._connection.executescript(migrations()[version - 1].sql)
        return self._connection

    def __del__(self) -> None:
        if self._connection is not None:
            self._connection.close()
