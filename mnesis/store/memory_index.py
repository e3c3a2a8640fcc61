"""The full-text index for a store that keeps its log elsewhere: the same tables, in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence

from mnesis.models.message import Message
from mnesis.models.search import Search
from mnesis.store.sqlite import fulltext
from mnesis.store.sqlite.fulltext import Log, Logs
from mnesis.store.sqlite.migrate import migrations

ReadMessages = Callable[[Log, int], Sequence[Message]]
"""The messages of a log after a place."""

SEARCH_MIGRATION = 2


class VolatileIndex:
    """An index in memory. Not safe for several threads at once: whoever uses it holds a lock."""

    def __init__(self) -> None:
        self._connection: sqlite3.Connection | None = None

    def found(
        self, logs: Logs, search: Search, behind: frozenset[int] | None, read: ReadMessages
    ) -> Iterable[tuple[int, float]]:
        """Keys and scores of what a search finds, once what is missing is indexed. Substrings are for the caller to check."""
        connection = self._opened()
        substrings = search.mode == "substring"
        for log in logs.logs:
            messages = read(log, fulltext.reach(connection, log.pk)[substrings])
            if messages:
                add = fulltext.add_trigrams if substrings else fulltext.add_words
                add(connection, log.pk, messages, messages[-1].seq)
        if substrings:
            self._index_rows(connection, logs, search, read)
            return ((key, 1.0) for key in fulltext.with_substring(connection, logs, search, behind))
        return fulltext.ranked(connection, logs, search, behind)

    def empty(self) -> None:
        """Throw the index away."""
        if self._connection is not None:
            fulltext.empty(self._connection)

    def _index_rows(self, connection: sqlite3.Connection, logs: Logs, search: Search, read: ReadMessages) -> None:
        """Filters look at what the index of words knows."""
        for log in logs.logs if search.is_filtered else ():
            messages = read(log, fulltext.reach(connection, log.pk)[0])
            if messages:
                fulltext.add_words(connection, log.pk, messages, messages[-1].seq)

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            self._connection.executescript(migrations()[SEARCH_MIGRATION - 1].sql)
        return self._connection

    def __del__(self) -> None:
        if self._connection is not None:
            self._connection.close()
