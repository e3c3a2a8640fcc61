"""Passages of long texts: what was asked for is shown, and the rest has a pointer."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mnesis.search.snippets import find_matches, find_passages, passage_weight, passages_around, passages_excerpt


def count(text: str) -> int:
    return len(text) // 4 + 1


def excerpt_for(text: str, words: str, max_tokens: int) -> str | None:
    return passages_excerpt(text, find_matches(text, [(word,) for word in words.split()]), max_tokens, count, "msg_1")


@pytest.mark.parametrize("lines", [60, 400, 5_000])
def test_a_line_in_the_middle_of_a_long_output_is_shown(lines: int) -> None:
    output = [f"step {number:04} compiled unit_{number:04} with {number % 7} remarks" for number in range(lines)]
    output[lines // 2] = "step skipped unit_orchid: its licence file is missing"
    excerpt = excerpt_for("\n".join(output), "unit orchid skipped", 150)
    assert excerpt is not None
    assert output[lines // 2] in excerpt
    assert count(excerpt) <= 150
    assert 'lcm_expand("msg_1")' in excerpt


def test_two_places_far_apart_are_both_shown() -> None:
    text = "\n".join(["filler of no use"] * 200 + ["the alpha line"] + ["filler of no use"] * 200 + ["the omega line"])
    excerpt = excerpt_for(text, "alpha omega", 400)
    assert excerpt is not None
    assert "the alpha line" in excerpt
    assert "the omega line" in excerpt


def test_a_frequent_word_does_not_hide_a_rare_one() -> None:
    text = "error " * 40_000 + "needle " + "error " * 40_000
    excerpt = excerpt_for(text, "error needle", 150)
    assert excerpt is not None
    assert "needle" in excerpt


def test_a_text_without_the_words_has_no_passages() -> None:
    assert excerpt_for("nothing here " * 500, "absent", 100) is None


def test_words_near_each_other_weigh_more_than_words_far_apart() -> None:
    terms = [("gate",), ("code",), ("harbour",)]
    near, far = "the gate code of the harbour", "gate " + "filler " * 100 + "code " + "filler " * 100 + "harbour"
    assert passage_weight(find_matches(near, terms)) > 2 * passage_weight(find_matches(far, terms))


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=600), st.lists(st.tuples(st.text(min_size=1, max_size=8)), max_size=4), st.integers(1, 300))
def test_spans_are_in_order_and_inside_the_text(text: str, terms: list[tuple[str]], max_chars: int) -> None:
    spans = find_passages(text, find_matches(text, terms), max_chars)
    edges = [edge for span in spans for edge in span]
    assert edges == sorted(edges)
    assert all(0 <= edge <= len(text) for edge in edges)


def test_passages_around_matches_have_whole_lines_and_are_joined() -> None:
    text = "\n".join(f"line {number}" for number in range(200))
    first, second, far = (text.index(f"line {number}\n") for number in (50, 51, 150))
    shown = passages_around(text, [(first, first + 7), (second, second + 7), (far, far + 8)], 30)
    lines = [f"line {number}" for number in (*range(48, 54), *range(148, 153))]
    assert shown == "… " + "\n".join([*lines[:6], "…", *lines[6:]]) + " …"


@given(st.text(min_size=1, max_size=600), st.data(), st.integers(1, 300))
def test_passages_contain_the_beginning_of_each_match(text: str, data: st.DataObject, max_chars: int) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    assert text[start : min(end, start + max_chars)].strip() in passages_around(text, [(start, end)], max_chars)
