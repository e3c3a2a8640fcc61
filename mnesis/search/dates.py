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
_CHINESE = re.compile(
    r"(?:(\d{4})年)?([\d一二三四五六七八九十]{1,2})月(?:([\d一二三四五六七八九十]{1,3})[日号]|(初|上旬|中旬|中|下旬|底|末))?"
)
_MONTH = re.compile("|".join(rf"\b({names})\b" for names in MONTH_NAMES))
_DAY = re.compile(r"\b(\d{1,2})(?:st|nd|rd|th|er)?\b")
_YEAR = re.compile(r"\b((?:19|20)\d\d)\b")

_PARTS_OF_MONTH = ((1, 10), (11, 20), (21, 31))
_PART_BEFORE_MONTH = re.compile(
    r"\b(?:(early|(?:beginning|start) of|anfang|debut|(?:principios|comienzos|inicios) de)"
    r"|(mid|(?:the )?middle of|mitte|mi|mediados de)"
    r"|(late|end of|ende|fin|(?:finales|fines) de))(?:\s+|-)(?:de\s+|d')?$"
)
_CHINESE_PARTS = {"初": 1, "上旬": 1, "中旬": 2, "中": 2, "下旬": 3, "底": 3, "末": 3}


@dataclass(frozen=True, slots=True)
class DateMention:
    """A date mentioned in a query. `year` and `day` are None if the query does not give them.

    `last_day` is set for a part of a month, such as "early May", which begins with `day`.
    """

    year: int | None
    month: int
    day: int | None
    last_day: int | None = None


def find_dates(query: str) -> list[DateMention]:
    """Return the dates mentioned in a query, in the languages of `mnesis.search.time_words`.

    A year alone is not a date. "may" in lower case and "Mars" with a capital are not months.
    """
    mentions = [_mention(year, month, day) for year, month, day in _ISO.findall(query)]
    mentions += [_mention(year, month, day) for day, month, year in _DOTTED.findall(query)]
    mentions += [
        _mention(year, _chinese_number(month), _chinese_number(day), _CHINESE_PARTS.get(part))
        for year, month, day, part in _CHINESE.findall(query)
    ]
    remaining_text = _CHINESE.sub(" ", _DOTTED.sub(" ", _ISO.sub(" ", query)))
    months = find_months(remaining_text)
    if months:
        years: list[int | None] = [int(year) for year in _YEAR.findall(remaining_text)]
        days = [(int(day), None) for day in _DAY.findall(remaining_text) if 1 <= int(day) <= 31]
        mentions += [
            DateMention(year, month, *day)
            for month, start, _ in months
            for year in years or [None]
            for day in _part_before(remaining_text, start) or days or [(None, None)]
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
        part = _PART_BEFORE_MONTH.search(plain_text(query[:start]))
        start = start if part is None else part.start()
        query = query[:start] + " " * (end - start) + query[end:]
    query = _CHINESE.sub(" ", _DOTTED.sub(" ", _ISO.sub(" ", query)))
    return _DAY.sub(" ", _YEAR.sub(" ", query)) if months else query


def _part_before(text: str, month_start: int) -> list[tuple[int, int]]:
    """Return the days of the part that is named before a month: none or one."""
    match = _PART_BEFORE_MONTH.search(plain_text(text[:month_start]))
    return [] if match is None else [_PARTS_OF_MONTH[(match.lastindex or 1) - 1]]


def _mention(year: str, month: str, day: str, part: int | None = None) -> DateMention:
    first_day, last_day = _PARTS_OF_MONTH[part - 1] if part is not None else (int(day) if day else None, None)
    return DateMention(int(year) if year else None, int(month or 0), first_day, last_day)


def _chinese_number(text: str) -> str:
    """Return a number up to 31 in digits, or "" for other text."""
    if not text or text.isdecimal():
        return text
    tens, has_ten, ones = text.rpartition("十")
    digits = "零一二三四五六七八九"
    if len(tens) > 1 or len(ones) > 1:
        return ""
    return str((digits.find(tens) if tens else 1) * 10 * bool(has_ten) + (digits.find(ones) if ones else 0))


def match_score(day: date, mentions: Sequence[DateMention]) -> float:
    """Return the quality of the best match between a day and the mentioned dates, from 0 to 1."""
    return max((_score_mention(day, mention) for mention in mentions), default=0.0)


def _score_mention(day: date, mention: DateMention) -> float:
    if (day.month, mention.year or day.year) == (mention.month, day.year):
        if mention.day is None:
            return 1.0
        if mention.last_day is not None:
            return 1.0 if mention.day <= day.day <= mention.last_day else SAME_MONTH_SCORE
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
