"""Queries of the full-text index: rank messages by words, and find those that may contain a substring.

Small logs are ranked whole. In large logs, only the blocks and messages with the most important matches are ranked, so
the cost of a search does not grow with the log.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import NamedTuple, cast

from mnesis.models.search import Search
from mnesis.search.analysis import (
    REPEATED_MARK,
    REPETITIONS,
    excerpt_terms,
    identifier_pieces,
    joined_words,
    query_terms,
    term_weight,
)
from mnesis.search.passage_order import ORDERED_HITS, order_by_passages, passage_weight_of_log
from mnesis.search.query_time import QueryTime, read_query_time
from mnesis.search.ranking import (
    MessageStats,
    QueryTerm,
    inverse_document_frequency,
    length_share,
    put_newest_value_first,
    rank,
)
from mnesis.search.variants import MAX_VARIANT_CHARS, beginning, similar_words, variants
from mnesis.search.vectors import fuse, nearness
from mnesis.store.sqlite.candidates import MAX_KEYS_PER_WORD, choose_spans
from mnesis.store.sqlite.queries import sql
from mnesis.store.sqlite.search_scope import SearchScope, Span, key_of, seq_of
from mnesis.store.sqlite.search_vectors import read_vectors

MAX_MESSAGES_RANKED_WHOLE = 4_096
"""Logs with at most this many messages are ranked whole."""
MAX_TRIGRAMS = 64
"""Trigrams of one query; further ones narrow the candidates little."""
MIN_SPEAKER_FRACTION = 0.1
"""A name before a colon is a speaker if this fraction of the messages begins with it; few begin with "Error:"."""

MAX_FALLBACK_WORDS = 8
"""Words of one query that are looked up in other ways."""
VARIANT_WEIGHT = 0.4
"""The weight of a word that was found only as a variant; it may be another word. Identifiers and numbers keep their weight."""
EVENT_WORD_WEIGHT = 0.5
"""The weight of the words of an event whose time is known. The answer may be near the event, but the message about the
event is not the answer."""
MIN_QUESTION_WORDS = 3
"""A query of at least three words asks for a fact, even if the log has only one of them ("Who is my dentist?"). A shorter one asks
for everything about its words."""
MIN_SIMILAR_CHARS = 4
MAX_VOCABULARY_WORDS = 100_000
"""Indexed words that are compared with a word that matches nothing. It bounds the time, about 50 milliseconds a word."""
MAX_SIMILAR_WORDS = 32


ReadTexts = Callable[[Sequence[int]], Mapping[int, str]]


class RankedMessages(NamedTuple):
    """The keys and scores of the messages that match a query, best first, and what is known about their vectors."""

    hits: list[tuple[int, float]]
    missing_vectors: int = 0
    damaged_keys: tuple[int, ...] = ()


def rank_messages(
    connection: sqlite3.Connection,
    scope: SearchScope,
    search: Search,
    covered_seqs: frozenset[int] | None,
    read_texts: ReadTexts,
) -> RankedMessages:
    """Rank the messages that match a query.

    `covered_seqs` are the seqs covered by `search.summary_id`, or None if it is not set. `read_texts` returns the texts of
    messages by key, as far as they can be read. It is called only in logs of long messages.
    """
    allowed = _filtered_keys(connection, scope, search, covered_seqs)
    time = _with_event(connection, scope, read_query_time(search.query, search.now))
    of_the_time = _keys_of_the_time(connection, scope, time)
    if time.is_only_time and of_the_time:
        return RankedMessages(_hits_of_the_time(of_the_time, time, allowed))
    hits, words, passage_weight = _rank_by_words(connection, scope, search.query, time, allowed, of_the_time)
    if not words and search.vector is None:
        return RankedMessages(_hits_of_the_time(of_the_time, time, allowed))
    if allowed is not None:
        hits = [hit for hit in hits if hit[0] in allowed]
    # A time that the query names weighs more than passages and later values.
    if len(hits) > 1 and not (time.expressions or time.dates):
        comparable_keys = None
        if passage_weight:
            texts = read_texts([key for key, _ in hits[:ORDERED_HITS]])
            terms = excerpt_terms(time.text or search.query)
            hits, comparable_keys = order_by_passages(hits, texts, terms, passage_weight)
        min_terms = 1 if len(search.query.split()) >= MIN_QUESTION_WORDS else 2
        hits = put_newest_value_first(hits, words, scope.total, comparable_keys, min_terms)
    if search.vector is None:
        return RankedMessages(hits)
    stored = read_vectors(connection, scope, search.vector)
    near = nearness(search.vector.values, stored.vectors)
    covered = _coverage(hits, words, len(query_terms(time.text or search.query)), scope.total)
    hits = fuse(hits, near, covered, lambda key: allowed is None or key in allowed)
    return RankedMessages(hits, stored.missing, stored.damaged_keys)


def _hits_of_the_time(
    of_the_time: frozenset[int], time: QueryTime, allowed: frozenset[int] | None
) -> list[tuple[int, float]]:
    """Return the messages of a time in order; what was before an event is returned from there on backwards."""
    keys = sorted(of_the_time, reverse=time.event is not None and time.event.is_before)
    return [(key, 1.0) for key in keys if allowed is None or key in allowed]


def _coverage(
    hits: Sequence[tuple[int, float]], words: Sequence[QueryTerm], term_count: int, total_messages: int
) -> float:
    """Return the share of the weight of a query that the words of the best message have."""
    if not hits:
        return 0.0
    weights = [word.weight * inverse_document_frequency(word.document_frequency, total_messages) for word in words]
    matched = sum(weight for weight, word in zip(weights, words, strict=True) if hits[0][0] in word.keys)
    unknown = max(term_count - len(words), 0) * inverse_document_frequency(0, total_messages)
    return matched / ((sum(weights) + unknown) or 1.0)


def _with_event(connection: sqlite3.Connection, scope: SearchScope, time: QueryTime) -> QueryTime:
    """Add the time of the event that a query mentions: that of the message which is most about it, if any is."""
    if time.event is None:
        return time
    event = time.event.text
    ranked, terms, _ = _rank_by_words(connection, scope, event, QueryTime(event), None, frozenset())
    if not ranked or 2 * sum(ranked[0][0] in term.keys for term in terms) < len(query_terms(event)):
        return time
    (row,) = _ranking_rows(connection, scope, [(ranked[0][0], ranked[0][0])])
    _, _, created_at, _ = row
    return time.at_event(created_at)


def _keys_of_the_time(connection: sqlite3.Connection, scope: SearchScope, time: QueryTime) -> frozenset[int]:
    """Return the keys of the messages of the times that a query names; of dates, only if it names nothing else."""
    keys: set[int] = set()
    for each in time.expressions:
        keys.update(_keys_that_pass(connection, scope, Search("", after=each.span.start, before=each.span.end)))
    if time.is_only_time and time.dates:
        rows = _ranking_rows(connection, scope, scope.spans)
        keys.update(key for key, _, created_at, _ in rows if time.contains(created_at))
    return frozenset(filter(scope.contains, keys))


def _rank_by_words(
    connection: sqlite3.Connection,
    scope: SearchScope,
    query: str,
    time: QueryTime,
    allowed: frozenset[int] | None,
    of_the_time: frozenset[int],
) -> tuple[list[tuple[int, float]], list[QueryTerm], float]:
    """Return the ranked messages, the terms of the query that match any, and what passages count in the log."""
    words = _look_up_words(connection, scope, time.text)
    if not words and time.text != query:
        words = _look_up_words(connection, scope, query)
    if not words:
        return [], [], 0.0
    if time.event is not None and time.expressions:  # the event was found: its words say when, not what
        event_words = {forms[0] for forms in query_terms(time.event.text)}
        words = [
            replace(word, weight=EVENT_WORD_WEIGHT * word.weight) if word.forms[0] in event_words else word
            for word in words
        ]
    spans = list(scope.spans)
    if scope.total > MAX_MESSAGES_RANKED_WHOLE:
        spans = choose_spans(words, scope.total, allowed, of_the_time)
        words = _with_all_keys(connection, scope, words, spans)
    rows = list(_ranking_rows(connection, scope, spans))
    ranked = rank(rows, words, scope.total, _speakers(connection, scope), time)
    return ranked, words, passage_weight_of_log(length_share(rows)) if rows else 0.0


def expressions_of_query(search: Search) -> list[list[str]]:
    """Return the expressions that a search by words is likely to look up: those of its words, then those of each variant."""
    text = read_query_time(search.query, search.now).text
    pieces, joined = identifier_pieces(text), joined_words(text)
    words, groups = list[str](), list[list[str]]()
    for forms in query_terms(text):
        words += [" OR ".join(f'"{mark}{form}"' for form in forms) for mark in ("", REPEATED_MARK)]
        groups.append(list(variants(forms[0], pieces.get(forms[0], ()), joined.get(forms[0], ()))))
    return [words, *groups]


def _look_up_words(connection: sqlite3.Connection, scope: SearchScope, query: str) -> list[QueryTerm]:
    """Return the terms of a query that match messages. A word that matches nothing is looked up in other ways."""
    groups = query_terms(query)
    vocabulary = cache(partial(_read_vocabulary, connection))
    terms: dict[str, QueryTerm] = {}
    fallbacks = 0
    for term in _look_up(connection, scope, [(forms, _any_of(forms)) for forms in groups]):
        word = term.forms[0]
        if not term.keys and fallbacks < MAX_FALLBACK_WORDS:
            fallbacks += 1
            pieces, joined = identifier_pieces(query).get(word, ()), joined_words(query).get(word, ())
            term = _look_up_variants(connection, scope, term.forms, pieces, joined, vocabulary)
        if term.keys and term.expression not in terms:
            weight = term_weight(word, len(groups))
            terms[term.expression] = term if weight == 1.0 else replace(term, weight=term.weight * weight)
    return _with_repeated_keys(connection, scope, list(terms.values()), [scope.span], _key_limit(scope))


def _any_of(forms: Iterable[str]) -> str:
    """Return the expression of the index for any of some words."""
    return " OR ".join([f'"{form}"' for form in forms])


def _look_up_variants(
    connection: sqlite3.Connection,
    scope: SearchScope,
    forms: tuple[str, ...],
    pieces: Sequence[str],
    joined: Sequence[str],
    read_vocabulary: Callable[[], Sequence[str]],
) -> QueryTerm:
    """Look up a word that matches nothing in other ways. Stops at the first that finds a message."""
    for expression in variants(forms[0], pieces, joined):
        (term,) = _look_up(connection, scope, [(forms, expression)])
        if term.keys:
            return replace(term, weight=VARIANT_WEIGHT if forms[0].isalpha() and not pieces else 1.0)
    similar = _similar_words(forms[0], read_vocabulary)
    expression = " OR ".join(map(beginning, similar)) or _any_of(forms[:1])
    (term,) = _look_up(connection, scope, [(forms, expression)])
    return replace(term, weight=VARIANT_WEIGHT)


def _read_vocabulary(connection: sqlite3.Connection) -> list[str]:
    """Return the indexed words, without those marked as repeated."""
    rows = connection.execute(sql("search_vocabulary"), {"least": MIN_SIMILAR_CHARS - 2, "limit": MAX_VOCABULARY_WORDS})
    return [term for (term,) in rows if term[0] != REPEATED_MARK]


def _similar_words(word: str, read_vocabulary: Callable[[], Sequence[str]]) -> list[str]:
    """Return indexed words that contain a word or differ by a typo, the most similar in length first."""
    if not MIN_SIMILAR_CHARS <= len(word) <= MAX_VARIANT_CHARS or not word.isalpha():
        return []
    similar = similar_words(word, read_vocabulary())
    return sorted(similar, key=lambda term: (len(term), term))[:MAX_SIMILAR_WORDS]


def _look_up(
    connection: sqlite3.Connection, scope: SearchScope, wanted: Sequence[tuple[tuple[str, ...], str]]
) -> list[QueryTerm]:
    """Return a term for each pair of word forms and expression, in one statement. Terms without matches have no keys."""
    limit = _key_limit(scope)
    newest_first = scope.spans[::-1]
    matches = _matching_keys(connection, [expression for _, expression in wanted], newest_first, limit)
    return [
        QueryTerm(
            forms,
            _keys_in_scope(scope, keys[:limit]),
            len(keys) if len(keys) < limit else max(limit, scope.total // 4),
            expression,
        )
        for (forms, expression), keys in zip(wanted, matches, strict=True)
    ]


def _key_limit(scope: SearchScope) -> int:
    """Return how many messages with one word are examined."""
    return MAX_MESSAGES_RANKED_WHOLE if scope.total <= MAX_MESSAGES_RANKED_WHOLE else MAX_KEYS_PER_WORD


def _keys_in_scope(scope: SearchScope, keys: Iterable[int]) -> frozenset[int]:
    return frozenset(filter(scope.contains, keys)) if len(scope.logs) > 1 else frozenset(keys)


def _with_repeated_keys(
    connection: sqlite3.Connection, scope: SearchScope, terms: Sequence[QueryTerm], spans: Sequence[Span], limit: int
) -> list[QueryTerm]:
    """Add to each term for each of `REPETITIONS` the keys of messages that have it as often, in a statement for all terms.

    A term of several words, all of which must match, counts once.
    """
    levels: dict[str, list[frozenset[int]]] = {term.expression: [] for term in terms}
    expressions = [expression for expression in levels if " AND " not in expression]
    for level in range(1, len(REPETITIONS) + 1):
        if not expressions:
            break
        marked = [_mark(expression, REPEATED_MARK * level) for expression in expressions]
        for expression, keys in zip(expressions, _matching_keys(connection, marked, spans, limit), strict=True):
            levels[expression].append(_keys_in_scope(scope, keys))
        expressions = [expression for expression in expressions if levels[expression][-1]]
    return [
        replace(term, repeated_keys=tuple(repeated)) if any(repeated := levels[term.expression]) else term
        for term in terms
    ]


def _mark(expression: str, mark: str) -> str:
    """Put a mark before each word of an expression."""
    quoted = expression.split('"')  # every other part is a word
    quoted[1::2] = [mark + word for word in quoted[1::2]]
    return '"'.join(quoted)


def _matching_keys(
    connection: sqlite3.Connection, expressions: Sequence[str], spans: Sequence[Span], limit: int
) -> list[list[int]]:
    """Return the keys that match each expression, at most `limit` in each span, newest first. Sends one statement."""
    if not expressions:
        return []
    parameters = {"matches": json.dumps(expressions), "spans": json.dumps(spans), "limit": limit}
    matches: list[list[int]] = [[] for _ in expressions]
    for number, keys in connection.execute(sql("search_words"), parameters):
        matches[number] += json.loads(keys)
    return matches


def _with_all_keys(
    connection: sqlite3.Connection, scope: SearchScope, words: Sequence[QueryTerm], spans: Sequence[Span]
) -> list[QueryTerm]:
    """Complete the keys of frequent terms within `spans`; the lookup stopped at `MAX_KEYS_PER_WORD`."""
    frequent = [word for word in words if word.document_frequency >= MAX_KEYS_PER_WORD]
    if not frequent:
        return list(words)
    matches = _matching_keys(connection, [word.expression for word in frequent], spans, MAX_KEYS_PER_WORD)
    completed = [
        replace(word, keys=_keys_in_scope(scope, keys), repeated_keys=())
        for word, keys in zip(frequent, matches, strict=True)
    ]
    completed = _with_repeated_keys(connection, scope, completed, spans, MAX_KEYS_PER_WORD)
    by_expression = {word.expression: word for word in completed}
    return [by_expression.get(word.expression, word) for word in words]


def _ranking_rows(connection: sqlite3.Connection, scope: SearchScope, spans: Sequence[Span]) -> Iterable[MessageStats]:
    """Read what ranking needs to know about the messages of spans, in one statement."""
    first_key, last_key = scope.span
    inside = [(max(first, first_key), min(last, last_key)) for first, last in spans]
    # The columns are the fields of `MessageStats`; plain tuples are read twice as fast.
    rows = cast("Iterable[MessageStats]", connection.execute(sql("search_rows"), {"spans": json.dumps(inside)}))
    return rows if len(scope.logs) == 1 else (row for row in rows if scope.contains(row[0]))


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
