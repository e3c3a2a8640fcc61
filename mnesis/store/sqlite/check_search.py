"""The check that the full-text index agrees with the log. Findings are warnings, because the index can be rebuilt."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mnesis.errors import CorruptStoreError
from mnesis.formats.text import message_text
from mnesis.models.finding import Finding
from mnesis.models.message import Message
from mnesis.search.analysis import build_index_entry
from mnesis.store.sqlite.accounts import load_session
from mnesis.store.sqlite.database import Database
from mnesis.store.sqlite.fixes import REINDEX
from mnesis.store.sqlite.fulltext import indexed_up_to, key_of, trigrams
from mnesis.store.sqlite.log import page
from mnesis.store.sqlite.queries import sql

PAGE_MESSAGES = 500
"""Messages that one read compares."""
SAMPLED_CHARS = 1_000
"""Characters of a message from which trigrams are sampled."""
_WORD = re.compile(r"(?<![^\x00-/:-@\[-`{-\x7f])[A-Za-z0-9]{3,}(?![^\x00-/:-@\[-`{-\x7f])")
"""Words of ASCII only. The index decides which other characters belong to a word ("stra" in "straße")."""


async def search_findings(database: Database, session_pk: int, session_id: str) -> list[Finding]:
    """Compare the index of a session with its log. Messages that are not indexed yet are not findings."""
    state = await database.read(_index_state, session_pk, session_id)
    mismatched: list[int] = []
    try:
        for after_seq in range(0, min(max(state.words, state.trigrams), state.log), PAGE_MESSAGES):
            mismatched += await database.read(_mismatched_seqs, session_pk, session_id, after_seq, state)
    except CorruptStoreError:
        # A damaged message is a separate finding.
        return []
    if max(state.words, state.trigrams) > state.log:
        mismatched.append(state.log + 1)
    if not mismatched:
        return []
    detail = f"session {session_id!r}: {len(mismatched)} messages from {mismatched[0]} on differ from the index"
    return [Finding("warning", "search", detail, REINDEX)]


class _IndexState(NamedTuple):
    """The last seq of a log, and the last indexed seq for words and for trigrams."""

    log: int
    words: int
    trigrams: int


def _index_state(connection: sqlite3.Connection, session_pk: int, session_id: str) -> _IndexState:
    return _IndexState(load_session(connection, session_id).record.last_seq, *indexed_up_to(connection, session_pk))


def _mismatched_seqs(
    connection: sqlite3.Connection, session_pk: int, session_id: str, after_seq: int, state: _IndexState
) -> list[int]:
    """Return the seqs whose index entry differs from the log."""
    last_seq = after_seq + PAGE_MESSAGES
    span = {"first_key": key_of(session_pk, after_seq + 1), "last_key": key_of(session_pk, last_seq)}
    rows = {row[0]: row[1:] for row in connection.execute(sql("check_search_rows"), span)}
    return [
        message.seq
        for message in page(connection, session_id, after_seq, last_seq, None)
        if (message.seq <= state.words and not _words_match(connection, message, key_of(session_pk, message.seq), rows))
        or (message.seq <= state.trigrams and not _trigrams_match(connection, message, key_of(session_pk, message.seq)))
    ]


def _words_match(
    connection: sqlite3.Connection, message: Message, key: int, rows: dict[int, tuple[int, int, str, str, str]]
) -> bool:
    entry = build_index_entry(message)
    if rows.get(key) != (entry.word_count, message.created_at, message.role, entry.speaker, entry.tool_names):
        return False
    samples = (f'"{word}"' for word in _samples(_WORD.findall(entry.text)))
    return _all_match(connection, "check_search_word", samples, key)


def _trigrams_match(connection: sqlite3.Connection, message: Message, key: int) -> bool:
    text = message_text(message)[:SAMPLED_CHARS]
    return _all_match(connection, "check_search_trigram", _samples(trigrams(text)), key)


def _samples(found: Sequence[str]) -> set[str]:
    return {found[0], found[len(found) // 2], found[-1]} if found else set()


def _all_match(connection: sqlite3.Connection, statement: str, samples: Iterable[str], key: int) -> bool:
    return all(connection.execute(sql(statement), {"match": sample, "key": key}).fetchone() for sample in samples)
