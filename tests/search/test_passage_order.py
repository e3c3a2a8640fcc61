"""Logs of long messages are ordered by passages, logs of independent notes keep what plain BM25 finds."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnesis.models.search import Search
from mnesis.search import passage_order
from mnesis.search.passage_order import order_by_passages, passage_weight_of_log
from mnesis.search.query_time import QueryTime
from mnesis.search.ranking import MessageStats, QueryTerm, rank
from mnesis.store.base import Store
from tests.support.searching import fill

HOUR_MS = 3_600_000
FILLER = "nothing of interest was written here " * 25
TERMS = [("gate",), ("code",), ("harbour",)]
TOGETHER = f"{FILLER} The gate code of the harbour is 4417. {FILLER}"
APART = f"The gate was painted. {FILLER} A code of honour. {FILLER} The harbour froze."


def test_a_passage_with_all_terms_comes_before_terms_far_apart() -> None:
    ordered = order_by_passages([(1, 9.0), (2, 8.0)], {1: APART, 2: TOGETHER}, TERMS, 2.0)
    assert ordered.hits == [(2, 9.0), (1, 8.0)]
    assert ordered.keys_like_first == {2}


@given(st.lists(st.tuples(st.sampled_from([APART, TOGETHER, FILLER, ""]), st.floats(0.1, 9)), max_size=8), st.data())
def test_the_order_loses_no_hit_and_no_score(found: list[tuple[str, float]], data: st.DataObject) -> None:
    scores = sorted((score for _, score in found), reverse=True)
    hits = list(enumerate(scores))
    keys = data.draw(st.sets(st.sampled_from(range(len(found)))) if found else st.just(set()))
    ordered = order_by_passages(hits, {key: found[key][0] for key in keys}, TERMS, 2.0)
    assert sorted(key for key, _ in ordered.hits) == [key for key, _ in hits]
    assert [score for _, score in ordered.hits] == scores


def test_texts_of_short_messages_are_not_read() -> None:
    assert passage_weight_of_log(1.0) == 0.0
    assert passage_weight_of_log(0.95) == 0.0
    assert passage_weight_of_log(0.1) == pytest.approx(1.8)


def test_a_bounded_part_of_the_texts_is_examined(monkeypatch: pytest.MonkeyPatch) -> None:
    examined: list[int] = []

    def count_chars(text: str, terms: Any) -> list[Any]:
        examined.append(len(text))
        return []

    monkeypatch.setattr(passage_order, "find_matches", count_chars)
    order_by_passages([(key, 1.0) for key in range(9)], dict.fromkeys(range(9), "x" * 400_000), TERMS, 2.0)
    assert sum(examined) == passage_order.MAX_EXAMINED_CHARS


async def test_search_orders_long_messages_by_passages(store: Store) -> None:
    texts = [FILLER, TOGETHER, *[FILLER] * 20, APART, FILLER]
    await fill(store, "s", texts)
    page = await store.search(Search("What is the gate code of the harbour?", "s"))
    assert [hit.message_id for hit in page[:2]] == ["s-2", "s-23"]
    assert "4417" in page[0].excerpt


async def test_of_equal_passages_the_newest_comes_first(store: Store) -> None:
    texts = [FILLER, TOGETHER, *[FILLER] * 20, TOGETHER.replace("4417", "9021"), FILLER]
    await fill(store, "s", texts)
    page = await store.search(Search("What is the gate code of the harbour?", "s"))
    assert "9021" in page[0].excerpt


async def test_an_excerpt_shows_the_word_that_few_hits_have(store: Store) -> None:
    # "report" is in every message, and twice near the beginning of this one; "lagoon" only in one, far behind.
    common = f"The quarterly report, the report of sales. {FILLER}"
    wanted = f"{common} A lagoon was dredged. {FILLER}"
    await fill(store, "s", [*[common] * 6, wanted, *[common] * 6])
    page = await store.search(Search("quarterly report sales lagoon", "s"))
    assert "lagoon" in page[0].excerpt


@st.composite
def notes(draw: st.DrawFn) -> tuple[list[MessageStats], list[QueryTerm]]:
    """Independent notes, an hour apart, and the terms of a query over them."""
    count = draw(st.integers(2, 30))
    messages = [MessageStats(key, draw(st.integers(6, 300)), key * HOUR_MS) for key in range(1, count + 1)]
    keys = st.frozensets(st.integers(1, count), min_size=1)
    terms = [
        QueryTerm((f"term{number}",), each, len(each), weight=draw(st.sampled_from([0.1, 0.7, 1.0])))
        for number, each in enumerate(draw(st.lists(keys, min_size=1, max_size=6)))
    ]
    return messages, terms


@given(notes())
def test_of_notes_the_first_n_have_the_best_half_of_plain_bm25(given: tuple[Any, Any]) -> None:
    messages, terms = given
    found = [key for key, _ in rank(messages, terms, len(messages), (), QueryTime(""))]
    plain = plain_bm25(messages, terms)
    assert set(found) == set(plain)
    for n in range(2, len(found) + 1):
        # The newest value of a fact may come before the others.
        assert set(plain[: n // 2]) <= set(found[: n + 1])


def plain_bm25(messages: list[MessageStats], terms: list[QueryTerm]) -> list[int]:
    """Rank by FTS5 itself, the reference."""
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE words USING fts5 (text)")
    for message in messages:
        words = [term.forms[0] for term in terms if message.key in term.keys]
        filler = ["filler"] * (message.word_count - len(words))
        connection.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (message.key, " ".join([*words, *filler])))
    match = " OR ".join(term.forms[0] for term in terms)
    rows = connection.execute(
        "SELECT rowid FROM words WHERE words MATCH ? ORDER BY round(bm25(words), 12), rowid", (match,)
    ).fetchall()
    connection.close()
    return [key for (key,) in rows]
