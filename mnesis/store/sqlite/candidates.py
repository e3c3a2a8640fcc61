"""The messages of a large log that are ranked: those with the most important words of a query. Pure functions, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from operator import itemgetter

from mnesis.search.ranking import QueryTerm, inverse_document_frequency
from mnesis.store.sqlite.search_scope import Span

BLOCK_BITS = 4
"""Large logs are divided into blocks of 2**4 = 16 messages."""
MAX_BLOCKS = 32
"""Blocks that are ranked in a large log if a word is too frequent to know all of its messages."""
MAX_SINGLE_MESSAGES = 96
MAX_SINGLES_WITH_NEIGHBOURS = 16
MAX_COMPLETE_BLOCKS = 8
"""Otherwise the messages with the most important words are ranked, the first of them with one on each side, and the blocks with the
most important of them. On the questions for fitting, asked of a log of all conversations, that finds more than 16 blocks and 64
messages with neighbours, which are twice as many; blocks alone find a quarter less if messages are long."""
MAX_PREFERRED_BLOCKS = 16
"""Complete blocks if the query names a time, whose messages are preferred."""
MAX_KEYS_PER_WORD = 3_000
"""Messages with one word that are examined in a large log; a more frequent word says little."""


def choose_spans(
    words: Sequence[QueryTerm], total_messages: int, allowed: frozenset[int] | None, preferred: frozenset[int]
) -> list[Span]:
    """Choose the blocks and messages in which the terms have the most weight, those with preferred keys first, in log order."""
    rare = [word for word in words if word.document_frequency < MAX_KEYS_PER_WORD] or words
    weights = [inverse_document_frequency(word.document_frequency, total_messages) for word in rare]
    preferred_blocks = _blocks_of(preferred)
    if len(rare) < len(words) or rare is words:
        allowed_blocks = _blocks_of(allowed) if allowed is not None else None
        blocks = [_intersect(_blocks_of(word.keys), allowed_blocks) for word in rare]
        chosen = heaviest([preferred_blocks, *blocks], [sum(weights) + 1, *weights], MAX_BLOCKS)
        return _merge_spans(sorted(map(_block_span, chosen)))
    singles = heaviest([_intersect(word.keys, allowed) for word in rare], weights, MAX_SINGLE_MESSAGES)
    # Preferred messages may have none of the most important words, so any word decides between their blocks.
    blocks = [_blocks_of(word.keys if preferred else word.keys.intersection(singles)) for word in rare]
    count = MAX_PREFERRED_BLOCKS if preferred else MAX_COMPLETE_BLOCKS
    chosen = heaviest([preferred_blocks, *blocks], [sum(weights) + 1, *weights], count)
    spans = [_block_span(block) for block in chosen]
    spans += [(key - 1, key + 1) for key in singles[:MAX_SINGLES_WITH_NEIGHBOURS]]
    spans += [(key, key) for key in singles[MAX_SINGLES_WITH_NEIGHBOURS:]]
    return _merge_spans(sorted(spans))


def _intersect(keys: Set[int], allowed: Set[int] | None) -> Set[int]:
    return keys if allowed is None else keys & allowed


def _blocks_of(keys: Iterable[int]) -> set[int]:
    return {key >> BLOCK_BITS for key in keys}


def _block_span(block: int) -> Span:
    return block << BLOCK_BITS, (block + 1 << BLOCK_BITS) - 1


def heaviest(sets: Sequence[Set[int]], weights: Sequence[float], count: int) -> list[int]:
    """Return the keys with the largest sums of the weights of the sets that they are in; of equal ones the largest keys first.

    Most keys are in one set, and of those only the ones in the sets with the largest weights are looked at.
    """
    seen: set[int] = set()
    in_several: set[int] = set()
    for keys in sets:
        in_several |= seen & keys
        seen |= keys
    totals = dict.fromkeys(in_several, 0.0)
    pairs = list(zip(weights, sets, strict=True))
    for weight, keys in pairs:
        for key in keys & in_several:
            totals[key] += weight
    singles, least = 0, 0.0
    for weight, keys in sorted(pairs, key=itemgetter(0), reverse=True):
        if singles >= count and weight < least:
            break
        rest = keys - in_several
        totals.update(dict.fromkeys(rest, weight))
        singles, least = singles + len(rest), weight
    if len(totals) > count:
        least = sorted(totals.values(), reverse=True)[count - 1]  # sorting numbers is much faster than sorting pairs
        totals = {key: total for key, total in totals.items() if total >= least}
    return sorted(sorted(totals, reverse=True), key=totals.__getitem__, reverse=True)[:count]


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
