"""Transactions of searching: bringing the index up to the log in short steps, and looking things up in it."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator

from mnesis.errors import CorruptStoreError, ReadOnlyStoreError, SummaryNotFoundError
from mnesis.models.message import Message
from mnesis.models.search import Search, SearchHit, SearchPage
from mnesis.search.hits import hit_of, holds_text, page_of
from mnesis.search.pagination import Place, check_search, parse_place
from mnesis.store.sqlite import fulltext
from mnesis.store.sqlite.context import summary
from mnesis.store.sqlite.database import Database
from mnesis.store.sqlite.fulltext import Log, Logs, seq_of
from mnesis.store.sqlite.queries import sql
from mnesis.store.sqlite.rows import message_from_row, stored_session

logger = logging.getLogger(__name__)

BATCH_MESSAGES = 256
"""How many messages one transaction indexes: some ten milliseconds in which other writers wait."""
BATCH_CHARS = 500_000
BATCH_SESSIONS = 64


async def run(database: Database, search: Search, where: str) -> SearchPage:
    """One page of a search, of the log as it stands."""
    check_search(search)
    place = parse_place(search)
    if search.query.strip():
        for substrings in _needed(search):
            await catch_up(database, search.session_id, substrings, where)
    return await database.read(_page, search, place, where)


def _needed(search: Search) -> list[bool]:
    """Which indexes a search looks at; filters look at what the index of words knows."""
    if search.mode == "words":
        return [False]
    return [True, False] if search.is_filtered else [True]


async def catch_up(database: Database, session_id: str | None, substrings: bool, where: str) -> None:
    """Index what is missing, a batch at a time. A database that cannot be written is searched as far as it is indexed."""
    try:
        while sessions := await database.read(_behind, session_id, substrings, where):
            for each in sessions:
                while await database.write(_index, each, substrings, where):
                    pass
            if session_id is not None:
                return
    except ReadOnlyStoreError:
        logger.warning("%s cannot be written; only what is indexed already is searched", where)


async def reindex(database: Database, where: str) -> None:
    """Make the index of words anew, from the log."""
    await database.write(fulltext.empty)
    await catch_up(database, None, False, where)


def _behind(connection: sqlite3.Connection, session_id: str | None, substrings: bool, where: str) -> list[str]:
    """Sessions that are not indexed to their end, some of them at a time."""
    if session_id is not None:
        stored = stored_session(connection, session_id, where)
        return [session_id] if fulltext.reach(connection, stored.pk)[substrings] < stored.record.last_seq else []
    statement = "search_trigrams_behind" if substrings else "search_behind"
    return [found for (found,) in connection.execute(sql(statement), {"limit": BATCH_SESSIONS})]


def _index(connection: sqlite3.Connection, session_id: str, substrings: bool, where: str) -> bool:
    """Index the next batch of a session. True if there is more."""
    fulltext.drop_outdated(connection)
    stored = stored_session(connection, session_id, where)
    after_seq = fulltext.reach(connection, stored.pk)[substrings]
    parameters = {"session_pk": stored.pk, "after_seq": after_seq, "limit": BATCH_MESSAGES}
    batch: list[Message] = []
    size, last_seq = 0, stored.record.last_seq
    for row in connection.execute(sql("search_to_index"), parameters):
        size, last_seq = size + len(row[3]), row[0]
        try:
            batch.append(message_from_row(session_id, row, where))
        except CorruptStoreError:
            logger.warning("message %d of session %r is damaged and cannot be searched", last_seq, session_id)
        if size > BATCH_CHARS:
            break
    (fulltext.add_trigrams if substrings else fulltext.add_words)(connection, stored.pk, batch, last_seq)
    return last_seq < stored.record.last_seq


def _page(connection: sqlite3.Connection, search: Search, place: Place, where: str) -> SearchPage:
    logs = _logs(connection, search.session_id, place, where)
    if search.summary_id is not None:
        behind: frozenset[int] | None = _places_behind(connection, logs, search, where)
    else:
        behind = None
    if not search.query.strip() or not logs.logs:
        return SearchPage()
    if search.mode == "substring":
        found = _substring_hits(connection, logs, search, behind, where)
    else:
        found = (
            _hit(connection, logs, key, score, search, where)
            for key, score in fulltext.ranked(connection, logs, search, behind)[place.offset :]
        )
    return page_of(found, search, place, logs.logs[0].last_seq if search.session_id is not None else 0)


def _logs(connection: sqlite3.Connection, session_id: str | None, place: Place, where: str) -> Logs:
    if session_id is None:
        return Logs(tuple(Log(*row) for row in connection.execute(sql("search_logs")) if row[2]))
    stored = stored_session(connection, session_id, where)
    last_seq = min(place.last_seq or stored.record.last_seq, stored.record.last_seq)
    return Logs((Log(stored.pk, session_id, last_seq),) if last_seq else ())


def _places_behind(connection: sqlite3.Connection, logs: Logs, search: Search, where: str) -> frozenset[int]:
    if search.session_id is None or search.summary_id is None:
        raise SummaryNotFoundError(str(search.summary_id), where="a search through every session")
    summary(connection, search.session_id, search.summary_id, where)
    parameters = {"session_pk": logs.logs[0].pk if logs.logs else 0, "id": search.summary_id}
    return frozenset(seq for (seq,) in connection.execute(sql("search_behind_summary"), parameters))


def _substring_hits(
    connection: sqlite3.Connection, logs: Logs, search: Search, behind: frozenset[int] | None, where: str
) -> Iterator[SearchHit]:
    skipped, offset = 0, parse_place(search).offset
    for key in fulltext.with_substring(connection, logs, search, behind):
        message = _message(connection, logs, key, where)
        if not holds_text(message, search.query):
            continue
        skipped += 1
        if skipped > offset:
            yield hit_of(message, 1.0, search, _covering(connection, key))


def _hit(connection: sqlite3.Connection, logs: Logs, key: int, score: float, search: Search, where: str) -> SearchHit:
    return hit_of(_message(connection, logs, key, where), score, search, _covering(connection, key))


def _message(connection: sqlite3.Connection, logs: Logs, key: int, where: str) -> Message:
    log = logs.log(key)
    row = connection.execute(sql("search_message"), {"session_pk": log.pk, "seq": seq_of(key)}).fetchone()
    return message_from_row(log.session_id, row, where)


def _covering(connection: sqlite3.Connection, key: int) -> str | None:
    """The summary that stands for a message now."""
    parameters = {"session_pk": key >> fulltext.SEQ_BITS, "seq": seq_of(key)}
    row = connection.execute(sql("search_covering"), parameters).fetchone()
    return row[1] if row and row[0] >= seq_of(key) else None
