"""Dates mentioned in a query, and how well a day matches them. All days are in UTC. Pure functions, no I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
MAX_DAYS_AFTER_DAY = 14
"""People mostly report an event within two weeks. This and the values below were chosen by trial."""
MAX_DAYS_AFTER_MONTH = 10
SAME_MONTH_SCORE = 0.3
NEXT_MONTH_SCORE = 0.4

_ISO = re.compile(r"\b(\d{4})-(\d{1,2})(?:-(\d{1,2}))?\b")
_MONTH = re.compile(rf"\b({'|'.join(MONTHS)})\b", re.IGNORECASE)
_DAY = re.compile(r"\b(\d{1,2})(?:st|nd|rd|th)?\b")
_YEAR = re.compile(r"\b((?:19|20)\d\d)\b")


@dataclass(frozen=True, slots=True)
class DateMention:
    """A date mentioned in a query. `year` and `day` are None if the query does not give them."""

    year: int | None
    month: int
    day: int | None


def find_dates(query: str) -> list[DateMention]:
    """Return the dates mentioned in a query. A year alone is not a date, and "may" in lower case is not a month."""
    mentions = [
        DateMention(int(year), int(month), int(day) if day else None)
        for year, month, day in _ISO.findall(query)
        if 1 <= int(month) <= 12
    ]
    remaining_text = _ISO.sub(" ", query)
    months = [MONTHS.index(name.lower()) + 1 for name in _MONTH.findall(remaining_text) if name != "may"]
    if not months:
        return mentions
    years: list[int | None] = [int(year) for year in _YEAR.findall(remaining_text)]
    days: list[int | None] = [int(day) for day in _DAY.findall(remaining_text) if 1 <= int(day) <= 31]
    return mentions + [
        DateMention(year, month, day) for month in months for year in years or [None] for day in days or [None]
    ]


def match_score(day: date, mentions: list[DateMention]) -> float:
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
