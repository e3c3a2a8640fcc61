"""Dates mentioned in a query, and how well a day matches them. All days are in UTC. Pure functions, no I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from mnesis.search.time_words import MONTH_NAMES, plain_text

MAX_DAYS_AFTER_DAY = 14
"""People mostly report an event within two weeks. This value and those below were chosen by trial."""
MAX_DAYS_AFTER_MONTH = 10
SAME_MONTH_SCORE = 0.3
NEXT_MONTH_SCORE = 0.4

_ISO = re.compile(r"\b(\d{4})-(\d{1,2})(?:-(\d{1,2}))?\b")
_DOTTED = re.compile(r"\b(\d{1,2})\.(\d{1,2})\.(\d{4})?(?![\d.])")
_CHINESE = re.compile(r"(?:(\d{4})年)?([\d一二三四五六七八九十]{1,2})月(?:([\d一二三四五六七八九十]{1,3})[日号])?")
_MONTH = re.compile("|".join(rf"\b({names})\b" for names in MONTH_NAMES))
_DAY = re.compile(r"\b(\d{1,2})(?:st|nd|rd|th|er)?\b")
_YEAR = re.compile(r"\b((?:19|20)\d\d)\b")


@dataclass(frozen=True, slots=True)
class DateMention:
    """A date mentioned in a query. `year` and `day` are None if the query does not give them."""

    year: int | None
    month: int
    day: int | None


def find_dates(query: str) -> list[DateMention]:
    """Return the dates mentioned in a query, in the languages of `mnesis.search.time_words`.

    A year alone is not a date. "may" in lower case and "Mars" with a capital are not months.
    """
    mentions = [_mention(year, month, day) for year, month, day in _ISO.findall(query)]
    mentions += [_mention(year, month, day) for day, month, year in _DOTTED.findall(query)]
    mentions += [
        _mention(year, _chinese_number(month), _chinese_number(day)) for year, month, day in _CHINESE.findall(query)
    ]
    remaining_text = _CHINESE.sub(" ", _DOTTED.sub(" ", _ISO.sub(" ", query)))
    months = [month for month, _, _ in find_months(remaining_text)]
    if months:
        years: list[int | None] = [int(year) for year in _YEAR.findall(remaining_text)]
        days: list[int | None] = [int(day) for day in _DAY.findall(remaining_text) if 1 <= int(day) <= 31]
        mentions += [
            DateMention(year, month, day) for month in months for year in years or [None] for day in days or [None]
        ]
    return [mention for mention in mentions if 1 <= mention.month <= 12]


def find_months(text: str) -> list[tuple[int, int, int]]:
    """Return the month names in a text: the number of each month, and where its name begins and ends."""
    return [
        (match.lastindex or 0, match.start(), match.end())
        for match in _MONTH.finditer(plain_text(text))
        if text[match.start() : match.end()] not in ("may", "Mars")
    ]


def without_dates(query: str) -> str:
    """Return the query without the dates that `find_dates` reads."""
    for _, start, end in reversed(months := find_months(query)):
        query = query[:start] + " " * (end - start) + query[end:]
    query = _CHINESE.sub(" ", _DOTTED.sub(" ", _ISO.sub(" ", query)))
    return _DAY.sub(" ", _YEAR.sub(" ", query)) if months else query


def _mention(year: str, month: str, day: str) -> DateMention:
    return DateMention(int(year) if year else None, int(month or 0), int(day) if day else None)


def _chinese_number(text: str) -> str:
    """Return a number up to 31 in digits, or "" if it is not one."""
    if not text or text.isdecimal():
        return text
    tens, has_ten, ones = text.rpartition("十")
    digits = "零一二三四五六七八九"
    if len(tens) > 1 or len(ones) > 1:
        return ""
    return str((digits.find(tens) if tens else 1) * 10 * bool(has_ten) + (digits.find(ones) if ones else 0))


def match_score(day: date, mentions: Sequence[DateMention]) -> float:
    """Return how well a day matches any of the mentioned dates, from 0 to 1."""
    return max((_score_mention(day, mention) for mention in mentions), default=0.0)


def _score_mention(day: date, mention: DateMention) -> float:
    if (day.month, mention.year or day.year) == (mention.month, day.year):
        if mention.day is None:
            return 1.0
        return 1.0 if 0 <= day.day - mention.day <= MAX_DAYS_AFTER_DAY else SAME_MONTH_SCORE
    previous_month = day.replace(day=1) - timedelta(days=1)
    is_next_month = (previous_month.month, mention.year or previous_month.year) == (mention.month, previous_month.year)
    return NEXT_MONTH_SCORE if is_next_month and day.day <= MAX_DAYS_AFTER_MONTH else 0.0


def utc_day(created_at: int) -> date:
    """Return the day of a time in milliseconds since 1970, or 1970-01-01 if the time is out of range."""
    try:
        return datetime.fromtimestamp(created_at / 1000, UTC).date()
    except (OverflowError, ValueError, OSError):
        return date(1970, 1, 1)
