"""The order of hits in logs of long messages: those with many words of a query in one passage first. Pure functions, no I/O.

The index does not store the positions of words, and in a long message they may be far apart. Therefore the texts of the
best hits are read. In logs of short messages, a message is a passage, and its neighbours are more informative.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mnesis.search.snippets import TermMatch, find_matches, passage_weight, term_weights, weigh_matches

ORDERED_HITS = 30
"""The number of hits whose texts are examined. Like the weight, it was chosen on the questions for fitting."""
PASSAGE_WEIGHT = 2.0
"""The bonus of a passage with all words of a query, as a multiple of the score, if messages are very long."""
MIN_PASSAGE_WEIGHT = 0.2
"""With less, the texts are not read: it is reached where a word is in a message of 45 words on average."""
EQUAL_PASSAGE_FRACTION = 0.9
"""A passage with this fraction of the query's weight that another one has may say the same thing."""
MAX_EXAMINED_CHARS = 2_000_000
"""The maximum length of all texts together, which bounds the time."""


def passage_weight_of_log(length_share: float) -> float:
    """Return the weight of passages in a log, given the share of context there; 0 if the texts need not be read."""
    weight = PASSAGE_WEIGHT * (1 - length_share)
    return weight if weight >= MIN_PASSAGE_WEIGHT else 0.0


class PassageOrder(NamedTuple):
    """Hits in order, and the keys of those whose best passage has as much of the query as that of the first hit."""

    hits: list[tuple[int, float]]
    keys_like_first: frozenset[int]


def order_by_passages(
    hits: Sequence[tuple[int, float]], texts: Mapping[int, str], terms: Sequence[Sequence[str]], weight: float
) -> PassageOrder:
    """Order the hits that have a text by their scores and their best passages. Each place keeps its score.

    `texts` are those of the first hits. A term that few of them have counts more.
    """
    available_chars = MAX_EXAMINED_CHARS
    matches: dict[int, list[TermMatch]] = {}
    first = [(key, score) for key, score in hits if key in texts]
    for key, _ in first:
        matches[key] = find_matches(texts[key][:available_chars], terms)
        available_chars -= min(len(texts[key]), available_chars)
    weights = term_weights(list(matches.values()), len(terms))
    total = sum(weights) or 1.0
    parts = {key: passage_weight(weigh_matches(each, weights)) / total for key, each in matches.items()}
    first.sort(key=lambda hit: hit[1] * (1 + weight * parts[hit[0]]), reverse=True)
    ordered = [key for key, _ in first] + [key for key, _ in hits if key not in texts]
    least = EQUAL_PASSAGE_FRACTION * parts[ordered[0]] if first else 0.0
    return PassageOrder(
        [(key, score) for key, (_, score) in zip(ordered, hits, strict=True)],
        frozenset(key for key, part in parts.items() if part >= least),
    )
