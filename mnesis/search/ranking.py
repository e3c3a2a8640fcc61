"""Ranking: BM25 over a message and its neighbours, plus a proximity score. Pure functions, no I/O.

A message matches a term if it contains it, and partly if a neighbour contains it, because an answer follows the question
that names its topic. The proximity score adds up, for each term, how near the nearest message with the term is. Messages
by a speaker, or from a date, that the query mentions are ranked higher. Statistics cover the searched log only, so a
ranking does not depend on other sessions in the database, nor on what has been folded.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice, pairwise
from operator import itemgetter, sub
from typing import NamedTuple

from mnesis.search.query_time import QueryTime

NEIGHBOUR_WEIGHTS = ((1, 0.4), (2, 0.2), (-1, 0.2))
"""(distance, weight): the weight of an occurrence for the messages after and before it (Robertson's BM25F, weights by
trial)."""
K1, B = 1.2, 0.75
"""The usual parameters of BM25: saturation of term frequency, and length normalisation."""
REPEATED_FREQUENCIES = (2.5, 6.0)
"""The count of a word in a message that has it at least as often as each of `REPETITIONS`; BM25 saturates, so an
approximation is enough."""
LENGTH_EXPONENT = 0.85
"""Damps length normalisation, because relevance does not fall in proportion to length. Chosen on the questions for
fitting."""
SHORT_QUERY_TERMS = 8
"""Damps the length of queries, because some words of a long query occur near any message."""
SHORT_MESSAGE_WORDS = 40
"""Neighbours and proximity count in full up to this length, and proportionally less above it: a long message does not need its neighbours."""
PROXIMITY_WINDOW = 8
"""Messages. Like the weights below, chosen by trial."""
PROXIMITY_PRECISION = 1 << 20
"""Proximities are computed in whole numbers of this fraction."""
MAX_PAUSE_MS = 30 * 60_000
"""Messages further apart than this belong to different conversations, so neither is the other's neighbour."""
MAX_COMMON_FRACTION = 0.2
"""A term that occurs in a larger fraction of all searched messages is near all of them, so its proximity is ignored. In the part of a
large log that is ranked, any term of the query is frequent: that part was chosen for them."""
PROXIMITY_WEIGHT = 0.9
MAX_INDEPENDENT_FRACTION = 0.5
"""A log is one of independent notes if at most this fraction of its messages follows another one without a long pause.
The measured fractions are 0.09 and 0.15 for notes of days, and 0.95 and more for chats and logs of agents."""
MIN_PLAIN_WEIGHT = 1e-6
"""The weight of a word that is in more than half of the messages, as FTS5 has it (`fts5Bm25GetData` in ext/fts5/fts5_aux.c)."""
MAX_RIVALS = 20
MIN_VALUE_SCORE_FRACTION = 0.5
"""Messages with the same words as the best one and this fraction of its score may give another value of the same fact."""
MIN_VALUE_WEIGHT_FRACTION = 0.5
MAX_VALUES = 3
"""If a question has words that no message about the fact has ("On which day …?"), these words weigh at most half, and the fact was
named at most three times. Of 60 changed facts in LoCoMo's conversations, the newest is then before the older one in 59 instead of 47,
and as much of the evidence is found."""
SPEAKER_FACTOR = 1.5
NAME_WEIGHT = 0.3


class MessageStats(NamedTuple):
    """The data of a message that ranking needs. Neighbours in a log have consecutive keys."""

    key: int
    word_count: int
    created_at: int
    speaker: str = ""


@dataclass(frozen=True, slots=True)
class QueryTerm:
    """A term of the query: its forms, the keys of matching messages, and the number of all messages that contain it.

    `expression` is the query to the index: the forms, or a variant if they match nothing. `weight` is less than 1 for a
    variant, which may be another word. `repeated_keys` are messages that have it at least as often as each of
    `REPETITIONS`.
    """

    forms: tuple[str, ...]
    keys: frozenset[int]
    document_frequency: int
    expression: str = ""
    weight: float = 1.0
    repeated_keys: tuple[frozenset[int], ...] = ()


def rank(
    messages: Sequence[MessageStats],
    terms: Sequence[QueryTerm],
    total_messages: int,
    speakers: Iterable[str],
    time: QueryTime,
) -> list[tuple[int, float]]:
    """Return the keys and scores of matching messages, best first; equal scores are in log order.

    `messages` are in order of their keys. `total_messages` were searched. `speakers` are all speakers of the log. Messages of the
    `time` that the query names are preferred.
    """
    if not messages or not terms:
        return []
    mentioned_speakers = _find_mentioned_speakers(terms, speakers)
    weights = [_term_weight(term, total_messages, mentioned_speakers) for term in terms]
    slots = _slots(messages)
    postings = [sorted([slots[key] for key in term.keys & slots.keys()]) for term in terms]
    width = slots[messages[-1][0]] + PROXIMITY_WINDOW + 1
    most = max(int(total_messages * MAX_COMMON_FRACTION), PROXIMITY_WINDOW)
    is_common = [term.document_frequency > most for term in terms]
    neighbours_fraction = _neighbours_fraction(slots)
    context_share = length_share(messages) * neighbours_fraction * min(1.0, SHORT_QUERY_TERMS / len(terms))
    frequencies = _term_frequencies(messages, slots, width)
    repeats = [[[slots[key] for key in keys & slots.keys()] for keys in term.repeated_keys] for term in terms]
    scores = _bm25(postings, repeats, weights, frequencies, context_share, is_common)
    if not scores:
        return []
    if time.expressions:
        _add_messages_of_the_time(scores, messages, slots, time)
    best, proximity = max(scores.values()), proximities(postings, weights, width, is_common)
    prior = PROXIMITY_WEIGHT * context_share * best / (max(proximity) or 1.0)
    asked_speaker = next(iter(mentioned_speakers.values())) if len(set(mentioned_speakers.values())) == 1 else None
    ranked: list[tuple[int, float]] = []
    has_time = bool(time.expressions or time.dates)
    for key, _, created_at, speaker in messages:
        slot = slots[key]
        score = scores.get(slot)
        if score is None:
            continue
        score += prior * proximity[slot]
        if asked_speaker is not None and speaker == asked_speaker:
            score *= SPEAKER_FACTOR
        if has_time:
            score += best * time.bonus(created_at)
        ranked.append((key, score))
    # The sort is stable: equal scores stay in log order.
    ranked.sort(key=itemgetter(1), reverse=True)
    if has_time:
        return ranked
    if neighbours_fraction <= MAX_INDEPENDENT_FRACTION:
        ranked = _keep_best_of_plain_bm25(ranked, _plain_bm25(messages, terms, total_messages))
    return put_newest_value_first(ranked, terms, total_messages)


def length_share(messages: Sequence[MessageStats]) -> float:
    """Return the weight of a message's context, from 0 to 1: less in logs of long messages.

    The length is that of the message which contains an average word of the log, so tool outputs decide, and not the
    short messages between them.
    """
    counts = [word_count for _, word_count, _, _ in messages]
    typical_words = sum([count * count for count in counts]) / max(sum(counts), 1)
    return min(1.0, SHORT_MESSAGE_WORDS / max(typical_words, 1.0))


def _neighbours_fraction(slots: Mapping[int, int]) -> float:
    """Return the fraction of the messages that follow the one before without a long pause: 0 for independent notes.

    Messages whose predecessor is not ranked do not count.
    """
    keys, places = list(slots), list(slots.values())
    successors = [*map(sub, keys[1:], keys)].count(1)
    return [*map(sub, places[1:], places)].count(1) / max(successors, 1)


def _plain_bm25(messages: Sequence[MessageStats], terms: Sequence[QueryTerm], total_messages: int) -> list[int]:
    """Return the keys of matching messages, best first, by BM25 over nothing but their own words, weighted as FTS5 does."""
    counts = {key: word_count for key, word_count, _, _ in messages}
    average = max(sum(counts.values()) / len(counts), 1.0)
    norms = {key: K1 * (1 - B + B * count / average) for key, count in counts.items()}
    scores: dict[int, float] = {}
    for term in terms:
        frequencies = dict.fromkeys(term.keys & counts.keys(), 1.0)
        for count, keys in zip(REPEATED_FREQUENCIES, term.repeated_keys, strict=False):
            frequencies.update(dict.fromkeys(keys & frequencies.keys(), count))
        others = max(total_messages - term.document_frequency, 0) + 0.5
        weight = max(math.log(others / (term.document_frequency + 0.5)), MIN_PLAIN_WEIGHT)
        for key, frequency in frequencies.items():
            scores[key] = scores.get(key, 0.0) + weight * frequency / (frequency + norms[key])
    return sorted(scores, key=lambda key: (-scores[key], key))


def _keep_best_of_plain_bm25(ranked: list[tuple[int, float]], plain: Sequence[int]) -> list[tuple[int, float]]:
    """Order hits so that the first n have the best n / 2 of plain BM25, for every n. Each place keeps its score.

    Without neighbours, the ranking differs from plain BM25 in weights only, which may be wrong for a log of another kind.
    """
    rest = iter([key for key, _ in ranked])
    ordered: dict[int, None] = {}
    for place in range(len(ranked)):
        due = plain[place // 2] if place % 2 and place // 2 < len(plain) else None
        # The hits may already contain the messages to add.
        key = due if due is not None and due not in ordered else next(key for key in rest if key not in ordered)
        ordered[key] = None
    return [(key, score) for key, (_, score) in zip(ordered, ranked, strict=True)]


def _add_messages_of_the_time(
    scores: dict[int, float], messages: Sequence[MessageStats], slots: Mapping[int, int], time: QueryTime
) -> None:
    """Add the messages of the time that the query names, if none of them has a word of it: they may be meant all the same."""
    of_the_time = [slots[key] for key, _, created_at, _ in messages if time.contains(created_at)]
    if not any(slot in scores for slot in of_the_time):
        scores.update(dict.fromkeys(of_the_time, 0.0))


def put_newest_value_first(
    ranked: list[tuple[int, float]],
    terms: Sequence[QueryTerm],
    total_messages: int,
    comparable_keys: Container[int] | None = None,
    min_terms: int = 2,
) -> list[tuple[int, float]]:
    """Put the newest of the messages first that have all the words of the best one: a fact's newest value holds.

    It applies if the best message has at least two words, and all words of the query that occur anywhere near. With
    fewer words, it applies if they have half of the query's weight and at most `MAX_VALUES` messages have them: more
    are about a topic. A reply that repeats the message right before it is not a newer value. Only messages of
    `comparable_keys` can be, if it is not None. A query of fewer than `min_terms` known words is not changed.
    """
    best_key, best_score = ranked[0]
    matching = [term for term in terms if best_key in term.keys]
    has_all = 2 <= len(matching) == len(terms)
    if (
        not matching
        or len(terms) < min_terms
        or not (
            has_all or _weight(matching, total_messages) >= MIN_VALUE_WEIGHT_FRACTION * _weight(terms, total_messages)
        )
    ):
        return ranked
    # A term of less weight, such as a pair of characters across two words, does not decide whether it is the same fact.
    deciding = [term for term in matching if term.weight >= 1] or matching
    rivals = [
        index
        for index, (key, score) in enumerate(ranked[:MAX_RIVALS])
        if score >= MIN_VALUE_SCORE_FRACTION * best_score
        and (comparable_keys is None or key in comparable_keys)
        and all(key in term.keys for term in deciding)
    ]
    if not has_all and len(rivals) > MAX_VALUES:
        return ranked
    keys = {ranked[index][0] for index in rivals}
    newest = max((index for index in rivals if ranked[index][0] - 1 not in keys), key=lambda index: ranked[index][0])
    return [(ranked[newest][0], best_score), *ranked[:newest], *ranked[newest + 1 :]]


def _weight(terms: Iterable[QueryTerm], total_messages: int) -> float:
    return sum(term.weight * inverse_document_frequency(term.document_frequency, total_messages) for term in terms)


def inverse_document_frequency(document_frequency: int, total_messages: int) -> float:
    """Return the weight of a term that occurs in `document_frequency` of the messages; never negative."""
    return math.log(1 + max(total_messages - document_frequency + 0.5, 0.5) / (document_frequency + 0.5))


def _find_mentioned_speakers(terms: Sequence[QueryTerm], speakers: Iterable[str]) -> dict[str, str]:
    """Return the speakers mentioned in the query, keyed by the word that mentions them."""
    query_words = {term.forms[0] for term in terms}
    return {name: speaker for speaker in speakers for name in speaker.split() if name in query_words}


def _term_weight(term: QueryTerm, total_messages: int, mentioned_speakers: Mapping[str, str]) -> float:
    weight = term.weight * inverse_document_frequency(term.document_frequency, total_messages)
    return weight * NAME_WEIGHT if term.forms[0] in mentioned_speakers else weight


def _slots(messages: Sequence[MessageStats]) -> dict[int, int]:
    """Map keys to slots: neighbours are adjacent, and all others are further apart than the proximity window.

    Messages are neighbours if they follow each other in a log without a long pause.
    """
    slots: dict[int, int] = {}
    slot, previous_key, previous_time = 0, -2, 0
    for key, _, created_at, _ in messages:
        is_next = key == previous_key + 1 and -MAX_PAUSE_MS <= created_at - previous_time <= MAX_PAUSE_MS
        slot += 1 if is_next else PROXIMITY_WINDOW + 1
        previous_key, previous_time = key, created_at
        slots[key] = slot
    return slots


def _bm25(
    postings: Sequence[Sequence[int]],
    repeats: Sequence[Sequence[Sequence[int]]],
    weights: Sequence[float],
    frequencies: Sequence[float],
    context_share: float,
    is_common: Sequence[bool],
) -> dict[int, float]:
    """Return BM25F scores by slot. Common terms do not count for neighbours.

    `frequencies` are normalised by the length of the message that contains the term, also where a neighbour inherits it.
    """
    scores: dict[int, float] = {}
    steps = [(step, weight * context_share) for step, weight in NEIGHBOUR_WEIGHTS]
    for term_slots, levels, weight, is_everywhere in zip(postings, repeats, weights, is_common, strict=True):
        term_frequencies = {slot: frequencies[slot] for slot in term_slots}
        for count, repeated in zip(REPEATED_FREQUENCIES, levels, strict=False):
            term_frequencies.update((slot, count * frequencies[slot]) for slot in repeated)
        frequency_at = term_frequencies.get
        for step, neighbour_weight in () if is_everywhere else steps:
            for slot in term_slots:
                neighbour = slot + step
                term_frequencies[neighbour] = frequency_at(neighbour, 0.0) + neighbour_weight * frequencies[slot]
        gain = weight * (K1 + 1)
        for slot, frequency in term_frequencies.items():
            scores[slot] = scores.get(slot, 0.0) + gain * frequency / (frequency + K1)
    return scores


def _term_frequencies(messages: Sequence[MessageStats], slots: Mapping[int, int], width: int) -> list[float]:
    """Return the weight of one occurrence in the message of each slot: less in longer messages."""
    counts = [word_count for _, word_count, _, _ in messages]
    length_of = {count: (count + 1) ** LENGTH_EXPONENT for count in set(counts)}
    scale = B * len(counts) / sum([length_of[count] for count in counts])
    frequency_of = {count: 1 / (1 - B + scale * length) for count, length in length_of.items()}
    frequencies = [0.0] * width
    for slot, count in zip(slots.values(), counts, strict=True):
        frequencies[slot] = frequency_of[count]
    return frequencies


def proximities(
    postings: Sequence[Sequence[int]], weights: Sequence[float], width: int, is_common: Sequence[bool]
) -> list[float]:
    """Return the proximity of the terms at each slot: their full weight where they occur, 0 beyond the window.

    A term falls by equal steps on both sides of a slot, until it meets what rises to the next one. So it is the sum of the sums of
    three changes per slot, which the interpreter computes fast; whole numbers keep equal proximities equal.
    """
    beyond = PROXIMITY_WINDOW + 1
    changes = [0] * (
        width + 3 * beyond
    )  # shifted by `PROXIMITY_WINDOW`, so that the rise to the first slot has a place
    for term_slots, weight, is_everywhere in zip(postings, weights, is_common, strict=True):
        if not term_slots or is_everywhere:
            continue
        step = round(weight * PROXIMITY_PRECISION / beyond)
        changes[term_slots[0]] += step
        for center, following in pairwise(term_slots):
            changes[center + beyond] -= 2 * step
            if following - center < 2 * beyond:
                middle = center + following
                changes[(middle >> 1) + beyond] += step
                changes[(middle + 1 >> 1) + beyond] += step
            else:
                changes[center + 2 * beyond] += step
                changes[following] += step
        changes[term_slots[-1] + beyond] -= 2 * step
        changes[term_slots[-1] + 2 * beyond] += step
    sums = accumulate(accumulate(changes))
    return [value / PROXIMITY_PRECISION for value in islice(sums, PROXIMITY_WINDOW, PROXIMITY_WINDOW + width)]
