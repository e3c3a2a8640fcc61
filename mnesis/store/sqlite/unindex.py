"""Removal of one session from the full-text index. The other sessions remain indexed.

The index holds no text (https://sqlite.org/fts5.html#contentless_tables), so each message is removed by repeating the
text it was indexed with, which the log still has. The rest of its words disappears from the index when segments are
merged.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from mnesis.formats.text import message_text
from mnesis.models.message import Message
from mnesis.search.analysis import build_index_entry
from mnesis.store.codec import DamagedValueError
from mnesis.store.sqlite.fulltext import (
    clear_index,
    clear_terms,
    drop_outdated,
    indexed_up_to,
    save_state_checksum,
    without_nul,
)
from mnesis.store.sqlite.queries import sql
from mnesis.store.sqlite.rows import message_from_row
from mnesis.store.sqlite.search_blocks import level_count, save_checksums
from mnesis.store.sqlite.search_scope import key_of

MERGED_PAGES = 256
"""The number of pages of the index that one step writes: about a megabyte, a few milliseconds."""
MAX_LEVELS = 1_000
"""An index with more levels is cleared instead of merged, and built again by the next searches.

A merge of all segments adds two levels. SQLite 3.40 calls an index of more than 2,000 levels malformed; later versions
stop at 64 (`fts5IndexOptimizeStruct` and `fts5StructureDecode` in ext/fts5/fts5_index.c). Levels disappear with the index only.
"""


def remove_newest(connection: sqlite3.Connection, session_pk: int, session_id: str, limit: int | None = None) -> bool:
    """Remove the newest indexed messages of a session, at most `limit`. Returns whether any are still indexed.

    If a message is damaged, its indexed text is unknown, so the whole index is cleared.
    """
    drop_outdated(connection)
    top = max(indexed_up_to(connection, session_pk))
    low = max(top - limit, 0) if limit is not None else 0
    parameters = {"session_pk": session_pk, "after_seq": low, "last_seq": top}
    try:
        rows = connection.execute(sql("search_indexed_messages"), parameters)
        remove_messages(connection, session_pk, [message_from_row(session_id, row) for row in rows], low)
    except DamagedValueError:
        clear_index(connection)
        low = 0
    save_checksums(connection)
    return low > 0


def remove_messages(connection: sqlite3.Connection, session_pk: int, messages: Iterable[Message], low: int) -> None:
    """Remove messages that are all indexed messages of a session after seq `low`."""
    words_seq, trigrams_seq = indexed_up_to(connection, session_pk)
    for message in messages:
        key = key_of(session_pk, message.seq)
        if low < message.seq <= words_seq:
            entry = build_index_entry(message)
            connection.execute(sql("delete_search_words"), (key, without_nul(entry.text)))
            connection.execute(sql("delete_search_speaker"), (session_pk, entry.speaker))
        if low < message.seq <= trigrams_seq:
            text = without_nul(message_text(message).encode("utf-8", "replace").decode())
            connection.execute(sql("delete_search_trigrams"), (key, text))
    span = {"first_key": key_of(session_pk, low + 1), "last_key": key_of(session_pk + 1, 0) - 1}
    connection.execute(sql("delete_search_rows"), span)
    connection.execute(sql("delete_search_speakers"), {"session_pk": session_pk})
    connection.execute(sql("lower_search_state"), {"session_pk": session_pk, "seq": low})
    save_state_checksum(connection, session_pk)
    connection.execute(sql("delete_search_state"), {"session_pk": session_pk})


def merge_step(connection: sqlite3.Connection, is_first: bool) -> bool:
    """Merge some pages of the index, which drops deleted words. Returns whether there is more to do.

    The first step clears an index with more than `MAX_LEVELS` levels, which has the same effect.

    See https://sqlite.org/fts5.html#the_merge_command for the negative first step and for the two changes that mean "done".
    """
    if is_first and level_count(connection) > MAX_LEVELS:
        clear_terms(connection)
        save_checksums(connection)
        return False
    has_more_words = _merge_pages(connection, "merge_search_words", is_first)
    has_more_trigrams = _merge_pages(connection, "merge_search_trigrams", is_first)
    save_checksums(connection)
    return has_more_words or has_more_trigrams


def merge_words_step(connection: sqlite3.Connection, is_first: bool) -> bool:
    """Merge some pages of the index of words, so that fewer segments are read for each word. Returns whether there is more to do.

    Does nothing to an index with more than `MAX_LEVELS` levels.
    """
    if is_first and level_count(connection) > MAX_LEVELS:
        return False
    has_more = _merge_pages(connection, "merge_search_words", is_first)
    save_checksums(connection)
    return has_more


def _merge_pages(connection: sqlite3.Connection, statement: str, is_first: bool) -> bool:
    before = connection.total_changes
    connection.execute(sql(statement), (-MERGED_PAGES if is_first else MERGED_PAGES,))
    return connection.total_changes - before >= 2
