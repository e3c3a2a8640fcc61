"""The full-text index: add messages, and read the last indexed one, on any connection that has its tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from zlib import crc32

from mnesis.formats.text import message_text
from mnesis.models.message import Message
from mnesis.search.analysis import ANALYSIS_VERSION, build_index_entry
from mnesis.store.sqlite.queries import sql
from mnesis.store.sqlite.search_scope import key_of


def indexed_up_to(connection: sqlite3.Connection, session_pk: int) -> tuple[int, int]:
    """Return the last indexed seq of a session, for words and for trigrams."""
    row = connection.execute(sql("search_state"), {"session_pk": session_pk, "rules": ANALYSIS_VERSION}).fetchone()
    return (row[0], row[1]) if row else (0, 0)


def count_indexed(connection: sqlite3.Connection) -> int:
    """Return how many messages of all sessions are in the index of words."""
    count: int = connection.execute(sql("count_indexed")).fetchone()[0]
    return count


def drop_outdated(connection: sqlite3.Connection) -> None:
    """Clear the index if it was built with another version of the text analysis."""
    if connection.execute(sql("search_outdated"), {"rules": ANALYSIS_VERSION}).fetchone():
        clear_index(connection)


def clear_index(connection: sqlite3.Connection) -> None:
    """Clear the whole index. `unindex.remove_newest` removes one session."""
    clear_terms(connection)
    connection.execute(sql("empty_search_vectors"))


def clear_terms(connection: sqlite3.Connection) -> None:
    """Clear the index except for vectors, which only a model can compute again."""
    for statement in (
        "empty_search_words",
        "empty_search_trigrams",
        "empty_search_rows",
        "empty_search_speakers",
        "empty_search_state",
    ):
        connection.execute(sql(statement))


def add_words(connection: sqlite3.Connection, session_pk: int, messages: Iterable[Message], last_seq: int) -> None:
    """Index the words of the next messages of a session, up to `last_seq`."""
    for message in messages:
        entry, key = build_index_entry(message), key_of(session_pk, message.seq)
        row = (key, entry.word_count, message.created_at, message.role, entry.speaker, entry.tool_names)
        connection.execute(sql("insert_search_words"), (key, without_nul(entry.text)))
        connection.execute(sql("insert_search_row"), (*row, checksum(row)))
        if entry.speaker:
            connection.execute(sql("insert_search_speaker"), (session_pk, entry.speaker))
    parameters = {"session_pk": session_pk, "rules": ANALYSIS_VERSION, "seq": last_seq}
    connection.execute(sql("set_search_words"), parameters)
    save_state_checksum(connection, session_pk)


def add_trigrams(connection: sqlite3.Connection, session_pk: int, messages: Iterable[Message], last_seq: int) -> None:
    """Index the trigrams of the next messages of a session, up to `last_seq`."""
    for message in messages:
        text = without_nul(message_text(message).encode("utf-8", "replace").decode())
        connection.execute(sql("insert_search_trigrams"), (key_of(session_pk, message.seq), text))
    parameters = {"session_pk": session_pk, "rules": ANALYSIS_VERSION, "seq": last_seq}
    connection.execute(sql("set_search_trigrams"), parameters)
    save_state_checksum(connection, session_pk)


def save_state_checksum(connection: sqlite3.Connection, session_pk: int) -> None:
    """Write the checksum of a session's last indexed seq. Does nothing if no message is indexed."""
    row = connection.execute(sql("search_state_row"), {"session_pk": session_pk}).fetchone()
    if row is not None:
        connection.execute(sql("save_search_state"), (checksum((session_pk, *row[:3])), session_pk))


def checksum(row: tuple[object, ...]) -> int:
    """Return the checksum of the values of a row of the index."""
    return crc32(repr(row).encode("utf-8", "surrogatepass"))


def without_nul(text: str) -> str:
    """Replace NULs, at which the index would end the text."""
    return text.replace("\0", " ")
