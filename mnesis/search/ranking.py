"""Ranking: BM25 over a message and its neighbours, with a prior for the conversation around it. Pure.

A message matches a word if it holds it, and in part if a neighbour does: an answer follows the question that names its
topic. The prior sums, over the words of the question, how near the nearest message with each of them is. Messages of a
speaker whom the question names, and of a time it names, count more. Statistics are those of the searched log alone, so
that a ranking never depends on what else is in the database, nor on what has been folded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import NamedTuple

from mnesis.search.dates import Named, day_of, fit

NEIGHBOURS = ((1, 0.4), (2, 0.2), (-1, 0.2))
"""How much of a word counts for messages after and before the one that holds it (Robertson's BM25F, weights by trial)."""
K1, B = 1.2, 0.75
REACH = 8
COMMON_SHARE = 0.2
"""A word that a larger share of the messages has is near all of them: its neighbourhood tells nothing."""
SURROUNDINGS_WEIGHT = 0.9
SPEAKER_FACTOR = 1.5
NAME_WEIGHT = 0.3
DATE_WEIGHT = 0.4


class Row(NamedTuple):
    """What ranking knows of a message. Keys of neighbours in one log follow each other."""

    key: int
    words: int
    created_at: int
    speaker: str = ""


@dataclass(frozen=True, slots=True)
class Word:
    """A word of the question: the keys of the messages with it, and in how many of all messages it occurs."""

    forms: tuple[str, ...]
    keys: frozenset[int]
    frequency: int


def rank(
    rows: Sequence[Row], words: Sequence[Word], total: int, speakers: Iterable[str], dates: list[Named]
) -> list[tuple[int, float]]:
    """Keys and scores of the rows that have anything to do with the question, best first; ties in order of the log.

    `rows` in order of their keys; `total` messages were searched; `speakers` are all there are.
    """
    named = _named(words, speakers)
    weights = [_weight(word, total, named) for word in words]
    slots = _slots(rows)
    held = [sorted(slots[key] for key in word.keys if key in slots) for word in words]
    width = slots[rows[-1].key] + REACH + 1 if rows else 0
    most = max(int(len(rows) * COMMON_SHARE), REACH)
    scores = _bm25(held, weights, _norms(rows, slots, width), most)
    if not scores:
        return []
    best, around = max(scores.values()), _surroundings(held, weights, width, most)
    prior = SURROUNDINGS_WEIGHT * best / (max(around) or 1.0)
    asked = next(iter(named.values())) if len(set(named.values())) == 1 else None
    final: list[tuple[int, float]] = []
    for row in rows:
        slot = slots[row.key]
        score = scores.get(slot)
        if score is None:
            continue
        score += prior * around[slot]
        if asked is not None and row.speaker == asked:
            score *= SPEAKER_FACTOR
        if dates:
            score += DATE_WEIGHT * best * fit(day_of(row.created_at), dates)
        final.append((row.key, score))
    # The sort is stable: equal scores stay in order of the log.
    return sorted(final, key=itemgetter(1), reverse=True)


def inverse_frequency(frequency: int, total: int) -> float:
    """How telling a word is that occurs in `frequency` of `total` messages; never below zero."""
    return math.log(1 + max(total - frequency + 0.5, 0.5) / (frequency + 0.5))


def _named(words: Sequence[Word], speakers: Iterable[str]) -> dict[str, str]:
    """The speakers that the question names, by the word that names them."""
    asked = {word.forms[0] for word in words}
    return {name: speaker for speaker in speakers for name in speaker.split() if name in asked}


def _weight(word: Word, total: int, named: Mapping[str, str]) -> float:
    weight = inverse_frequency(word.frequency, total)
    return weight * NAME_WEIGHT if word.forms[0] in named else weight


def _slots(rows: Sequence[Row]) -> dict[int, int]:
    """Each key's place on a line on which neighbours touch and everything else is out of reach."""
    slots: dict[int, int] = {}
    slot, before = 0, -2
    for row in rows:
        slot += 1 if row.key == before + 1 else REACH + 1
        before = row.key
        slots[before] = slot
    return slots


def _bm25(
    held: Sequence[Sequence[int]], weights: Sequence[float], norms: Sequence[float], most: int
) -> dict[int, float]:
    """Words that more than `most` messages have count only where they stand."""
    scores: dict[int, float] = {}
    for places, weight in zip(held, weights, strict=True):
        share = dict.fromkeys(places, 1.0)
        known = share.get
        for step, part in NEIGHBOURS if len(places) <= most else ():
            for place in places:
                near = place + step
                share[near] = known(near, 0.0) + part
        gain = weight * (K1 + 1)
        for place, frequency in share.items():
            scores[place] = scores.get(place, 0.0) + gain * frequency / (frequency + norms[place])
    return scores


def _norms(rows: Sequence[Row], slots: Mapping[int, int], width: int) -> list[float]:
    """BM25's length term at each slot, over the message there and its neighbours."""
    lengths = [0] * (width + 1)
    for row in rows:
        lengths[slots[row.key]] = row.words + 1
    scale = K1 * B / (3 * sum(lengths) / max(len(rows), 1))
    fixed = K1 * (1 - B)
    return [fixed + scale * (lengths[i - 1] + lengths[i] + lengths[i + 1]) for i in range(width)]


def _surroundings(held: Sequence[Sequence[int]], weights: Sequence[float], width: int, most: int) -> list[float]:
    """At each slot, how near the words are: full weight where they stand, none beyond `REACH` messages."""
    around = [0.0] * (width + REACH)
    for places, weight in zip(held, weights, strict=True):
        if len(places) > most:
            continue
        ramp = [weight * (REACH + 1 - abs(step)) / (REACH + 1) for step in range(-REACH, REACH + 1)]
        first = 0
        for number, place in enumerate(places):
            after = places[number + 1] if number + 1 < len(places) else width + REACH
            end = min(place + REACH, (place + after) // 2)
            start = max(first, place - REACH)
            for slot, gain in enumerate(ramp[start - place + REACH : end - place + REACH + 1], start):
                around[slot] += gain
            first = end + 1
    return around
