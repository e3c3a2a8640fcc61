"""Whether the full-text index says what the log says. It can be made anew, so what is wrong with it is only a warning."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mnesis.errors import CorruptStoreError
from mnesis.formats.text import readable
from mnesis.models.finding import Finding
from mnesis.models.message import Message
from mnesis.search.analysis import indexed
from mnesis.store.sqlite.database import Database
from mnesis.store.sqlite.fulltext import key_of, reach, trigrams
from mnesis.store.sqlite.log import page
from mnesis.store.sqlite.queries import sql
from mnesis.store.sqlite.rows import stored_session

PAGE_MESSAGES = 500
SAMPLED_CHARS = 1_000
REBUILD = "make the index anew: await Engine(path).reindex()"
_WORD = re.compile(r"(?<![^\x00-/:-@\[-`{-\x7f])[A-Za-z0-9]{3,}(?![^\x00-/:-@\[-`{-\x7f])")
"""Whole words of ASCII alone. What else belongs to a word beside them ("stra" in "straße") is the index's to say."""


async def search_findings(database: Database, session_pk: int, session_id: str, where: str) -> list[Finding]:
    """Compare what is indexed of a session with its log; what is not indexed yet is not missing."""
    ends = await database.read(_ends, session_pk, session_id, where)
    wrong: list[int] = []
    try:
        for after_seq in range(0, min(max(ends.words, ends.trigrams), ends.log), PAGE_MESSAGES):
            wrong += await database.read(_wrong, session_pk, session_id, after_seq, ends, where)
    except CorruptStoreError:
        # A damaged message is a finding of its own.
        return []
    if max(ends.words, ends.trigrams) > ends.log:
        wrong.append(ends.log + 1)
    if not wrong:
        return []
    detail = f"session {session_id!r}: {len(wrong)} messages from {wrong[0]} on are not indexed as they are"
    return [Finding("warning", "search", detail, REBUILD)]


class _Ends(NamedTuple):
    """Where a log ends, and how far it is indexed."""

    log: int
    words: int
    trigrams: int


def _ends(connection: sqlite3.Connection, session_pk: int, session_id: str, where: str) -> _Ends:
    return _Ends(stored_session(connection, session_id, where).record.last_seq, *reach(connection, session_pk))


def _wrong(
    connection: sqlite3.Connection, session_pk: int, session_id: str, after_seq: int, ends: _Ends, where: str
) -> list[int]:
    """Places whose entry in the index is not what the log says."""
    last_seq = after_seq + PAGE_MESSAGES
    span = {"first_key": key_of(session_pk, after_seq + 1), "last_key": key_of(session_pk, last_seq)}
    rows = {row[0]: row[1:] for row in connection.execute(sql("check_search_rows"), span)}
    return [
        message.seq
        for message in page(connection, session_id, after_seq, last_seq, None, where)
        if (message.seq <= ends.words and not _words_agree(connection, message, key_of(session_pk, message.seq), rows))
        or (message.seq <= ends.trigrams and not _trigrams_agree(connection, message, key_of(session_pk, message.seq)))
    ]


def _words_agree(
    connection: sqlite3.Connection, message: Message, key: int, rows: dict[int, tuple[int, int, str, str, str]]
) -> bool:
    found = indexed(message)
    if rows.get(key) != (found.words, message.created_at, message.role, found.speaker, found.tools):
        return False
    samples = (f'"{word}"' for word in _samples(_WORD.findall(found.text)))
    return _all_found(connection, "check_search_word", samples, key)


def _trigrams_agree(connection: sqlite3.Connection, message: Message, key: int) -> bool:
    text = readable(message)[:SAMPLED_CHARS]
    return _all_found(connection, "check_search_trigram", _samples(trigrams(text)), key)


def _samples(found: Sequence[str]) -> set[str]:
    return {found[0], found[len(found) // 2], found[-1]} if found else set()


def _all_found(connection: sqlite3.Connection, statement: str, samples: Iterable[str], key: int) -> bool:
    return all(connection.execute(sql(statement), {"match": sample, "key": key}).fetchone() for sample in samples)
