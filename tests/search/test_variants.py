"""Every word finds something if something is there: each rung of the fallback, through a store."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnesis.models.search import Search
from mnesis.search.variants import MAX_VARIANT_CHARS, are_two_typos_apart, is_one_typo_away, variants
from mnesis.store.base import Store
from tests.search.test_searching import fill

NOISE = ("The kettle is on.", "Shall we walk by the canal later?", "Nadia sends her regards.", "There is soup left.")


async def first_text(store: Store, text: str, query: str) -> str | None:
    """Search a log of one fitting message and unrelated ones."""
    texts = [*NOISE[:2], text, *NOISE[2:]]
    await fill(store, "log", texts)
    page = await store.search(Search(query, "log"))
    return next((texts[hit.seq - 1] for hit in page), None)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        pytest.param("photosynthetic", "Lamps tuned for photosynthesis.", id="stem"),
        pytest.param("9f8e7d6", "Reverted in 9f8e7d6a5b4c, it works.", id="hash prefix"),
        pytest.param("getUserById", "call get_user_by_id twice", id="humps to underscores"),
        pytest.param("retryBackoffMs", "retry-backoff-ms is 250", id="humps to hyphens"),
        pytest.param("get_user_by_id", "getUserById is slow", id="underscores to humps"),
        pytest.param("data base", "The database is locked.", id="joined"),
        pytest.param("database", "One data base is enough.", id="split"),
        pytest.param("12500", "The bill was 12,500 in all.", id="digit separators in the text"),
        pytest.param("12,500", "The bill was 12500 in all.", id="digit separators in the query"),
        pytest.param("Datenbank", "Die Datenbankverbindung fehlt.", id="German compound, head"),
        pytest.param("Keller", "Der Heizungskeller ist zu.", id="German compound, tail"),
        pytest.param("Schluessel", "Der Schlüssel liegt dort.", id="umlaut written out"),
        pytest.param("Schlüssel", "Der Schluessel liegt dort.", id="umlaut in the query"),
        pytest.param("Bücher", "Das Buch liegt dort.", id="German plural"),
        pytest.param("соседка", "Ключ лежит у соседки.", id="Russian case"),
        pytest.param("lápiz", "Los lápices están en el cajón.", id="Spanish plural"),
        pytest.param("cheval", "Les chevaux sont partis.", id="French plural"),
        pytest.param("ילדים", "הילדים בגן", id="Hebrew prefix in the text"),
        pytest.param("הילדים", "ילדים בגן", id="Hebrew prefix in the query"),
        pytest.param("كتاب", "هذا كِتَابٌ جديد", id="Arabic vowel signs"),
        pytest.param("狗", "我昨天买了一只小狗。", id="last character of a run"),
        pytest.param("狗", "小狗很好", id="one character"),
        pytest.param("🎉", "Party 🎉 tonight", id="emoji"),
        pytest.param("Przybilsky", "The notary is Przybylski.", id="typo in a name"),
        pytest.param("acommodation", "The accommodation is booked.", id="missing letter"),
        pytest.param("analysis", "We analyse samples.", id="stem that the index would stem again"),
        pytest.param("organisation", "Organizing takes weeks.", id="British spelling"),
        pytest.param("4200", "Came: 4 200 people.", id="digits with spaces"),
        pytest.param("5551234", "Call 555-1234 now.", id="digits split"),
        pytest.param("quarterdekc", "On the quaterdeck.", id="two typos"),
        pytest.param("Jhon", "John fixed it.", id="swapped letters of a short word"),
        pytest.param("Versicherungen", "Die Krankenversicherung kam.", id="German plural inside a compound"),
        pytest.param("ёлка", "Купили елку вчера.", id="Russian yo in the query"),
        pytest.param("елка", "Купили ёлку вчера.", id="Russian yo in the text"),
        pytest.param("œuvre", "Une oeuvre rare.", id="ligature in the query"),
        pytest.param("oeuvre", "Une œuvre rare.", id="ligature in the text"),
        pytest.param("ספר", "קראתי את הספר", id="Hebrew article before a short word"),
        pytest.param("בבית", "הבית שלנו", id="other Hebrew prefix"),
        pytest.param("بيت", "والبيت صغير", id="Arabic prefixes"),
        pytest.param("ｶﾒﾗ", "新しいカメラです", id="half-width katakana"),
        pytest.param("final office", "The ﬁnal oﬃce plan is here.", id="ligatures"),
        pytest.param("Versicherungspolice", "Die Ver\u00adsicherungs\u00adpolice ist da.", id="soft hyphens"),
        pytest.param("ＡＢＣ１２３", "The code is abc123.", id="full-width letters"),
        pytest.param("🇩🇪", "The flag 🇩🇪 is up.", id="flag"),
        pytest.param("QuotaExceeded", "\x1b[31mQuotaExceeded\x1b[0m on bravo", id="colour codes"),
    ],
)
async def test_a_word_is_found_in_other_shapes(store: Store, query: str, text: str) -> None:
    assert await first_text(store, text, query) == text


@pytest.mark.parametrize(
    ("word", "other", "expected"),
    [
        ("wensdai", "wednesdai", True),
        ("quarterdekc", "quaterdeck", True),
        ("harbour", "herbert", False),
        ("harbour", "barbours", True),
    ],
)
def test_two_typos_are_two_changes(word: str, other: str, expected: bool) -> None:
    assert are_two_typos_apart(word, other) is expected


async def test_a_word_that_matches_is_not_replaced(store: Store) -> None:
    await fill(store, "log", ["a light", "lighthouse", "the house"])
    assert [hit.seq for hit in await store.search(Search("light house lighthouses", "log"))][:1] == [2]


async def test_what_is_nowhere_finds_nothing(store: Store) -> None:
    assert await first_text(store, "The roof is dry.", "xylophonist") is None


@given(st.text(max_size=80))
def test_any_word_has_few_variants(word: str) -> None:
    assert len(list(variants(word.lower(), (), ()))) <= 2 * MAX_VARIANT_CHARS


@given(st.text("abc", min_size=1, max_size=8), st.integers(0, 7), st.sampled_from("xyz"))
def test_one_typo_is_recognised(word: str, place: int, letter: str) -> None:
    place %= len(word)
    assert is_one_typo_away(word, word[:place] + letter + word[place:])
    assert is_one_typo_away(word, word[:place] + letter + word[place + 1 :])
    assert not is_one_typo_away(word, word)
    assert not is_one_typo_away(word, letter + word + letter)
