"""Dates that a question names, and how well a moment fits them. In UTC."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
DAYS_AFTER = 14
"""What happened on a day is mostly told in the two weeks after it."""
DAYS_AFTER_MONTH = 10
SAME_MONTH = 0.3
JUST_AFTER = 0.4

_ISO = re.compile(r"\b(\d{4})-(\d{1,2})(?:-(\d{1,2}))?\b")
_MONTH = re.compile(rf"\b({'|'.join(MONTHS)})\b", re.IGNORECASE)
_DAY = re.compile(r"\b(\d{1,2})(?:st|nd|rd|th)?\b")
_YEAR = re.compile(r"\b((?:19|20)\d\d)\b")


@dataclass(frozen=True, slots=True)
class Named:
    """A date as a question names it; None where it leaves something open."""

    year: int | None
    month: int
    day: int | None


def named_dates(question: str) -> list[Named]:
    """The months and days a question names. A year alone names none; "may" in lower case is no month."""
    found = [
        Named(int(year), int(month), int(day) if day else None)
        for year, month, day in _ISO.findall(question)
        if 1 <= int(month) <= 12
    ]
    rest = _ISO.sub(" ", question)
    months = [MONTHS.index(name.lower()) + 1 for name in _MONTH.findall(rest) if name != "may"]
    if not months:
        return found
    years: list[int | None] = [int(year) for year in _YEAR.findall(rest)]
    days: list[int | None] = [int(day) for day in _DAY.findall(rest) if 1 <= int(day) <= 31]
    return found + [Named(year, month, day) for month in months for year in years or [None] for day in days or [None]]


def fit(moment: date, named: list[Named]) -> float:
    """How well a day fits the dates, from 0 to 1."""
    return max((_fit_one(moment, one) for one in named), default=0.0)


def _fit_one(moment: date, named: Named) -> float:
    if (moment.month, named.year or moment.year) == (named.month, moment.year):
        if named.day is None:
            return 1.0
        return 1.0 if 0 <= moment.day - named.day <= DAYS_AFTER else SAME_MONTH
    before = moment.replace(day=1) - timedelta(days=1)
    follows = (before.month, named.year or before.year) == (named.month, before.year)
    return JUST_AFTER if follows and moment.day <= DAYS_AFTER_MONTH else 0.0


def day_of(created_at: int) -> date:
    """The day of a time in milliseconds; the first one there is for what no calendar holds."""
    try:
        return datetime.fromtimestamp(created_at / 1000, UTC).date()
    except (OverflowError, ValueError, OSError):
        return date(1970, 1, 1)
