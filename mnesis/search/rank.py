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
from itertools import pairwise

from mnesis.search.dates import Named, day_of, fit

NEIGHBOURS = ((0, 1.0), (1, 0.4), (2, 0.2), (-1, 0.2))
"""How much of a word counts for messages after and before the one that holds it (Robertson's BM25F, weights by trial)."""
K1, B = 1.2, 0.75
REACH = 8
SURROUNDINGS_WEIGHT = 0.9
SPEAKER_FACTOR = 1.5
NAME_WEIGHT = 0.3
DATE_WEIGHT = 0.4


@dataclass(frozen=True, slots=True)
class Row:
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
    places = {row.key: place for place, row in enumerate(rows)}
    held = [[place for key in word.keys if (place := places.get(key)) is not None] for word in words]
    scores = _bm25(rows, held, weights)
    if not scores:
        return []
    best = max(scores.values())
    around = _surroundings(rows, held, weights)
    most = max(around)
    asked = named.copy().popitem()[1] if len(named) == 1 else None
    final = []
    for place, score in scores.items():
        row = rows[place]
        score += SURROUNDINGS_WEIGHT * best * around[place] / most
        if asked is not None and row.speaker == asked:
            score *= SPEAKER_FACTOR
        if dates:
            score += DATE_WEIGHT * best * fit(day_of(row.created_at), dates)
        final.append((row.key, score))
    return sorted(final, key=lambda found: (-found[1], found[0]))


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


def _bm25(rows: Sequence[Row], held: Sequence[Sequence[int]], weights: Sequence[float]) -> dict[int, float]:
    norms = _norms(rows)
    scores: dict[int, float] = {}
    for places, weight in zip(held, weights, strict=True):
        share: dict[int, float] = {}
        for place in places:
            key = rows[place].key
            for step, part in NEIGHBOURS:
                near = place + step
                if 0 <= near < len(rows) and rows[near].key - key == step:
                    share[near] = share.get(near, 0.0) + part
        for place, frequency in share.items():
            gain = weight * frequency * (K1 + 1) / (frequency + norms[place])
            scores[place] = scores.get(place, 0.0) + gain
    return scores


def _norms(rows: Sequence[Row]) -> list[float]:
    """BM25's length term of each row, over the row and its neighbours."""
    lengths = [row.words + 1 for row in rows]
    whole = [sum(lengths[max(i - 1, 0) : i + 2]) for i in range(len(lengths))]
    average = 3 * sum(lengths) / max(len(lengths), 1)
    return [K1 * (1 - B + B * length / average) for length in whole]


def _surroundings(rows: Sequence[Row], held: Sequence[Sequence[int]], weights: Sequence[float]) -> list[float]:
    """For each row, how near the words are: full weight at the row itself, none beyond `REACH` messages."""
    joined = [True, *(b.key - a.key == 1 for a, b in pairwise(rows))]
    around = [0.0] * len(rows)
    for places, weight in zip(held, weights, strict=True):
        near = [0] * len(rows)
        for place in places:
            near[place] = REACH + 1
        for i in range(1, len(near)):
            if joined[i] and near[i - 1] > near[i] + 1:
                near[i] = near[i - 1] - 1
        for i in range(len(near) - 1, 0, -1):
            if joined[i] and near[i] > near[i - 1] + 1:
                near[i - 1] = near[i] - 1
        step = weight / (REACH + 1)
        for i, distance in enumerate(near):
            if distance:
                around[i] += step * distance
    return around
