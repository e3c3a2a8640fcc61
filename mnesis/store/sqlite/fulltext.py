"""The full-text index: add messages and rank them for a query, on any connection that has its tables.

A key is session_pk << 32 | seq. Small logs are ranked whole. In large logs, the blocks with the most important matches are
best first and only those are ranked, so the cost of a search does not grow with the log.
"""

from __future__ import annotations

import heapq
import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from zlib import crc32

from mnesis.formats.text import message_text
from mnesis.models.message import Message
from mnesis.models.search import Search
from mnesis.search.analysis import (
    ANALYSIS_VERSION,
    REPEATED_MARK,
    REPETITIONS,
    build_index_entry,
    identifier_pieces,
    joined_words,
    query_terms,
)
from mnesis.search.query_time import QueryTime, read_query_time
from mnesis.search.ranking import MessageStats, QueryTerm, inverse_document_frequency, rank
from mnesis.search.variants import MAX_VARIANT_CHARS, index_stem, similar_words, variants
from mnesis.store.forks import Segment
from mnesis.store.sqlite.queries import sql

SEQ_BITS = 32
BLOCK_BITS = 5
"""Large logs are divided into blocks of 2**5 = 32 messages."""
MAX_MESSAGES_RANKED_WHOLE = 4_096
"""Logs with at most this many messages are ranked whole."""
MAX_BLOCKS = 32
"""Blocks that are ranked in a large log: 32 blocks of 32 messages."""
MAX_KEYS_PER_WORD = 3_000
"""Messages with one word that are examined in a large log; a more frequent word says little."""
MAX_TRIGRAMS = 64
"""Trigrams of one query; further ones narrow the candidates little."""
MIN_SPEAKER_FRACTION = 0.1
"""A name before a colon is a speaker if this fraction of the messages begins with it; few begin with "Error:"."""

MAX_FALLBACK_WORDS = 8
"""Words of one query that are looked up in other ways."""
VARIANT_WEIGHT = 0.4
"""The weight of a word that was found only as a variant; it may be another word. Identifiers and numbers keep their weight."""
MIN_SIMILAR_CHARS = 4
MAX_VOCABULARY_WORDS = 100_000
"""Indexed words that are compared with a word that matches nothing. It bounds the time, about 50 milliseconds."""
MAX_SIMILAR_WORDS = 32

Span = tuple[int, int]


def key_of(session_pk: int, seq: int) -> int:
    """Return the index key of a message."""
    return session_pk << SEQ_BITS | seq


def seq_of(key: int) -> int:
    """Return the seq of the message with this key."""
    return key & (1 << SEQ_BITS) - 1


@dataclass(frozen=True, slots=True)
class LogRange:
    """The messages from `first_seq` to `last_seq` that one session stores, to search.

    `session_id` is the session whose log they are part of, and `owner_id` the one that stores them; a fork shares
    messages of others.
    """

    pk: int
    session_id: str
    last_seq: int
    first_seq: int = 1
    owner_id: str = ""

    @property
    def span(self) -> Span:
        return key_of(self.pk, self.first_seq), key_of(self.pk, self.last_seq)

    @property
    def count(self) -> int:
        """The number of its messages."""
        return self.last_seq - self.first_seq + 1


@dataclass(frozen=True)
class SearchScope:
    """The logs of one search, which it orders by key.

    `fork_pk` is the key of a fork, if the logs are the parts of its log: other sessions may have keys between them.
    """

    logs: tuple[LogRange, ...]
    fork_pk: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "logs", tuple(sorted(self.logs, key=lambda log: log.pk)))

    @cached_property
    def total(self) -> int:
        return sum(log.count for log in self.logs)

    @property
    def span(self) -> Span:
        """The keys from the first message to the last; an empty span if there are no logs."""
        return (self.logs[0].span[0], self.logs[-1].span[1]) if self.logs else (1, 0)

    @property
    def spans(self) -> tuple[Span, ...]:
        """The spans of keys to read: one for each part of a fork's log, else one for all logs."""
        return (self.span,) if self.fork_pk is None else tuple(log.span for log in self.logs)

    def log(self, key: int) -> LogRange:
        """Return the log that a key belongs to."""
        return self._by_pk[key >> SEQ_BITS]

    def message_count(self, session_pk: int) -> float:
        """Return the number of messages of a log; infinity for one that is not searched."""
        log = self._by_pk.get(session_pk)
        return log.count if log is not None else float("inf")

    @cached_property
    def _by_pk(self) -> dict[int, LogRange]:
        return {log.pk: log for log in self.logs}

    def contains(self, key: int) -> bool:
        log = self._by_pk.get(key >> SEQ_BITS)
        return log is not None and log.first_seq <= seq_of(key) <= log.last_seq


def fork_scope(pk: int, session_id: str, segments: Sequence[tuple[Segment, str]], last_seq: int) -> SearchScope:
    """Return the scope of a search of a fork up to `last_seq`. `segments` come with the sessions that store them."""
    parts = [
        LogRange(each.source_pk, session_id, min(each.last_seq, last_seq), each.first_seq, owner_id)
        for each, owner_id in segments
    ]
    own_first = segments[-1][0].last_seq + 1 if segments else 1
    parts.append(LogRange(pk, session_id, last_seq, own_first, session_id))
    return SearchScope(tuple(part for part in parts if part.count > 0), pk)


def indexed_up_to(connection: sqlite3.Connection, session_pk: int) -> tuple[int, int]:
    """Return the last indexed seq of a session, for words and for trigrams."""
    row = connection.execute(sql("search_state"), {"session_pk": session_pk, "rules": ANALYSIS_VERSION}).fetchone()
    return (row[0], row[1]) if row else (0, 0)


def drop_outdated(connection: sqlite3.Connection) -> None:
    """Clear the index if it was built with another version of the text analysis."""
    if connection.execute(sql("search_outdated"), {"rules": ANALYSIS_VERSION}).fetchone():
        clear_index(connection)


def clear_index(connection: sqlite3.Connection) -> None:
    """Clear the whole index. `unindex.remove_newest` removes one session."""
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
    """Write the checksum of how far a session is indexed. Does nothing if nothing of it is indexed."""
    row = connection.execute(sql("search_state_row"), {"session_pk": session_pk}).fetchone()
    if row is not None:
        connection.execute(sql("save_search_state"), (checksum((session_pk, *row[:3])), session_pk))


def checksum(row: tuple[object, ...]) -> int:
    """Return the checksum of the values of a row of the index."""
    return crc32(repr(row).encode("utf-8", "surrogatepass"))


def without_nul(text: str) -> str:
    """Replace NULs, at which the index would end the text."""
    return text.replace("\0", " ")


def rank_messages(
    connection: sqlite3.Connection, scope: SearchScope, search: Search, covered_seqs: frozenset[int] | None
) -> list[tuple[int, float]]:
    """Return the keys and scores of the messages that match a query, best first.

    `covered_seqs` are the seqs covered by `search.summary_id`, or None if it is not set.
    """
    allowed = _filtered_keys(connection, scope, search, covered_seqs)
    time = _with_event(connection, scope, read_query_time(search.query, search.now))
    of_the_time = _keys_of_the_time(connection, scope, time)
    if time.is_only_time and of_the_time:
        # What was before an event is returned from there on backwards.
        hits = [(key, 1.0) for key in sorted(of_the_time, reverse=time.event is not None and time.event.is_before)]
    else:
        hits = _rank_by_words(connection, scope, search.query, time, allowed, of_the_time)
    return [hit for hit in hits if allowed is None or hit[0] in allowed]


def _with_event(connection: sqlite3.Connection, scope: SearchScope, time: QueryTime) -> QueryTime:
    """Add the time of the event that a query mentions: that of the message which is most about it, if any is."""
    if time.event is None:
        return time
    event = time.event.text
    ranked = _rank_by_words(connection, scope, event, QueryTime(event), None, frozenset())
    terms = _look_up_words(connection, scope, event)
    if not ranked or 2 * sum(ranked[0][0] in term.keys for term in terms) < len(query_terms(event)):
        return time
    (row,) = _ranking_rows(connection, scope, (ranked[0][0], ranked[0][0]))
    return time.at_event(row.created_at)


def _keys_of_the_time(connection: sqlite3.Connection, scope: SearchScope, time: QueryTime) -> frozenset[int]:
    """Return the keys of the messages of the times that a query names; of dates, only if it names nothing else."""
    keys: set[int] = set()
    for each in time.expressions:
        keys.update(_keys_that_pass(connection, scope, Search("", after=each.span.start, before=each.span.end)))
    if time.is_only_time and time.dates:
        rows = (row for span in scope.spans for row in _ranking_rows(connection, scope, span))
        keys.update(row.key for row in rows if time.contains(row.created_at))
    return frozenset(filter(scope.contains, keys))


def _rank_by_words(
    connection: sqlite3.Connection,
    scope: SearchScope,
    query: str,
    time: QueryTime,
    allowed: frozenset[int] | None,
    of_the_time: frozenset[int],
) -> list[tuple[int, float]]:
    words = _look_up_words(connection, scope, time.text) or _look_up_words(connection, scope, query)
    if not words:
        return []
    spans = list(scope.spans)
    if scope.total > MAX_MESSAGES_RANKED_WHOLE:
        spans = _best_blocks(words, scope, allowed, of_the_time)
        words = [_with_all_keys(connection, scope, word, spans) for word in words]
    rows = [row for span in spans for row in _ranking_rows(connection, scope, span)]
    return rank(rows, words, scope.total, _speakers(connection, scope), time)


def _look_up_words(connection: sqlite3.Connection, scope: SearchScope, query: str) -> list[QueryTerm]:
    """Return the terms of a query that match messages. A word that matches nothing is looked up in other ways."""
    pieces, joined = identifier_pieces(query), joined_words(query)
    terms: list[QueryTerm] = []
    fallbacks = 0
    for forms in query_terms(query):
        term = _look_up(connection, scope, forms, " OR ".join(f'"{form}"' for form in forms))
        if not term.keys and fallbacks < MAX_FALLBACK_WORDS:
            fallbacks += 1
            term = _look_up_variants(connection, scope, forms, pieces.get(forms[0], ()), joined.get(forms[0], ()))
        if term.keys and term.expression not in {each.expression for each in terms}:
            terms.append(term)
    return terms


def _look_up_variants(
    connection: sqlite3.Connection,
    scope: SearchScope,
    forms: tuple[str, ...],
    pieces: Sequence[str],
    joined: Sequence[str],
) -> QueryTerm:
    """Look up a word that matches nothing in other ways. Stops at the first that finds a message."""
    for expression in variants(forms[0], pieces, joined):
        if (term := _look_up(connection, scope, forms, expression)).keys:
            return replace(term, weight=VARIANT_WEIGHT if forms[0].isalpha() and not pieces else 1.0)
    similar = _similar_words(connection, scope, forms[0])
    expression = " OR ".join(f'"{word}"*' for word in similar) or f'"{forms[0]}"'
    return replace(_look_up(connection, scope, forms, expression), weight=VARIANT_WEIGHT)


def _similar_words(connection: sqlite3.Connection, scope: SearchScope, word: str) -> list[str]:
    """Return indexed words that contain a word or differ by a typo, the most similar in length first."""
    if not MIN_SIMILAR_CHARS <= len(word) <= MAX_VARIANT_CHARS or not word.isalpha():
        return []
    rows = connection.execute(
        sql("search_vocabulary"), {"least": len(index_stem(word)) - 1, "limit": MAX_VOCABULARY_WORDS}
    )
    similar = similar_words(word, (term for (term,) in rows))
    return sorted(similar, key=lambda term: (len(term), term))[:MAX_SIMILAR_WORDS]


def _look_up(connection: sqlite3.Connection, scope: SearchScope, forms: tuple[str, ...], expression: str) -> QueryTerm:
    limit = MAX_MESSAGES_RANKED_WHOLE if scope.total <= MAX_MESSAGES_RANKED_WHOLE else MAX_KEYS_PER_WORD
    keys = [key for span in reversed(scope.spans) for key in _matching_keys(connection, expression, span, limit)][
        :limit
    ]
    frequency = len(keys) if len(keys) < limit else max(limit, scope.total // 4)
    term = QueryTerm(forms, _keys_in_scope(scope, keys), frequency, expression)
    return replace(term, repeated_keys=_repeated_keys(connection, scope, term, [scope.span], limit)) if keys else term


def _keys_in_scope(scope: SearchScope, keys: Iterable[int]) -> frozenset[int]:
    return frozenset(filter(scope.contains, keys)) if len(scope.logs) > 1 else frozenset(keys)


def _repeated_keys(
    connection: sqlite3.Connection, scope: SearchScope, term: QueryTerm, spans: Sequence[Span], limit: int
) -> tuple[frozenset[int], ...]:
    """Return for each of `REPETITIONS` the keys of messages that have a term as often.

    A term of several words, all of which must match, counts once.
    """
    levels: list[frozenset[int]] = []
    for level in range(1, len(REPETITIONS) + 1 if " AND " not in term.expression else 1):
        repeated = re.sub(r'"([^"]+)"', rf'"{REPEATED_MARK * level}\1"', term.expression)
        keys = (key for span in spans for key in _matching_keys(connection, repeated, span, limit))
        levels.append(_keys_in_scope(scope, keys))
        if not levels[-1]:
            break
    return tuple(levels)


def _matching_keys(connection: sqlite3.Connection, expression: str, span: Span, limit: int) -> list[int]:
    parameters = {"match": expression, "first_key": span[0], "last_key": span[1], "limit": limit}
    return [key for (key,) in connection.execute(sql("search_words"), parameters)]


def _with_all_keys(
    connection: sqlite3.Connection, scope: SearchScope, word: QueryTerm, spans: Sequence[Span]
) -> QueryTerm:
    """Complete the keys of a frequent term within `spans`; the lookup stopped at `MAX_KEYS_PER_WORD`."""
    if word.document_frequency < MAX_KEYS_PER_WORD:
        return word
    keys = (key for span in spans for key in _matching_keys(connection, word.expression, span, MAX_KEYS_PER_WORD))
    repeated = _repeated_keys(connection, scope, word, spans, MAX_KEYS_PER_WORD)
    return replace(word, keys=_keys_in_scope(scope, keys), repeated_keys=repeated)


def _best_blocks(
    words: Sequence[QueryTerm], scope: SearchScope, allowed: frozenset[int] | None, preferred: frozenset[int]
) -> list[Span]:
    """Choose the blocks in which the terms have the most weight, those with preferred keys first, in log order."""
    rare = [word for word in words if word.document_frequency < MAX_KEYS_PER_WORD] or words
    allowed_blocks = None if allowed is None else {key >> BLOCK_BITS for key in allowed}
    weights: Counter[int] = Counter()
    for word in rare:
        weight = inverse_document_frequency(word.document_frequency, scope.total)
        for block in {key >> BLOCK_BITS for key in word.keys}:
            weights[block] += weight  # type: ignore[assignment]  # a Counter of weights
    total_weight = sum(weights.values())
    for block in {key >> BLOCK_BITS for key in preferred}:
        weights[block] += total_weight
    best = heapq.nlargest(
        MAX_BLOCKS,
        ((weight, block) for block, weight in weights.items() if allowed_blocks is None or block in allowed_blocks),
    )
    return list(_merge_blocks(sorted(block for _, block in best)))


def _merge_blocks(blocks: Sequence[int]) -> Iterator[Span]:
    """Convert blocks to spans of keys, and merge neighbours."""
    starts = [b for a, b in pairwise([-2, *blocks]) if b != a + 1]
    ends = [a for a, b in pairwise([*blocks, 1 << 62]) if b != a + 1]
    for start, end in zip(starts, ends, strict=True):
        yield start << BLOCK_BITS, (end + 1 << BLOCK_BITS) - 1


def _ranking_rows(connection: sqlite3.Connection, scope: SearchScope, span: Span) -> Iterable[MessageStats]:
    parameters = {"first_key": max(span[0], scope.span[0]), "last_key": min(span[1], scope.span[1])}
    rows = map(MessageStats._make, connection.execute(sql("search_rows"), parameters))
    return rows if len(scope.logs) == 1 else (row for row in rows if scope.contains(row.key))


def _speakers(connection: sqlite3.Connection, scope: SearchScope) -> set[str]:
    parameters = {"first_pk": scope.logs[0].pk, "last_pk": scope.logs[-1].pk}
    return {
        speaker
        for session_pk, speaker, messages in connection.execute(sql("search_speakers"), parameters)
        if messages >= MIN_SPEAKER_FRACTION * scope.message_count(session_pk)
    }


def _filtered_keys(
    connection: sqlite3.Connection, scope: SearchScope, search: Search, covered_seqs: frozenset[int] | None
) -> frozenset[int] | None:
    """Return the keys that pass the filters, or None if there are no filters."""
    if not search.is_filtered:
        return None
    keys = _keys_that_pass(connection, scope, search)
    return frozenset(key for key in keys if covered_seqs is None or seq_of(key) in covered_seqs)


def _keys_that_pass(connection: sqlite3.Connection, scope: SearchScope, search: Search) -> Iterator[int]:
    filters = {"role": search.role, "tool": search.tool, "after": search.after, "before": search.before}
    return (
        key
        for first_key, last_key in scope.spans
        for (key,) in connection.execute(
            sql("search_filtered"), {"first_key": first_key, "last_key": last_key, **filters}
        )
    )


def substring_candidates(
    connection: sqlite3.Connection, scope: SearchScope, search: Search, covered_seqs: frozenset[int] | None
) -> Iterator[int]:
    """Yield the keys of messages that may contain `search.query` verbatim, newest first. The caller checks each."""
    allowed = _filtered_keys(connection, scope, search, covered_seqs)
    query_trigrams = trigrams(search.query)
    if query_trigrams:
        match = " AND ".join(query_trigrams)
        keys: Iterable[int] = (
            key
            for first_key, last_key in reversed(scope.spans)
            for (key,) in connection.execute(
                sql("search_trigrams"), {"match": match, "first_key": first_key, "last_key": last_key, "limit": -1}
            )
        )
    else:
        keys = (
            key_of(log.pk, seq) for log in reversed(scope.logs) for seq in range(log.last_seq, log.first_seq - 1, -1)
        )
    return (key for key in keys if scope.contains(key) and (allowed is None or key in allowed))


def _is_case_stable(text: str) -> bool:
    return text.isascii() or (text.isalnum() and text.lower() == text.upper())


def trigrams(text: str) -> list[str]:
    """Return some quoted trigrams of a text; empty if the text is too short for the index to help."""
    # "İ" has two characters in lower case, but not in the index.
    text = text.lower().replace("i\u0307", "\0")
    unique = dict.fromkeys(text[i : i + 3] for i in range(len(text) - 2))
    usable = [trigram for trigram in unique if "\0" not in trigram and _is_case_stable(trigram)]
    step = max(1, len(usable) // MAX_TRIGRAMS)
    return ['"{}"'.format(trigram.replace('"', '""')) for trigram in usable[::step]]
