"""Transactions of search: bring the index up to date in short steps, and query it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial

from mnesis.errors import CorruptStoreError, MnesisStoreError, ReadOnlyStoreError, SummaryNotFoundError
from mnesis.models.message import Message
from mnesis.models.search import Search, SearchPage, UnembeddedMessage
from mnesis.redaction import get_logger
from mnesis.search.analysis import ANALYSIS_VERSION
from mnesis.search.hits import MatchingMessage, build_page, contains_text
from mnesis.search.pagination import SearchPosition, check_search, search_position
from mnesis.store.base import OnIndexed
from mnesis.store.codec import DamagedValueError
from mnesis.store.sqlite import fulltext, ranked_search
from mnesis.store.sqlite.accounts import load_session
from mnesis.store.sqlite.context import summary
from mnesis.store.sqlite.database import Database
from mnesis.store.sqlite.forks import load_segments
from mnesis.store.sqlite.log import locate_session
from mnesis.store.sqlite.queries import sql
from mnesis.store.sqlite.recreate_index import (
    has_expected_tables,
    is_index_damage,
    recreate_index,
    recreate_unreadable_index,
)
from mnesis.store.sqlite.rows import message_from_row
from mnesis.store.sqlite.search_blocks import mismatched_blocks, save_checksums
from mnesis.store.sqlite.search_messages import read_texts, readable_messages
from mnesis.store.sqlite.search_scope import LogRange, SearchScope, fork_scope
from mnesis.store.sqlite.search_vectors import delete_vectors, save_present_vectors, unembedded_messages
from mnesis.store.sqlite.unindex import merge_step, merge_words_step, remove_newest

logger = get_logger(__name__)

MAX_BATCH_MESSAGES = 256
"""The number of messages that one transaction indexes: about ten milliseconds, in which other writers wait."""
MAX_BATCH_CHARS = 500_000
"""A transaction stops after this many characters of stored parts, for the same reason."""
MIN_MERGED_MESSAGES = 1_024
MIN_MERGED_FRACTION = 1 / 3
"""After at least this many messages are indexed at once, and this fraction of all, the index is merged: a word is looked up twice as fast
as in the segments that 40 batches leave. With fewer new messages, the merges that FTS5 makes as it goes are enough."""
MAX_BATCH_SESSIONS = 256
"""The number of sessions that one transaction examines. Short sessions share a transaction, so that many of them cost
as much as one long session."""


async def find_page(database: Database, search: Search, on_progress: OnIndexed | None = None) -> SearchPage:
    """Return one page of a search, after indexing missing messages. A damaged index is built again first."""
    check_search(search)
    if not search.query.strip():
        return await database.read(_page, search, search_position(search), [])
    if not database.is_search_index_checked:
        database.is_search_index_checked = True
        await _check_index(database)
    try:
        return await _find_indexed_page(database, search, on_progress)
    except MnesisStoreError as error:
        if database.is_search_index_recreated or not is_index_damage(error):
            raise
        await _recreate_index(database)
        return await _find_indexed_page(database, search, on_progress)


async def messages_without_vectors(
    database: Database, session_id: str | None, model: str, after_seq: int, limit: int
) -> list[UnembeddedMessage]:
    """Return the next messages without a vector. A damaged index is replaced first."""
    try:
        return await database.read(_find_unembedded, session_id, model, after_seq, limit)
    except MnesisStoreError as error:
        if database.is_search_index_recreated or not is_index_damage(error):
            raise
        await _recreate_index(database)
        return await database.read(_find_unembedded, session_id, model, after_seq, limit)


async def save_message_vectors(database: Database, model: str, vectors: Mapping[int, bytes]) -> None:
    """Store the vectors of messages that are still there."""
    await database.write(save_present_vectors, model, vectors)


def _find_unembedded(
    connection: sqlite3.Connection, session_id: str | None, model: str, after_seq: int, limit: int
) -> list[UnembeddedMessage]:
    return unembedded_messages(
        connection, _search_scope(connection, session_id, SearchPosition()), model, after_seq, limit
    )


async def _find_indexed_page(database: Database, search: Search, on_progress: OnIndexed | None) -> SearchPage:
    damaged_keys: list[int] = []
    page = await database.read(_page_if_indexed, search, search_position(search), damaged_keys)
    if page is None:
        for substrings in _required_indexes(search):
            for session_id in await database.read(_sessions_to_search, search.session_id):
                await catch_up(database, session_id, substrings, on_progress)
        page = await database.read(_page, search, search_position(search), damaged_keys)
    if damaged_keys:
        logger.warning("%d damaged vectors of %s are computed again", len(damaged_keys), database.path)
        with suppress(ReadOnlyStoreError):
            await database.write(delete_vectors, damaged_keys)
    return page


async def _check_index(database: Database) -> None:
    """Replace the index if its blocks are damaged, because a search would silently miss messages."""
    try:
        is_damaged = bool(await database.read(mismatched_blocks))
    except MnesisStoreError as error:
        if not is_index_damage(error):
            raise
        is_damaged = True
    if is_damaged:
        await _recreate_index(database)


async def _recreate_index(database: Database) -> None:
    """Replace the index by an empty one, once per open database. Raises `CorruptStoreError` if it cannot be written."""
    database.is_search_index_recreated = True
    logger.warning("the search index of %s is damaged; it is built again from the log", database.path)
    try:
        await _replace_index(database)
    except ReadOnlyStoreError as error:
        raise CorruptStoreError(
            f"the search index of {database.path} is damaged, and this process cannot write the database; no message is"
            " affected, so run mnesis reindex where it can be written",
            db_path=database.path,
        ) from error


async def _replace_index(database: Database) -> None:
    try:
        await database.write(recreate_index)
    except MnesisStoreError as error:
        if not (isinstance(error, ReadOnlyStoreError) or is_index_damage(error)):
            raise
        await database.reconnect()
        await database.write(recreate_unreadable_index)


def _sessions_to_search(connection: sqlite3.Connection, session_id: str | None) -> list[str | None]:
    """Return the sessions whose index a search needs: those that a fork shares messages of come first."""
    if session_id is None:
        return [None]
    stored = load_session(connection, session_id)
    return [*(owner_id for _, owner_id in load_segments(connection, stored.pk)), session_id]


def _required_indexes(search: Search) -> list[bool]:
    """Return which indexes a search needs, as flags for substrings. Filters use the index of words."""
    if search.mode == "words":
        return [False]
    return [True, False] if search.is_filtered else [True]


async def catch_up(
    database: Database, session_id: str | None, substrings: bool, on_progress: OnIndexed | None = None
) -> None:
    """Index missing messages, one batch at a time. A read-only database is searched as far as it is indexed.

    `on_progress` is called after each batch.
    """
    total = missing = await database.read(_count_missing, session_id, substrings)
    new_messages = 0
    try:
        while missing > 0:
            indexed = await database.write(_index_batch, session_id, substrings)
            missing -= indexed
            new_messages += indexed
            if on_progress is not None:
                on_progress(total - max(missing, 0), total)
            if not indexed or missing <= 0:
                # In the meantime another search may have indexed the rest, or another writer may have appended more.
                before, missing = missing, await database.read(_count_missing, session_id, substrings)
                total = max(total, missing)
                if not indexed and missing >= before:  # damage: the counted messages cannot be found
                    logger.warning("%d messages of %s cannot be indexed; run mnesis doctor", missing, database.path)
                    return
        if not substrings and new_messages >= MIN_MERGED_MESSAGES:
            await _merge_words(database, new_messages)
    except ReadOnlyStoreError:
        logger.warning("%s cannot be written; only messages that are already indexed are searched", database.path)


async def _merge_words(database: Database, new_messages: int) -> None:
    """Merge the index of words, in steps between which others can write, if enough of its messages are new."""
    if new_messages < MIN_MERGED_FRACTION * await database.read(fulltext.count_indexed):
        return
    has_more = await database.write(merge_words_step, True)
    while has_more:
        has_more = await database.write(merge_words_step, False)
    await database.release_space()


async def reindex(database: Database, on_progress: OnIndexed | None = None) -> None:
    """Rebuild the index of words from the log."""
    try:
        await database.write(_clear)
    except MnesisStoreError as error:
        if not (isinstance(error, ReadOnlyStoreError) or is_index_damage(error)):
            raise
        await _replace_index(database)
    await catch_up(database, None, False, on_progress)


def _clear(connection: sqlite3.Connection) -> None:
    if mismatched_blocks(connection) or not has_expected_tables(connection):
        recreate_index(connection)
        return
    fulltext.clear_index(connection)
    save_checksums(connection)


async def unindex(database: Database, session_id: str) -> bool:
    """Remove a session from the index, one batch at a time. Returns whether it was indexed.

    A search at the same time finds fewer messages of the session, or indexes it again; the purge removes the rest.
    """
    if not await database.read(_is_indexed, session_id):
        return False
    try:
        while await database.write(_unindex_batch, session_id):
            pass
    except MnesisStoreError as error:
        await _repair_index(database, error)
    return True


async def merge_index(database: Database) -> None:
    """Merge the index, so that no word of removed messages remains in it. Other writers wait for single steps only.

    An index that cannot be merged is replaced by an empty one, which also contains no word.
    """
    try:
        has_more = await database.write(merge_step, True)
        while has_more:
            has_more = await database.write(merge_step, False)
    except MnesisStoreError as error:
        await _repair_index(database, error)


async def _repair_index(database: Database, error: MnesisStoreError) -> None:
    """Replace the index if an error of a write to it may come from damage in it; otherwise raise the error."""
    if not is_index_damage(error):
        raise error
    await _recreate_index(database)


def _is_indexed(connection: sqlite3.Connection, session_id: str) -> bool:
    parameters = {"session_pk": load_session(connection, session_id).pk}
    return connection.execute(sql("search_indexed"), parameters).fetchone() is not None


def _unindex_batch(connection: sqlite3.Connection, session_id: str) -> bool:
    return remove_newest(connection, load_session(connection, session_id).pk, session_id, MAX_BATCH_MESSAGES)


def _count_missing(connection: sqlite3.Connection, session_id: str | None, substrings: bool) -> int:
    """Return the number of messages that are not indexed, of one session or of all."""
    if session_id is not None:
        stored = load_session(connection, session_id)
        return max(0, stored.record.last_seq - fulltext.indexed_up_to(connection, stored.pk)[substrings])
    statement = sql("count_trigrams_behind" if substrings else "count_search_behind")
    count: int = connection.execute(statement, {"rules": ANALYSIS_VERSION}).fetchone()[0]
    return count


def _index_batch(connection: sqlite3.Connection, session_id: str | None, substrings: bool) -> int:
    """Index the next batch of a session, or of the sessions that are behind. Returns the number of its messages."""
    fulltext.drop_outdated(connection)
    indexed = size = 0
    for each in _sessions_to_index(connection, session_id, substrings):
        messages, chars = _index_session(connection, each, substrings, MAX_BATCH_MESSAGES - indexed)
        indexed, size = indexed + messages, size + chars
        if indexed >= MAX_BATCH_MESSAGES or size > MAX_BATCH_CHARS:
            break
    save_checksums(connection)
    return indexed


def _sessions_to_index(connection: sqlite3.Connection, session_id: str | None, substrings: bool) -> list[str]:
    """Return ids of sessions that are not fully indexed, at most `MAX_BATCH_SESSIONS`."""
    if session_id is not None:
        return [session_id]
    statement = sql("search_trigrams_behind" if substrings else "search_behind")
    return [session_id for (session_id,) in connection.execute(statement, {"limit": MAX_BATCH_SESSIONS})]


def _index_session(
    connection: sqlite3.Connection, session_id: str, substrings: bool, max_messages: int
) -> tuple[int, int]:
    """Index the next messages of a session, even if its accounts are damaged. Returns their number and stored characters."""
    session_pk, _, _ = locate_session(connection, session_id)
    after_seq = fulltext.indexed_up_to(connection, session_pk)[substrings]
    parameters = {"session_pk": session_pk, "after_seq": after_seq, "limit": max_messages}
    batch: list[Message] = []
    size, last_seq = 0, after_seq
    for row in connection.execute(sql("search_to_index"), parameters):
        size, last_seq = size + len(row[3]), row[0]
        try:
            batch.append(message_from_row(session_id, row))
        except DamagedValueError:
            logger.warning("message %s of session %r is damaged and cannot be searched", last_seq, session_id)
        if size > MAX_BATCH_CHARS:
            break
    if last_seq == after_seq:
        # No row is left, regardless of the accounts, so the session counts as indexed and the loop ends.
        last_seq = connection.execute(sql("check_last_seq"), {"session_pk": session_pk}).fetchone()[0]
    (fulltext.add_trigrams if substrings else fulltext.add_words)(connection, session_pk, batch, last_seq)
    return last_seq - after_seq, size


def _page_if_indexed(
    connection: sqlite3.Connection, search: Search, place: SearchPosition, damaged_keys: list[int]
) -> SearchPage | None:
    """Return a page of a search, or None if messages are missing in the index. One read does for most searches."""
    scope = _search_scope(connection, search.session_id, place)
    if any(_is_behind(connection, scope, search.session_id, substrings) for substrings in _required_indexes(search)):
        return None
    return _page_of_scope(connection, scope, search, place, damaged_keys)


def _is_behind(connection: sqlite3.Connection, scope: SearchScope, session_id: str | None, substrings: bool) -> bool:
    """Return whether messages of a scope are missing in the index."""
    if session_id is None:
        return _count_missing(connection, None, substrings) > 0
    return any(fulltext.indexed_up_to(connection, log.pk)[substrings] < log.last_seq for log in scope.logs)


def _page(connection: sqlite3.Connection, search: Search, place: SearchPosition, damaged_keys: list[int]) -> SearchPage:
    """Return a page of a search of the indexed messages."""
    scope = _search_scope(connection, search.session_id, place)
    return _page_of_scope(connection, scope, search, place, damaged_keys)


def _page_of_scope(
    connection: sqlite3.Connection, scope: SearchScope, search: Search, place: SearchPosition, damaged_keys: list[int]
) -> SearchPage:
    """Return a page of a search. Adds the keys of messages with damaged vectors to `damaged_keys`."""
    covered_seqs = _covered_seqs(connection, scope, search) if search.summary_id is not None else None
    if not search.query.strip() or not scope.logs:
        return SearchPage()
    last_seq = scope.logs[-1].last_seq if search.session_id is not None else 0
    if search.mode == "substring":
        return build_page(_substring_matches(connection, scope, search, covered_seqs), search, place, last_seq)
    ranked = ranked_search.rank_messages(
        connection, scope, search, covered_seqs, partial(read_texts, connection, scope)
    )
    damaged_keys += ranked.damaged_keys
    scores = dict(ranked.hits[place.offset :])
    matching = (
        MatchingMessage(message, scores[key], summary_id)
        for key, message, summary_id in readable_messages(connection, scope, list(scores), search)
    )
    return replace(build_page(matching, search, place, last_seq), missing_vectors=ranked.missing_vectors)


def _search_scope(connection: sqlite3.Connection, session_id: str | None, place: SearchPosition) -> SearchScope:
    if session_id is None:
        logs = (
            LogRange(pk, name, last_seq, shared_seq + 1)
            for pk, name, last_seq, shared_seq in connection.execute(sql("search_logs"))
        )
        return SearchScope(tuple(log for log in logs if log.count))
    stored = load_session(connection, session_id)
    last_seq = min(place.last_seq or stored.record.last_seq, stored.record.last_seq)
    if stored.record.forked_from is not None:
        return fork_scope(stored.pk, session_id, load_segments(connection, stored.pk), last_seq)
    return SearchScope((LogRange(stored.pk, session_id, last_seq),) if last_seq else ())


def _covered_seqs(connection: sqlite3.Connection, scope: SearchScope, search: Search) -> frozenset[int]:
    if search.session_id is None or search.summary_id is None:
        raise SummaryNotFoundError(str(search.summary_id), location="a search of every session")
    summary(connection, search.session_id, search.summary_id)
    parameters = {"session_pk": load_session(connection, search.session_id).pk, "id": search.summary_id}
    return frozenset(seq for (seq,) in connection.execute(sql("search_behind_summary"), parameters))


def _substring_matches(
    connection: sqlite3.Connection, scope: SearchScope, search: Search, covered_seqs: frozenset[int] | None
) -> Iterator[MatchingMessage]:
    match_count, offset = 0, search_position(search).offset
    keys = ranked_search.substring_candidates(connection, scope, search, covered_seqs)
    for _, message, summary_id in readable_messages(connection, scope, keys, search):
        if not contains_text(message, search.query):
            continue
        match_count += 1
        if match_count > offset:
            yield MatchingMessage(message, 1.0, summary_id)
