"""The baseline: plain BM25 of SQLite's FTS5 over the same words, any of which may match."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from mnesis.models.message import Message
from mnesis.search.analysis import REPEATED_MARK, build_index_entry, query_terms


class Bm25:
    """An index of one log that keeps word counts, and ranks by FTS5's `bm25()`."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self._ids = [message.id for message in messages]
        self._connection = sqlite3.connect(":memory:")
        self._connection.execute(
            "CREATE VIRTUAL TABLE words USING fts5 (text, tokenize = 'porter unicode61 remove_diacritics 2')"
        )
        texts = (build_index_entry(message).text.partition(f" {REPEATED_MARK}")[0] for message in messages)
        self._connection.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", enumerate(texts))

    def search(self, query: str, limit: int) -> list[str]:
        """Return the ids of the best messages."""
        match = " OR ".join(f'"{form}"' for forms in query_terms(query) for form in forms)
        if not match:
            return []
        statement = "SELECT rowid FROM words WHERE words MATCH ? ORDER BY bm25(words), rowid LIMIT ?"
        return [self._ids[number] for (number,) in self._connection.execute(statement, (match, limit))]

    def close(self) -> None:
        self._connection.close()
