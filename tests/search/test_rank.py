"""Ranking, dates and excerpts: pure functions."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnesis.search import ranking
from mnesis.search.dates import find_dates, match_score
from mnesis.search.query_time import QueryTime, read_query_time
from mnesis.search.ranking import MessageStats, QueryTerm, rank
from mnesis.search.snippets import MAX_EXCERPT_CHARS, best_excerpt, find_matches

MINUTE, DAY = 60_000, 86_400_000
NO_TIME = QueryTime("")


def rows(count: int, *, words: int = 10, first: int = 1, pause: int = MINUTE) -> list[MessageStats]:
    return [MessageStats(first + n, words, n * pause) for n in range(count)]


def word(text: str, *keys: int) -> QueryTerm:
    return QueryTerm((text,), frozenset(keys), len(keys))


def order(found: list[tuple[int, float]]) -> list[int]:
    return [key for key, _ in found]


def test_a_rare_word_weighs_more_than_a_common_one() -> None:
    found = rank(rows(100), [word("rare", 20), word("common", *range(40, 80))], 100, (), NO_TIME)
    assert order(found)[0] == 20


def test_the_answer_after_the_question_that_names_the_topic_is_found() -> None:
    found = order(rank(rows(50), [word("topic", 10)], 50, (), NO_TIME))
    assert found[:2] == [10, 11]
    assert set(found) == {9, 10, 11, 12}


def test_neighbours_in_another_log_get_nothing() -> None:
    apart = [*rows(5), *rows(5, first=1_000)]
    assert set(order(rank(apart, [word("x", 5)], 10, (), NO_TIME))) == {4, 5}


def test_neighbours_after_a_long_pause_get_nothing() -> None:
    assert order(rank(rows(50, pause=DAY), [word("topic", 10)], 50, (), NO_TIME)) == [10]


def test_a_neighbour_of_a_long_message_stays_below_it() -> None:
    # One long tool output holds the words; the short remarks after it hold none.
    given_rows = rows(60)
    given_rows[29] = MessageStats(30, 1_500, 29 * MINUTE)
    found = order(rank(given_rows, [word("gateway", 30), word("certificate", 30)], 60, (), NO_TIME))
    assert found[0] == 30


def test_messages_ranked_without_their_neighbours_are_not_notes() -> None:
    # Of a large log, some stretches are ranked, and single messages from elsewhere.
    stretch = rows(16)
    apart = [MessageStats(100 * n, 10, 100 * n * MINUTE) for n in range(1, 65)]
    alone = dict(rank(stretch, [word("x", 5)], 10_000, (), NO_TIME))
    among_others = dict(rank([*stretch, *apart], [word("x", 5)], 10_000, (), NO_TIME))
    assert among_others[6] / among_others[5] == alone[6] / alone[5]


def test_a_rare_word_counts_for_neighbours_in_messages_chosen_for_it() -> None:
    chosen = rows(40)
    spread = word("rare", *range(1, 40, 3))
    assert {2, 3} <= set(order(rank(chosen, [spread], 10_000, (), NO_TIME)))
    assert not {2, 3} & set(order(rank(chosen, [spread], 40, (), NO_TIME)))


@given(st.lists(st.sets(st.integers(0, 80), max_size=12), max_size=4))
def test_proximity_falls_by_equal_steps_to_the_nearest_match(sets: list[set[int]]) -> None:
    weights = [1.0 + number for number in range(len(sets))]
    reach = ranking.PROXIMITY_WINDOW + 1
    expected = [
        sum(
            weight * max(0, reach - min(abs(slot - each) for each in slots)) / reach
            for weight, slots in zip(weights, sets, strict=True)
            if slots
        )
        for slot in range(90)
    ]
    assert ranking.proximities([sorted(slots) for slots in sets], weights, 90, [False] * len(sets)) == pytest.approx(
        expected, abs=1e-3
    )


def test_neighbours_count_less_where_messages_are_long() -> None:
    def share_of_neighbour(words: int) -> float:
        scores = dict(rank(rows(60, words=words), [word("x", 30)], 60, (), NO_TIME))
        return scores[31] / scores[30]

    assert share_of_neighbour(400) < share_of_neighbour(20) / 2


def test_the_newest_of_several_values_of_a_fact_comes_first() -> None:
    given_rows = rows(60)
    given_rows[49] = MessageStats(50, 25, 49 * MINUTE)
    found = order(rank(given_rows, [word("gate", 10, 50), word("code", 10, 50)], 60, (), NO_TIME))
    assert found[:2] == [50, 10]


def test_a_reply_that_repeats_a_message_is_not_a_newer_value_of_it() -> None:
    given_rows = rows(60)
    given_rows[10] = MessageStats(11, 25, 10 * MINUTE)
    found = order(rank(given_rows, [word("gate", 10, 11), word("code", 10, 11)], 60, (), NO_TIME))
    assert found[:2] == [10, 11]


def test_a_variant_of_a_word_counts_less_than_a_word() -> None:
    terms = [word("sure", 10), QueryTerm(("maybe",), frozenset([40]), 1, weight=0.4)]
    assert order(rank(rows(60), terms, 60, (), NO_TIME))[0] == 10


def test_of_two_equal_matches_the_one_in_fitting_surroundings_wins() -> None:
    found = order(rank(rows(200), [word("boat", 20, 120), word("harbour", 114)], 200, (), NO_TIME))
    assert found.index(120) < found.index(20)


def test_a_short_message_is_told_from_a_long_one_with_the_same_word() -> None:
    given_rows = rows(100)
    given_rows[69] = MessageStats(70, 2_000, 0)
    assert order(rank(given_rows, [word("x", 30, 70)], 100, (), NO_TIME))[0] == 30


def test_messages_of_the_speaker_whom_the_question_names_come_first() -> None:
    spoken = [MessageStats(n, 10, 0, "maria" if n == 70 else "tom") for n in range(1, 101)]
    asked = [word("maria", 1, 2, 3), word("x", 30, 70)]
    assert order(rank(spoken, asked, 100, {"maria", "tom"}, NO_TIME))[0] == 70


def test_messages_of_the_time_that_the_question_names_come_first() -> None:
    found = rank(rows(100, pause=DAY), [word("x", 10, 70)], 100, (), read_query_time("in March 1970", None))
    assert order(found)[0] == 70


def test_equal_scores_stay_in_order_of_the_log() -> None:
    assert order(rank(rows(100), [word("x", 20, 50, 80)], 100, (), NO_TIME))[:3] == [20, 50, 80]


@given(st.lists(st.sets(st.integers(1, 60), max_size=20), max_size=5))
def test_every_message_with_a_word_is_ranked_once(keys: list[set[int]]) -> None:
    found = rank(rows(60), [word(str(n), *each) for n, each in enumerate(keys) if each], 60, (), NO_TIME)
    assert set().union(*keys) <= set(order(found))
    assert len(order(found)) == len(set(order(found)))
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)


def test_a_day_fits_itself_and_the_two_weeks_after_it() -> None:
    named = find_dates("what happened on 8 May 2023?")
    assert match_score(date(2023, 5, 8), named) == 1.0
    assert match_score(date(2023, 5, 20), named) == 1.0
    assert 0 < match_score(date(2023, 5, 1), named) < 1
    assert match_score(date(2022, 5, 8), named) == 0.0


def test_dates_are_read_as_people_write_them() -> None:
    assert find_dates("2024-02-29")[0].day == 29
    assert match_score(date(2024, 2, 3), find_dates("in February")) == 1.0
    assert match_score(date(2024, 3, 3), find_dates("in February")) > 0
    assert find_dates("may I ask") == []
    assert match_score(date(2024, 1, 3), find_dates("in December 2023")) > 0


def test_an_excerpt_shows_the_place_with_most_of_the_words() -> None:
    text = "filler " * 200 + "the boat sank " + "filler " * 200 + "the boat reached the harbour " + "filler " * 200
    shown = best_excerpt(text, find_matches(text, [("boats",), ("harbour",)]))
    assert "reached the harbour" in shown
    assert shown.startswith("…")
    assert shown.endswith("…")
    assert len(shown) <= MAX_EXCERPT_CHARS + 2


@given(st.text(max_size=2_000), st.lists(st.text(min_size=1, max_size=5).map(lambda w: (w,)), max_size=4))
def test_any_text_can_be_excerpted(text: str, words: list[tuple[str]]) -> None:
    assert len(best_excerpt(text, find_matches(text, words))) <= MAX_EXCERPT_CHARS + 2
