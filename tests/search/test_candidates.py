"""Which messages of a large log are ranked."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from mnesis.search.ranking import QueryTerm
from mnesis.store.sqlite import candidates
from mnesis.store.sqlite.candidates import choose_spans

KEYS = st.sets(st.integers(1, 400), max_size=60)


def word(text: str, keys: set[int]) -> QueryTerm:
    return QueryTerm((text,), frozenset(keys), max(len(keys), 1))


def chosen(
    words: list[QueryTerm], allowed: set[int] | None = None, preferred: frozenset[int] = frozenset()
) -> set[int]:
    spans = choose_spans(words, 100_000, frozenset(allowed) if allowed is not None else None, preferred)
    keys = [key for first, last in spans for key in range(first, last + 1)]
    assert keys == sorted(set(keys))
    return set(keys)


def test_the_message_with_most_words_is_ranked_with_its_surroundings() -> None:
    common = [set(range(100 * number, 90_000, 1_000)) | {70_000} for number in range(1, 6)]
    keys = chosen([word(str(number), keys) for number, keys in enumerate(common)])
    assert {69_999, 70_000, 70_001} <= keys
    assert set(range(70_000 & -16, (70_000 & -16) + 16)) <= keys


def test_messages_with_the_rarest_word_are_ranked_first() -> None:
    keys = chosen([word("rare", {7, 50_000}), word("common", set(range(100, 3_000)))])
    assert {7, 50_000} <= keys
    assert 2_999 in keys, "of equal ones, the newest"
    assert 100 not in keys


def test_messages_of_a_preferred_time_are_ranked_without_words() -> None:
    assert {900, 901} <= chosen([word("x", set(range(3_000, 6_000, 16)))], preferred=frozenset({900, 901}))


@given(st.lists(KEYS, min_size=1, max_size=6))
def test_the_heaviest_are_those_with_the_largest_sums(sets: list[set[int]]) -> None:
    weights = [1.0 + number % 3 for number in range(len(sets))]
    sums: Counter[int] = Counter()
    for weight, keys in zip(weights, sets, strict=True):
        sums.update(dict.fromkeys(keys, weight))  # type: ignore[arg-type]  # a counter of weights
    expected = sorted(sums, key=lambda key: (-sums[key], -key))
    for count in (1, 10, 1_000):
        assert candidates.heaviest(sets, weights, count) == expected[:count]


@given(st.lists(KEYS, min_size=1, max_size=4), st.sets(st.integers(1, 400), min_size=1))
def test_what_a_filter_excludes_takes_no_place(sets: list[set[int]], allowed: set[int]) -> None:
    words = [word(str(number), keys) for number, keys in enumerate(sets)]
    asked = set().union(*sets) & allowed
    assert len(asked & chosen(words, allowed)) >= min(len(asked), candidates.MAX_SINGLE_MESSAGES)
