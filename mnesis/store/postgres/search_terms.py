"""The words and trigrams of texts, exactly as the SQLite store indexes them.

The words of a text are those of SQLite's full-text tokenizer, so that both stores find the same messages. An in-memory
SQLite database splits the texts; PostgreSQL keeps the result in plain tables.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from mnesis.store.memory_index import SEARCH_MIGRATIONS
from mnesis.store.sqlite.migrate import migrations

MAX_TERM_BYTES = 512
"""A longer word is kept as its beginning and a hash, because an index row of PostgreSQL holds about 2,700 bytes."""
LAST_CHARACTER = "\U0010ffff"
_QUOTED = re.compile(r'"((?:[^"]|"")*)"(\*)?')
_local = threading.local()


@dataclass(frozen=True, slots=True)
class WordQuery:
    """A parsed expression of the full-text index: words or beginnings of words, and how many of them must match."""

    words: tuple[tuple[str, bool], ...]
    """Each word, and whether it is only a beginning."""
    must_have_all: bool

    @property
    def exact_words(self) -> list[str] | None:
        """The words, if a message with any of them matches; None if there are beginnings, or if all are needed."""
        if self.must_have_all and len(self.words) > 1:
            return None
        return None if any(is_beginning for _, is_beginning in self.words) else [word for word, _ in self.words]


def words_by_key(texts: Mapping[int, str]) -> dict[int, list[str]]:
    """Split texts into distinct words, by the key of each text."""
    words: dict[int, list[str]] = {key: [] for key in texts}
    connection = _splitter()
    connection.executemany("INSERT INTO search_words (rowid, text) VALUES (?, ?)", texts.items())
    try:
        for term, key in connection.execute("SELECT DISTINCT term, doc FROM temp.pairs"):
            words[key].append(_shorten(term))
    finally:
        connection.execute("INSERT INTO search_words (search_words) VALUES ('delete-all')")
    return words


@lru_cache(maxsize=4_096)
def parse_expression(expression: str) -> WordQuery | None:
    """Parse an expression, or return None if it can match nothing.

    Expressions are quoted words, each with a `*` if it is a beginning, all joined by OR or all joined by AND.
    """
    quoted = [(text.replace('""', '"'), bool(star)) for text, star in _QUOTED.findall(expression)]
    must_have_all = '" AND "' in expression or '"* AND "' in expression
    split = words_by_key({number: text for number, (text, _) in enumerate(quoted)})
    words: list[tuple[str, bool]] = []
    for number, (_, is_beginning) in enumerate(quoted):
        if must_have_all and not split[number]:
            return None
        words += [(word, is_beginning) for word in split[number]]
    return WordQuery(tuple(words), must_have_all) if words else None


def trigram_hashes(texts: Iterable[str]) -> list[int]:
    """Return the distinct hashes of trigrams, as 32-bit integers."""
    return sorted({zlib.crc32(text.encode("utf-8", "replace")) - 2**31 for text in texts})


def trigrams_of(text: str) -> set[str]:
    """Return every trigram of a text in lower case."""
    lower = text.lower()
    return {lower[i : i + 3] for i in range(len(lower) - 2)}


def _shorten(term: str) -> str:
    if len(term) <= MAX_TERM_BYTES // 4:
        return term
    data = term.encode()
    if len(data) <= MAX_TERM_BYTES:
        return term
    beginning = data[: MAX_TERM_BYTES // 2].decode("utf-8", "ignore")
    return f"{beginning}#{hashlib.sha256(data).hexdigest()}"


class _ThreadConnection(sqlite3.Connection):
    """A connection that is closed when its thread ends. From Python 3.13 on, an unclosed connection causes a
    warning.
    """

    def __del__(self) -> None:
        self.close()


def _splitter() -> sqlite3.Connection:
    """Return the in-memory database of this thread, which has the search tables of the SQLite store."""
    connection: sqlite3.Connection | None = getattr(_local, "connection", None)
    if connection is None:
        connection = sqlite3.connect(
            ":memory:", isolation_level=None, check_same_thread=False, factory=_ThreadConnection
        )
        for version in SEARCH_MIGRATIONS:
            connection.executescript(migrations()[version - 1].sql)
        connection.execute("CREATE VIRTUAL TABLE temp.pairs USING fts5vocab('main', 'search_words', 'instance')")
        _local.connection = connection
    return connection
