"""Ranking: BM25 over a message and its neighbours, plus a proximity score. Pure functions, no I/O.

A message matches a term if it contains it, and partly if a neighbour contains it, because an answer follows the question
that names its topic. The proximity score adds up, for each term, how near the nearest message with the term is. Messages
by a speaker, or from a date, that the query mentions are ranked higher. Statistics cover the searched log only, so a
ranking does not depend on other sessions in the database, nor on what has been folded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import NamedTuple

from mnesis.search.dates import DateMention, match_score, utc_day

NEIGHBOUR_WEIGHTS = ((1, 0.4), (2, 0.2), (-1, 0.2))
"""(distance, weight): what an occurrence counts for the messages after and before it (Robertson's BM25F, weights by trial)."""
K1, B = 1.2, 0.75
"""The usual parameters of BM25: saturation of term frequency, and length normalisation."""
PROXIMITY_WINDOW = 8
"""Messages. Like the weights below, chosen by trial."""
MAX_COMMON_FRACTION = 0.2
"""A term that occurs in a larger fraction of the messages is near all of them, so its proximity is ignored."""
PROXIMITY_WEIGHT = 0.9
SPEAKER_FACTOR = 1.5
NAME_WEIGHT = 0.3
DATE_WEIGHT = 0.4


class MessageStats(NamedTuple):
    """What ranking needs to know about a message. Neighbours in a log have consecutive keys."""

    key: int
    word_count: int
    created_at: int
    speaker: str = ""


@dataclass(frozen=True, slots=True)
class QueryTerm:
    """A term of the query: its forms, the keys of matching messages, and the number of all messages that contain it."""

    forms: tuple[str, ...]
    keys: frozenset[int]
    document_frequency: int


def rank(
    messages: Sequence[MessageStats],
    terms: Sequence[QueryTerm],
    total_messages: int,
    speakers: Iterable[str],
    dates: list[DateMention],
) -> list[tuple[int, float]]:
    """Return the keys and scores of matching messages, best first; equal scores are in log order.

    `messages` are in order of their keys. `total_messages` were searched. `speakers` are all speakers of the log.
    """
    mentioned_speakers = _find_mentioned_speakers(terms, speakers)
    weights = [_term_weight(term, total_messages, mentioned_speakers) for term in terms]
    slots = _slots(messages)
    postings = [sorted(slots[key] for key in term.keys if key in slots) for term in terms]
    width = slots[messages[-1].key] + PROXIMITY_WINDOW + 1 if messages else 0
    max_postings = max(int(len(messages) * MAX_COMMON_FRACTION), PROXIMITY_WINDOW)
    scores = _bm25(postings, weights, _length_norms(messages, slots, width), max_postings)
    if not scores:
        return []
    best, proximity = max(scores.values()), _proximity(postings, weights, width, max_postings)
    prior = PROXIMITY_WEIGHT * best / (max(proximity) or 1.0)
    asked_speaker = next(iter(mentioned_speakers.values())) if len(set(mentioned_speakers.values())) == 1 else None
    ranked: list[tuple[int, float]] = []
    for message in messages:
        slot = slots[message.key]
        score = scores.get(slot)
        if score is None:
            continue
        score += prior * proximity[slot]
        if asked_speaker is not None and message.speaker == asked_speaker:
            score *= SPEAKER_FACTOR
        if dates:
            score += DATE_WEIGHT * best * match_score(utc_day(message.created_at), dates)
        ranked.append((message.key, score))
    # The sort is stable: equal scores stay in log order.
    return sorted(ranked, key=itemgetter(1), reverse=True)


def inverse_document_frequency(document_frequency: int, total_messages: int) -> float:
    """Return the weight of a term that occurs in `document_frequency` of the messages; never negative."""
    return math.log(1 + max(total_messages - document_frequency + 0.5, 0.5) / (document_frequency + 0.5))


def _find_mentioned_speakers(terms: Sequence[QueryTerm], speakers: Iterable[str]) -> dict[str, str]:
    """Return the speakers mentioned in the query, keyed by the word that mentions them."""
    query_words = {term.forms[0] for term in terms}
    return {name: speaker for speaker in speakers for name in speaker.split() if name in query_words}


def _term_weight(term: QueryTerm, total_messages: int, mentioned_speakers: Mapping[str, str]) -> float:
    weight = inverse_document_frequency(term.document_frequency, total_messages)
    return weight * NAME_WEIGHT if term.forms[0] in mentioned_speakers else weight


def _slots(messages: Sequence[MessageStats]) -> dict[int, int]:
    """Map keys to slots: neighbours are adjacent, and all others are further apart than the proximity window."""
    slots: dict[int, int] = {}
    slot, previous_key = 0, -2
    for message in messages:
        slot += 1 if message.key == previous_key + 1 else PROXIMITY_WINDOW + 1
        previous_key = message.key
        slots[previous_key] = slot
    return slots


def _bm25(
    postings: Sequence[Sequence[int]], weights: Sequence[float], norms: Sequence[float], max_postings: int
) -> dict[int, float]:
    """Return BM25 scores by slot. Terms in more than `max_postings` messages do not count for neighbours."""
    scores: dict[int, float] = {}
    for term_slots, weight in zip(postings, weights, strict=True):
        term_counts = dict.fromkeys(term_slots, 1.0)
        count_at = term_counts.get
        for step, neighbour_weight in NEIGHBOUR_WEIGHTS if len(term_slots) <= max_postings else ():
            for slot in term_slots:
                neighbour = slot + step
                term_counts[neighbour] = count_at(neighbour, 0.0) + neighbour_weight
        gain = weight * (K1 + 1)
        for slot, frequency in term_counts.items():
            scores[slot] = scores.get(slot, 0.0) + gain * frequency / (frequency + norms[slot])
    return scores


def _length_norms(messages: Sequence[MessageStats], slots: Mapping[int, int], width: int) -> list[float]:
    """Return the length term of BM25 for each slot, over the message and its neighbours."""
    lengths = [0] * (width + 1)
    for message in messages:
        lengths[slots[message.key]] = message.word_count + 1
    scale = K1 * B / (3 * sum(lengths) / max(len(messages), 1))
    base = K1 * (1 - B)
    return [base + scale * (lengths[i - 1] + lengths[i] + lengths[i + 1]) for i in range(width)]


def _proximity(
    postings: Sequence[Sequence[int]], weights: Sequence[float], width: int, max_postings: int
) -> list[float]:
    """Return the proximity of the terms at each slot: their full weight where they occur, 0 beyond the window."""
    proximity = [0.0] * (width + PROXIMITY_WINDOW)
    for term_slots, weight in zip(postings, weights, strict=True):
        if len(term_slots) > max_postings:
            continue
        ramp = [
            weight * (PROXIMITY_WINDOW + 1 - abs(step)) / (PROXIMITY_WINDOW + 1)
            for step in range(-PROXIMITY_WINDOW, PROXIMITY_WINDOW + 1)
        ]
        first = 0
        for number, center in enumerate(term_slots):
            next_center = term_slots[number + 1] if number + 1 < len(term_slots) else width + PROXIMITY_WINDOW
            end = min(center + PROXIMITY_WINDOW, (center + next_center) // 2)
            start = max(first, center - PROXIMITY_WINDOW)
            for slot, gain in enumerate(
                ramp[start - center + PROXIMITY_WINDOW : end - center + PROXIMITY_WINDOW + 1], start
            ):
                proximity[slot] += gain
            first = end + 1
    return proximity
