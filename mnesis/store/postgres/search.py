"""Transactions of search: bring the index up to date in short steps, and query it."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, cast

from mnesis.errors import ReadOnlyStoreError, SessionNotFoundError, SummaryNotFoundError
from mnesis.formats.text import message_text
from mnesis.models.message import Message
from mnesis.models.search import Search, SearchPage, UnembeddedMessage
from mnesis.redaction import get_logger
from mnesis.search.analysis import ANALYSIS_VERSION, build_index_entry
from mnesis.search.hits import MatchingMessage, build_page, contains_text
from mnesis.search.pagination import SearchPosition, check_search, page_limit, search_position
from mnesis.store.base import OnIndexed
from mnesis.store.codec import DamagedValueError
from mnesis.store.forks import Segment
from mnesis.store.postgres.rows import Row, from_text, is_storable_id, message_from_row, to_text
from mnesis.store.postgres.search_index import SearchIndex
from mnesis.store.postgres.search_terms import trigram_hashes, trigrams_of, words_by_key
from mnesis.store.postgres.segments import load_segments
from mnesis.store.postgres.stored_session import StoredSession
from mnesis.store.postgres.transaction import Transaction, session_parameters, stored_session
from mnesis.store.sqlite import ranked_search
from mnesis.store.sqlite.search_scope import LogRange, SearchScope, fork_scope, key_of

if TYPE_CHECKING:
    from mnesis.store.postgres.database import PostgresDatabase

logger = get_logger(__name__)

MAX_BATCH_MESSAGES = 256
"""The number of messages that one transaction indexes."""
MAX_BATCH_CHARS = 500_000
"""A transaction stops after this many bytes of stored parts."""
MAX_BATCH_SESSIONS = 256
"""The number of sessions that one transaction examines."""
SUBSTRING_PAGE = 64
"""The number of candidates of a substring that are read and compared at once."""


async def find_page(database: PostgresDatabase, search: Search, on_progress: OnIndexed | None = None) -> SearchPage:
    """Return one page of a search, after indexing missing messages."""
    check_search(search)
    place = search_position(search)
    if search.query.strip():
        for substrings in _required_indexes(search):
            for session_id in await _sessions_to_search(database, search.session_id):
                await catch_up(database, session_id, substrings, on_progress)
    return await database.read(_page, search, place)


async def _sessions_to_search(database: PostgresDatabase, session_id: str | None) -> list[str | None]:
    """Return the sessions whose index a search needs. Sessions that share messages with a fork come before it."""
    return [None] if session_id is None else [*await database.read(_sessions_of_log, session_id)]


def _sessions_of_log(transaction: Transaction, session_id: str) -> list[str]:
    stored = _load(transaction, session_id)
    return [*(owner_id for _, owner_id in _segments(transaction, stored)), session_id]


def _segments(transaction: Transaction, stored: StoredSession) -> list[tuple[Segment, str]]:
    return load_segments(transaction, stored.pk) if stored.record.forked_from is not None else []


def _required_indexes(search: Search) -> list[bool]:
    """Return which indexes a search needs, as flags for substrings. Filters use the index of words."""
    if search.mode == "words":
        return [False]
    return [True, False] if search.is_filtered else [True]


async def catch_up(
    database: PostgresDatabase, session_id: str | None, substrings: bool, on_progress: OnIndexed | None = None
) -> None:
    """Index missing messages, one batch at a time. A read-only database is searched as far as it is indexed.

    `on_progress` is called after each batch.
    """
    count = database.read if session_id is not None else database.read_one_statement
    total = missing = await count(_count_missing, session_id, substrings)
    try:
        while missing > 0:
            indexed = await database.write_without_listing(_index_batch, session_id, substrings)
            missing -= indexed
            if on_progress is not None:
                on_progress(total - max(missing, 0), total)
            if not indexed or missing <= 0:
                # In the meantime another search may have indexed the rest, or another writer may have appended more.
                missing = await database.read(_count_missing, session_id, substrings)
                total = max(total, missing)
    except ReadOnlyStoreError:
        logger.warning("%s cannot be written; only messages that are already indexed are searched", database.location)


async def reindex(database: PostgresDatabase, on_progress: OnIndexed | None = None) -> None:
    """Rebuild the index of words from the log."""
    for session_pk in await database.read(_indexed_sessions):
        await database.write_without_listing(_clear, session_pk)
    await catch_up(database, None, False, on_progress)


def lock_index(transaction: Transaction) -> None:
    """Wait until no other process is indexing, and prevent others from indexing until the end of the transaction."""
    transaction.send("lock_index")


def _indexed_sessions(transaction: Transaction) -> list[int]:
    return [session_pk for (session_pk,) in transaction.rows("search_states")]


def _clear(transaction: Transaction, session_pk: int) -> None:
    lock_index(transaction)
    transaction.send("clear_search", {"session_pk": session_pk})


def _indexed_up_to(transaction: Transaction, session_pk: int) -> tuple[int, int]:
    """Return the last indexed seq of a session, for words and for trigrams."""
    row = transaction.row("search_state", {"session_pk": session_pk})
    return (row[1], row[2]) if row is not None and row[0] == ANALYSIS_VERSION else (0, 0)


def _count_missing(transaction: Transaction, session_id: str | None, substrings: bool) -> int:
    """Return the number of messages that are not indexed, of one session or of all."""
    if session_id is not None:
        stored = _load(transaction, session_id)
        return max(0, stored.record.last_seq - _indexed_up_to(transaction, stored.pk)[substrings])
    return int(transaction.value("count_search_behind", {"rules": ANALYSIS_VERSION, "substrings": substrings}))


def _sessions_to_index(transaction: Transaction, session_id: str | None, substrings: bool) -> list[str]:
    """Return ids of sessions that are not fully indexed, at most `MAX_BATCH_SESSIONS`."""
    if session_id is not None:
        return [session_id]
    parameters = {"rules": ANALYSIS_VERSION, "substrings": substrings, "limit": MAX_BATCH_SESSIONS}
    return [from_text(name) for (name,) in transaction.rows("search_behind", parameters)]


def _load(transaction: Transaction, session_id: str) -> StoredSession:
    return stored_session(session_id, transaction.send("session", session_parameters(session_id)))


def _index_batch(transaction: Transaction, session_id: str | None, substrings: bool) -> int:
    """Index the next batch of a session, or of the sessions that are behind. Returns the number of its messages."""
    indexed = size = 0
    for each in _sessions_to_index(transaction, session_id, substrings):
        try:
            messages, chars = _index_session(transaction, each, substrings, MAX_BATCH_MESSAGES - indexed)
        except SessionNotFoundError:
            if session_id is not None:
                raise
            continue
        indexed, size = indexed + messages, size + chars
        if indexed >= MAX_BATCH_MESSAGES or size > MAX_BATCH_CHARS:
            break
    return indexed


def _index_session(transaction: Transaction, session_id: str, substrings: bool, max_messages: int) -> tuple[int, int]:
    """Index the next messages of a session. Returns their number and stored bytes."""
    session_pk = _load(transaction, session_id).pk
    transaction.send("lock_session_index", {"session_pk": session_pk})
    state_answer = transaction.send("search_state", {"session_pk": session_pk})
    stored = _load(transaction, session_id)  # a purge may have come first
    state = state_answer.row()
    if state is not None and state[0] != ANALYSIS_VERSION:
        transaction.send("clear_search", {"session_pk": session_pk})
        state = None
    after_seq = state[1 + substrings] if state is not None else 0
    parameters = {"session_pk": session_pk, "after_seq": after_seq, "limit": max_messages}
    batch: list[Message] = []
    size, last_seq = 0, after_seq
    for row in transaction.rows("search_to_index", parameters):
        size, last_seq = size + len(row[3]), row[0]
        try:
            batch.append(message_from_row(session_id, row))
        except DamagedValueError:
            logger.warning("message %d of session %r is damaged and cannot be searched", last_seq, session_id)
        if size > MAX_BATCH_CHARS:
            break
    if last_seq == after_seq:
        # No row is left, regardless of the accounts, so the session counts as indexed and the loop ends.
        last_seq = stored.record.last_seq
    (_add_trigrams if substrings else _add_words)(transaction, session_pk, batch)
    progress = {"session_pk": session_pk, "rules": ANALYSIS_VERSION, "seq": last_seq}
    transaction.send("set_search_trigrams" if substrings else "set_search_words", progress)
    return last_seq - after_seq, size


def _add_words(transaction: Transaction, session_pk: int, messages: Sequence[Message]) -> None:
    entries = {key_of(session_pk, message.seq): (message, build_index_entry(message)) for message in messages}
    words = words_by_key({key: entry.text.replace("\0", " ") for key, (_, entry) in entries.items()})
    pairs = sorted((term, key) for key, terms in words.items() for term in terms)
    terms = {"terms": [term for term, _ in pairs], "keys": [key for _, key in pairs]}
    transaction.send("insert_search_words", terms)
    transaction.send("insert_search_vocabulary", {"terms": sorted({term for term, _ in pairs})})
    transaction.send_many(
        "insert_search_row",
        [
            {
                "key": key,
                "words": entry.word_count,
                "created_at": message.created_at,
                "role": message.role,
                "speaker": to_text(entry.speaker),
                "tools": to_text(entry.tool_names),
            }
            for key, (message, entry) in entries.items()
        ],
    )
    speakers = Counter(entry.speaker for _, entry in entries.values() if entry.speaker)
    transaction.send_many(
        "insert_search_speaker",
        [
            {"session_pk": session_pk, "speaker": to_text(speaker), "messages": count}
            for speaker, count in sorted(speakers.items())
        ],
    )


def _add_trigrams(transaction: Transaction, session_pk: int, messages: Sequence[Message]) -> None:
    transaction.send_many(
        "insert_search_trigrams",
        [
            {
                "key": key_of(session_pk, message.seq),
                "trigrams": trigram_hashes(trigrams_of(message_text(message))),
            }
            for message in messages
        ],
    )


def _page(transaction: Transaction, search: Search, place: SearchPosition) -> SearchPage:
    scope = _search_scope(transaction, search.session_id, place)
    covered_seqs = _covered_seqs(transaction, scope, search) if search.summary_id is not None else None
    if not search.query.strip() or not scope.logs:
        return SearchPage()
    # Ranking asks for rows by the name of a statement, as `sqlite3.Connection.execute` gives them.
    groups = ranked_search.expressions_of_query(search) if search.mode == "words" else []
    index = cast("sqlite3.Connection", SearchIndex(transaction, groups))
    matching: Iterator[MatchingMessage]
    missing_vectors = 0
    if search.mode == "substring":
        keys = ranked_search.substring_candidates(index, scope, search, covered_seqs)
        matching = islice(_substring_matches(transaction, scope, search, keys), place.offset, None)
    else:
        ranked = ranked_search.rank_messages(
            index, scope, search, covered_seqs, partial(_read_texts, transaction, scope)
        )
        missing_vectors = ranked.missing_vectors
        page = ranked.hits[place.offset : place.offset + page_limit(search.limit) + 1]
        scores = dict(page)
        matching = (
            MatchingMessage(message, scores[key], summary_id)
            for key, message, summary_id in _load_messages(transaction, scope, list(scores))
        )
    page_of_hits = build_page(matching, search, place, scope.logs[-1].last_seq if search.session_id is not None else 0)
    return replace(page_of_hits, missing_vectors=missing_vectors)


def messages_without_vectors(
    transaction: Transaction, session_id: str | None, model: str, after_seq: int, limit: int
) -> list[UnembeddedMessage]:
    """Return the next messages without a vector."""
    unembedded: list[UnembeddedMessage] = []
    for log in _search_scope(transaction, session_id, SearchPosition()).logs:
        parameters = {
            "session_pk": log.pk,
            "first_seq": max(log.first_seq, after_seq + 1),
            "last_seq": log.last_seq,
            "model": to_text(model),
            "limit": limit - len(unembedded),
        }
        rows = transaction.rows("search_without_vectors", parameters)
        unembedded += (UnembeddedMessage(key_of(log.pk, row[0]), _readable_text(log, row)) for row in rows)
        if len(unembedded) >= limit:
            break
    return unembedded


def _readable_text(log: LogRange, row: Row) -> str:
    """Return the text of a message, or "" if it is damaged. The vector of "" resembles no query."""
    try:
        return message_text(message_from_row(log.session_id, (*row, to_text(log.owner_id or log.session_id))))
    except DamagedValueError:
        return ""


def save_vectors(transaction: Transaction, model: str, vectors: Mapping[int, bytes]) -> None:
    """Store the vectors of those messages that still exist."""
    name = to_text(model)
    transaction.send_many(
        "save_search_vectors",
        [{"key": key, "model": name, "vectors": stored} for key, stored in sorted(vectors.items())],
    )


def _search_scope(transaction: Transaction, session_id: str | None, place: SearchPosition) -> SearchScope:
    if session_id is None:
        rows = transaction.rows("search_logs")
        logs = (LogRange(pk, from_text(name), last_seq, shared_seq + 1) for pk, name, last_seq, shared_seq in rows)
        return SearchScope(tuple(log for log in logs if log.count))
    stored = _load(transaction, session_id)
    last_seq = min(place.last_seq or stored.record.last_seq, stored.record.last_seq)
    if stored.record.forked_from is not None:
        return fork_scope(stored.pk, session_id, _segments(transaction, stored), last_seq)
    return SearchScope((LogRange(stored.pk, session_id, last_seq),) if last_seq else ())


def _covered_seqs(transaction: Transaction, scope: SearchScope, search: Search) -> frozenset[int]:
    summary_id = str(search.summary_id)
    if search.session_id is None:
        raise SummaryNotFoundError(summary_id, location="a search of every session")
    known_id = to_text(summary_id) if is_storable_id(summary_id) else None
    if transaction.row("summary", session_parameters(search.session_id) | {"summary_id": known_id}) is None:
        raise SummaryNotFoundError(summary_id, location=f"session {search.session_id!r}")
    parameters = {"session_pk": _load(transaction, search.session_id).pk, "id": known_id}
    return frozenset(seq for (seq,) in transaction.rows("search_behind_summary", parameters))


def _substring_matches(
    transaction: Transaction, scope: SearchScope, search: Search, keys: Iterator[int]
) -> Iterator[MatchingMessage]:
    while page := list(islice(keys, SUBSTRING_PAGE)):
        for _, message, summary_id in _load_messages(transaction, scope, page):
            if contains_text(message, search.query):
                yield MatchingMessage(message, 1.0, summary_id)


def _load_messages(
    transaction: Transaction, scope: SearchScope, keys: Sequence[int]
) -> Iterator[tuple[int, Message, str | None]]:
    """Yield messages in the order of `keys`, each with the summary that covers it."""
    rows = {row[9]: row for row in transaction.rows("search_messages", {"keys": list(keys), "fork_pk": scope.fork_pk})}
    for key in keys:
        row = rows[key]
        yield key, _message_from_row(scope, row), None if row[10] is None else from_text(row[10])


def _read_texts(transaction: Transaction, scope: SearchScope, keys: Sequence[int]) -> dict[int, str]:
    """Return the texts of messages by key, without those of damaged messages."""
    texts: dict[int, str] = {}
    for row in transaction.rows("search_messages", {"keys": list(keys), "fork_pk": scope.fork_pk}):
        with suppress(DamagedValueError):
            texts[row[9]] = message_text(_message_from_row(scope, row))
    return texts


def _message_from_row(scope: SearchScope, row: Row) -> Message:
    log = scope.log(row[9])
    return message_from_row(log.session_id, (*row[:9], to_text(log.owner_id or log.session_id)))
