"""Time expressions in five languages: the spans they name, and what a search does with them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnesis.errors import ConfigurationError
from mnesis.search import times
from mnesis.search.dates import find_dates
from mnesis.search.query_time import read_query_time
from mnesis.search.time_parameters import TimeInput, resolve_times
from mnesis.search.time_words import TIME_WORDS
from mnesis.search.times import find_time_expressions

NOW = datetime(2026, 5, 20, 15, tzinfo=UTC)
"""A Wednesday."""

SPANS = {
    ("2026-05-11", "2026-05-18"): "last week|letzte Woche|vergangene Woche|la semaine dernière|la semaine passée"
    "|la semana pasada|上周|上个星期",
    ("2026-05-19", "2026-05-20"): "yesterday|gestern|hier|ayer|昨天|last Tuesday|Tuesday|am Dienstag|letzten Dienstag"
    "|mardi dernier|le mardi|el martes pasado|el martes|星期二",
    ("2026-05-18", "2026-05-19"): "the day before yesterday|vorgestern|avant-hier|anteayer|前天",
    ("2026-05-19T17", "2026-05-20"): "yesterday evening|gestern Abend|hier soir|昨天晚上|on Tuesday evening"
    "|am Dienstagabend|mardi soir|星期二晚上",
    ("2026-05-19T19", "2026-05-20T06"): "last night|anoche|el martes por la noche|ayer por la noche",
    ("2026-05-19T04", "2026-05-19T12"): "yesterday morning|gestern Morgen|hier matin|ayer por la mañana|昨天早上",
    ("2026-05-20T04", "2026-05-20T12"): "this morning|heute früh|ce matin|esta mañana|今天早上",
    ("2026-05-17", "2026-05-18"): "three days ago|vor drei Tagen|il y a trois jours|hace tres días|三天前|3天前",
    (
        "2026-05-17T04",
        "2026-05-17T12",
    ): "three days ago in the morning|vor drei Tagen am Morgen|il y a trois jours au matin"
    "|hace tres días por la mañana",
    ("2026-05-14", "2026-05-19"): "a few days ago|vor ein paar Tagen|il y a quelques jours|hace unos días|几天前",
    ("2026-05-04", "2026-05-11"): "2 weeks ago|vor zwei Wochen|il y a deux semaines|hace dos semanas|两周前",
    ("2026-04-01", "2026-05-01"): "last month|letzten Monat|le mois dernier|el mes pasado|上个月",
    ("2025-01-01", "2026-01-01"): "last year|letztes Jahr|l'année dernière|el año pasado|去年",
    ("2026-05-16", "2026-05-18"): "last weekend|am Wochenende|le week-end dernier|el fin de semana pasado|周末",
    ("2026-05-12", "2026-05-13"): "Tuesday last week|Dienstag letzter Woche|mardi de la semaine dernière|上周二",
    ("2026-05-17T15", "2026-05-20T15"): "in the last three days|in den letzten drei Tagen|les trois derniers jours"
    "|los últimos tres días|最近三天",
    ("2026-05-18", "2026-05-20T15"): "since Monday|seit Montag|depuis lundi|desde el lunes",
    ("1970-01-01", "2026-05-11"): "before last week|vor letzter Woche|avant la semaine dernière",
}
CASES = [(text, *span) for span, texts in SPANS.items() for text in texts.split("|")]


def milliseconds(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(("text", "start", "end"), CASES, ids=[text for text, *_ in CASES])
def test_an_expression_names_a_span(text: str, start: str, end: str) -> None:
    (found,) = find_time_expressions(f"{text}?", NOW)
    assert (found.span.start, found.span.end) == (milliseconds(start), milliseconds(end))


@pytest.mark.parametrize(
    "text",
    ["next Tuesday", "nächste Woche", "mardi prochain", "el próximo martes", "下周二", "tomorrow", "Wo liegt hier der Ofen?",
     "life goes on", "one port for each day", "How long is a week?", "the last resort", "", "\ud800", "x" * 100_000],
)  # fmt: skip
def test_the_future_and_other_words_name_no_span(text: str) -> None:
    assert find_time_expressions(text, NOW) == []


def test_days_begin_where_the_time_zone_of_now_says() -> None:
    auckland = NOW.astimezone(timezone(timedelta(hours=12)))
    (found,) = find_time_expressions("yesterday", auckland)
    assert found.span.start == milliseconds("2026-05-19T12:00")


@pytest.mark.parametrize(
    ("text", "month", "day", "year"),
    [("am 3. März", 3, 3, None), ("le 3 mai 2023", 5, 3, 2023), ("el 3 de mayo", 5, 3, None), ("5月3日", 5, 3, None),
     ("2023年五月三十一日", 5, 31, 2023), ("3.5.2023", 5, 3, 2023), ("en août", 8, None, None), ("May 2nd", 5, 2, None)],
)  # fmt: skip
def test_dates_are_read_in_five_languages(text: str, month: int, day: int | None, year: int | None) -> None:
    (found,) = find_dates(text)
    assert (found.month, found.day, found.year) == (month, day, year)


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [("early May", 1, 10), ("Anfang Mai", 1, 10), ("début mai", 1, 10), ("a principios de mayo", 1, 10), ("5月初", 1, 10),
     ("mid-May", 11, 20), ("Mitte Mai", 11, 20), ("mi-mai", 11, 20), ("a mediados de mayo", 11, 20), ("五月中旬", 11, 20),
     ("at the end of May", 21, 31), ("Ende Mai", 21, 31), ("fin mai", 21, 31), ("a finales de mayo", 21, 31), ("5月底", 21, 31)],
)  # fmt: skip
def test_parts_of_months_are_read_in_five_languages(text: str, first: int, last: int) -> None:
    (found,) = find_dates(text)
    assert (found.month, found.day, found.last_day) == (5, first, last)
    assert read_query_time(text, NOW).is_only_time


def test_words_that_only_look_like_months_are_not_dates() -> None:
    assert find_dates("may I see the pictures of Mars and version 1.2.3?") == []


@pytest.mark.parametrize(
    "query",
    ["What happened last week?", "What did we talk about yesterday?", "Was haben wir letzte Woche besprochen?",
     "Was war am Dienstagabend?", "De quoi avons-nous parlé la semaine dernière ?", "¿De qué hablamos la semana pasada?",
     "上周我们讨论了什么？", "What did we decide on 3 May?", "¿Qué hice ayer?", "Was geschah gestern?", "im März", "en février",
     "en febrero"],
)  # fmt: skip
def test_a_question_about_nothing_but_a_time_is_seen_as_such(query: str) -> None:
    assert read_query_time(query, NOW).is_only_time


@pytest.mark.parametrize(
    "query", ["Which valve leaked last week?", "What happened to the boat yesterday?", "What happened?"]
)
def test_a_question_that_asks_for_more_is_not_only_about_time(query: str) -> None:
    assert not read_query_time(query, NOW).is_only_time


@pytest.mark.parametrize(
    ("value", "start"),
    [("last week", "2026-05-11"), ("la semana pasada", "2026-05-11"), ("2026-03-01", "2026-03-01"),
     ("2026-03-01T14:30", "2026-03-01T14:30"), ("May 3rd", "2026-05-03"), ("in August", "2025-08-01"), ("mid August", "2025-08-11"), ("2d", "2026-05-18T15"),
     ("am Dienstagabend", "2026-05-19T17"), (datetime(2026, 3, 1), "2026-03-01"), (1_000, "1970-01-01T00:00:01")],
)  # fmt: skip
def test_parameters_accept_natural_times(value: TimeInput, start: str) -> None:
    assert resolve_times(after=value, now=NOW).after == milliseconds(start)


def test_when_is_a_beginning_and_an_end() -> None:
    times = resolve_times(when="last week", now=NOW)
    assert (times.after, times.before) == (milliseconds("2026-05-11"), milliseconds("2026-05-18"))
    times = resolve_times(when="the end of February", now=NOW)
    assert (times.after, times.before) == (milliseconds("2026-02-21"), milliseconds("2026-03-01"))
    narrowed = resolve_times(after="2026-05-13", before="2026-05-15", when="last week", now=NOW)
    assert (narrowed.after, narrowed.before) == (milliseconds("2026-05-13"), milliseconds("2026-05-15"))


def test_dateparser_reads_other_languages() -> None:
    # dateparser 1.2 to 1.5 know these: https://dateparser.readthedocs.io/en/latest/supported_locales.html
    assert resolve_times(after="wczoraj", now=NOW).after == milliseconds("2026-05-19")
    assert resolve_times(after="vorige week", now=NOW).after == milliseconds("2026-05-11")


@pytest.mark.parametrize("name", ["after", "before", "when"])
@pytest.mark.parametrize("value", ["when the cows come home", "", "42 parsecs", [1]])
def test_what_is_not_a_time_is_refused_with_what_is_expected(name: str, value: TimeInput) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} must be a time, not .*'last week'"):
        resolve_times(**{name: value}, now=NOW)


@given(st.text(max_size=60))
def test_any_text_is_read_without_an_error(text: str) -> None:
    for found in find_time_expressions(text, NOW):
        assert 0 <= found.start < found.end <= len(text)
        assert found.span.start < found.span.end
    read_query_time(text, NOW)


@given(
    st.lists(
        st.sampled_from([*re.findall("[a-z]+", " ".join(words for *_, words in TIME_WORDS)), "tag", "3", ","]),
        max_size=8,
    )
)
def test_texts_without_chinese_are_read_by_a_faster_pattern_alike(words: list[str]) -> None:
    for text in (" ".join(words), "".join(words)):
        found = [
            [(match.lastindex, match.span()) for match in pattern.finditer(text)]
            for pattern in (times.word_pattern(), times.latin_pattern())
        ]
        assert found[0] == found[1]
