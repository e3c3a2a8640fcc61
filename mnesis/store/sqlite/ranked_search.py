"""Queries of the full-text index: rank messages by words, and find those that may contain a substring.

Small logs are ranked whole. In large logs, the blocks and messages with the most important matches are ranked only, so the cost of a search
does not grow with the log.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
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
from mnesis.search.variants import MAX_VARIANT_CHARS, beginning, index_stem, similar_words, variants
from mnesis.search.vectors import fuse, nearness
from mnesis.store.sqlite.queries import sql
from mnesis.store.sqlite.search_scope import SearchScope, Span, key_of, seq_of
from mnesis.store.sqlite.search_vectors import read_vectors

BLOCK_BITS = 4
"""Large logs are divided into blocks of 2**4 = 16 messages."""
MAX_MESSAGES_RANKED_WHOLE = 4_096
"""Logs with at most this many messages are ranked whole."""
MAX_BLOCKS = 32
"""Blocks that are ranked in a large log if a word is too frequent to know all of its messages."""
MAX_COMPLETE_BLOCKS = 16
MAX_SINGLE_MESSAGES = 64
"""Otherwise these blocks are ranked, and these single messages with one on each side. On the questions for fitting, asked of a log of
all conversations, blocks alone find as much as ranking all messages if these are short, but a quarter less if they are long."""
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
EVENT_WORD_WEIGHT = 0.5
"""What the words of an event count whose time is known: the answer may be near it, but the message about the event is not the answer."""
MIN_QUESTION_WORDS = 3
"""A query of at least three words asks for a fact, even if the log has only one of them ("Who is my dentist?"). A shorter one asks
for everything about its words."""
MIN_SIMILAR_CHARS = 4
MAX_VOCABULARY_WORDS = 100_000
"""Indexed words that are compared with a word that matches nothing. It bounds the time, about 50 milliseconds."""
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
    words = _look_up_words(connection, scope, time.text) or _look_up_words(connection, scope, query)
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
        spans = _spans_to_rank(words, scope, allowed, of_the_time)
        words = [_with_all_keys(connection, scope, word, spans) for word in words]
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
    pieces, joined = identifier_pieces(query), joined_words(query)
    terms: list[QueryTerm] = []
    fallbacks = 0
    groups = query_terms(query)
    for forms in groups:
        term = _look_up(connection, scope, forms, " OR ".join(f'"{form}"' for form in forms))
        if not term.keys and fallbacks < MAX_FALLBACK_WORDS:
            fallbacks += 1
            term = _look_up_variants(connection, scope, forms, pieces.get(forms[0], ()), joined.get(forms[0], ()))
        if term.keys and term.expression not in {each.expression for each in terms}:
            terms.append(replace(term, weight=term.weight * term_weight(forms[0], len(groups))))
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
    expression = " OR ".join(map(beginning, similar)) or f'"{forms[0]}"'
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
        quoted = term.expression.split('"')  # every other part is a word
        quoted[1::2] = [REPEATED_MARK * level + word for word in quoted[1::2]]
        repeated = '"'.join(quoted)
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


def _spans_to_rank(
    words: Sequence[QueryTerm], scope: SearchScope, allowed: frozenset[int] | None, preferred: frozenset[int]
) -> list[Span]:
    """Choose the blocks and messages in which the terms have the most weight, those with preferred keys first, in log order."""
    rare = [word for word in words if word.document_frequency < MAX_KEYS_PER_WORD] or words
    blocks: dict[int, float] = {}
    messages: dict[int, float] = {}
    for word in rare:
        weight = inverse_document_frequency(word.document_frequency, scope.total)
        for block in {key >> BLOCK_BITS for key in word.keys}:
            blocks[block] = blocks.get(block, 0.0) + weight
        for key in word.keys:
            messages[key] = messages.get(key, 0.0) + weight
    if allowed is not None:
        allowed_blocks = {key >> BLOCK_BITS for key in allowed}
        blocks = {block: weight for block, weight in blocks.items() if block in allowed_blocks}
        messages = {key: weight for key, weight in messages.items() if key in allowed}
    total_weight = sum(blocks.values())
    for block in {key >> BLOCK_BITS for key in preferred}:
        blocks[block] = blocks.get(block, 0.0) + total_weight
    if any(word.document_frequency >= MAX_KEYS_PER_WORD for word in words):
        return _merge_spans(sorted(map(_block_span, _heaviest(blocks, MAX_BLOCKS))))
    spans = [_block_span(block) for block in _heaviest(blocks, MAX_COMPLETE_BLOCKS)]
    spans += [(key - 1, key + 1) for key in _heaviest(messages, MAX_SINGLE_MESSAGES)]
    return _merge_spans(sorted(spans))


def _block_span(block: int) -> Span:
    return block << BLOCK_BITS, (block + 1 << BLOCK_BITS) - 1


def _heaviest(weights: Mapping[int, float], count: int) -> list[int]:
    """Return the keys with the largest weights; of equal ones the largest keys."""
    if len(weights) <= count:
        return list(weights)
    least = sorted(weights.values(), reverse=True)[count - 1]  # sorting numbers is much faster than sorting pairs
    heavier = [key for key, weight in weights.items() if weight > least]
    equal = sorted((key for key, weight in weights.items() if weight == least), reverse=True)
    return [*heavier, *equal[: count - len(heavier)]]


def _merge_spans(spans: Sequence[Span]) -> list[Span]:
    """Merge spans in order that touch or overlap."""
    merged: list[Span] = []
    for first, last in spans:
        if merged and first <= merged[-1][1] + 1:
            if last > merged[-1][1]:
                merged[-1] = (merged[-1][0], last)
        else:
            merged.append((first, last))
    return merged


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
