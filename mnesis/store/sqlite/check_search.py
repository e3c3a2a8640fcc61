"""Whether the full-text index says what the log says. It can be made anew, so what is wrong with it is only a warning."""

from __future__ import annotations

import re
import sqlite3

from mnesis.errors import CorruptStoreError
from mnesis.models.context import Finding
from mnesis.models.message import Message
from mnesis.search.words import indexed
from mnesis.store.sqlite.connection import Database
from mnesis.store.sqlite.fulltext import key_of, reach
from mnesis.store.sqlite.log import page
from mnesis.store.sqlite.queries import sql

PAGE_MESSAGES = 500
REBUILD = "make the index anew: await Engine(path).reindex()"
_WORD = re.compile(r"[a-z0-9]{3,}", re.ASCII | re.IGNORECASE)


async def search_findings(database: Database, session_pk: int, session_id: str, where: str) -> list[Finding]:
    """Compare what is indexed of a session with its log; what is not indexed yet is not missing."""
    until_seq, _ = await database.read(reach, session_pk)
    wrong: list[int] = []
    try:
        for after_seq in range(0, until_seq, PAGE_MESSAGES):
            last_seq = min(after_seq + PAGE_MESSAGES, until_seq)
            wrong += await database.read(_wrong, session_pk, session_id, after_seq, last_seq, where)
    except CorruptStoreError:
        # A damaged message is a finding of its own.
        return []
    if not wrong:
        return []
    detail = f"session {session_id!r}: {len(wrong)} messages from {wrong[0]} on are not indexed as they are"
    return [Finding("warning", "search", detail, REBUILD)]


def _wrong(
    connection: sqlite3.Connection, session_pk: int, session_id: str, after_seq: int, last_seq: int, where: str
) -> list[int]:
    """Places whose entry in the index is not what the log says."""
    span = {"first_key": key_of(session_pk, after_seq + 1), "last_key": key_of(session_pk, last_seq)}
    rows = {row[0]: row[1:] for row in connection.execute(sql("check_search_rows"), span)}
    messages = page(connection, session_id, after_seq, last_seq, None, where)
    return [m.seq for m in messages if not _agrees(connection, m, key_of(session_pk, m.seq), rows)]


def _agrees(
    connection: sqlite3.Connection, message: Message, key: int, rows: dict[int, tuple[int, int, str, str, str]]
) -> bool:
    found = indexed(message)
    if rows.get(key) != (found.words, message.created_at, message.role, found.speaker, found.tools):
        return False
    words = _WORD.findall(found.text)
    samples = {words[0], words[len(words) // 2], words[-1]} if words else set()
    parameters = ({"match": f'"{word}"', "key": key} for word in samples)
    return all(connection.execute(sql("check_search_word"), each).fetchone() for each in parameters)
