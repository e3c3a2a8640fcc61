"""Search by meaning: passages, the stored form of vectors, and how their nearness joins the ranking by words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnesis.errors import ConfigurationError
from mnesis.search.vectors import (
    MAX_PASSAGES,
    MAX_VECTOR_HITS,
    PASSAGE_CHARS,
    encode_vectors,
    fuse,
    is_readable,
    nearness,
    passages,
    vector_weight,
)


def stored(*vectors: tuple[float, ...]) -> list[tuple[int, bytes]]:
    return [(key, encode_vectors([vector])) for key, vector in enumerate(vectors, 1)]


@given(st.text(max_size=3_000))
def test_passages_are_short_and_hold_every_word(text: str) -> None:
    found = passages(text)
    assert all(0 < len(piece) <= PASSAGE_CHARS for piece in found)
    if text.strip():
        assert "".join("".join(found).split()) == "".join(text.split())


def test_a_huge_text_has_few_passages_from_all_of_it() -> None:
    text = "".join(f"{number:09}\n" for number in range(1_000_000))
    found = passages(text)
    assert len(found) == MAX_PASSAGES
    assert found[0].startswith("000000000")
    assert found[-1] > "0009"


def test_an_empty_text_has_one_passage_that_is_not_empty() -> None:
    assert passages(" \n") == passages("")
    assert passages("")[0]


def test_stored_vectors_keep_their_direction() -> None:
    near = nearness((3.0, 4.0), stored((30.0, 40.0), (4.0, 3.0), (-3.0, 1.0), (0.0, -1.0), (-2.0, -2.0)))
    assert near[1] == 1.0
    assert 0 < near[2] < 1
    assert 4 not in near


def test_the_nearest_passage_of_a_message_counts() -> None:
    long_message = encode_vectors([(0.0, -1.0), (1.0, 0.0), (0.0, 1.0)])
    others = [(key, encode_vectors([(-1.0, key / 10)])) for key in range(2, 7)]
    assert nearness((1.0, 0.0), [(1, long_message), *others])[1] == 1.0


def test_what_all_messages_share_says_nothing() -> None:
    common = 50.0
    near = nearness(
        (common, 1.0, 0.0), stored((common, 1.0, 0.0), (common, 0.0, 1.0), (common, -1.0, 0.0), (common, 0.0, -1.0))
    )
    assert max(near, key=lambda key: near[key]) == 1
    assert near.get(3, 0.0) == 0.0


@pytest.mark.parametrize("vectors", [[(0.0, 0.0)], [(0.0, 0.0)] * 5])
def test_vectors_of_zeros_are_near_nothing(vectors: list[tuple[float, ...]]) -> None:
    assert nearness((1.0, 0.0), stored(*vectors)) == {}
    assert nearness((0.0, 0.0), stored((1.0, 0.0), (0.0, 1.0), (1.0, 1.0))) == {}


@pytest.mark.parametrize(
    "wrong", [[], [[]], [["a"]], [[1.0], [1.0, 2.0]], [1.0], [[float("nan")]], [[float("inf"), 1.0]], None]
)
def test_anything_but_lists_of_numbers_is_refused(wrong: object) -> None:
    with pytest.raises(ConfigurationError, match="one list of finite numbers for each text"):
        encode_vectors(wrong)  # type: ignore[arg-type]  # what a function may return


def test_other_dimensions_are_not_readable() -> None:
    data = encode_vectors([(1.0, 2.0, 3.0)] * 2)
    assert is_readable(data, 3)
    assert not any(is_readable(data, dimensions) for dimensions in (1, 2, 6))
    assert not is_readable(data[:-1], 3)
    assert not is_readable(b"", 3)


def test_vectors_weigh_less_the_more_words_match() -> None:
    weights = [vector_weight(coverage) for coverage in (0.0, 0.3, 0.6, 1.0)]
    assert weights == sorted(weights, reverse=True)
    assert weights[-1] == 0


def test_a_query_whose_words_all_match_is_ranked_by_words() -> None:
    hits = [(1, 9.0), (2, 3.0)]
    assert fuse(hits, {3: 1.0, 2: 0.5}, 1.0, lambda key: True) == hits


def test_fusion_adds_only_the_nearest_messages_that_are_allowed() -> None:
    near = {key: key / 1_000 for key in range(1, 1_000)}
    fused = fuse([(999, 5.0)], near, 0.0, lambda key: key % 2 == 1)
    assert len(fused) == MAX_VECTOR_HITS + 1
    assert fused[0][0] == 999
    assert all(key % 2 == 1 for key, _ in fused)
    assert fused == sorted(fused, key=lambda hit: -hit[1])
