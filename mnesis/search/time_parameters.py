"""Parameters that name a time: milliseconds, a datetime, an ISO date, or an expression such as "last week"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from mnesis.errors import ConfigurationError
from mnesis.models.message import Message
from mnesis.search.dates import DateMention, find_dates, without_dates
from mnesis.search.time_words import GLUE
from mnesis.search.times import TimeSpan, covers_all, find_time_expressions

TimeInput = int | float | str | datetime
"""A time: milliseconds since 1970, a datetime, an ISO 8601 date or time, or an expression such as "last week"."""

_AGE_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DAY_MS = 86_400_000
MAX_DATE_MS = 253_402_300_800_000
"""The end of the year 9999, the last one of `datetime`."""


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """The times of a search: from `after` until before `before`, in milliseconds since 1970, asked at `now`."""

    after: int | float | None
    before: int | float | None
    now: datetime


def resolve_times(
    after: TimeInput | None = None,
    before: TimeInput | None = None,
    when: TimeInput | None = None,
    now: datetime | int | None = None,
    cursor: str | None = None,
) -> TimeLimits:
    """Resolve the time parameters of a search.

    `after` starts at the beginning of the time it names, `before` ends there, and `when` covers the whole time.
    Expressions are relative to `now`: a datetime, whose time zone defines where days begin, or milliseconds, in UTC.
    None is the time of the first page, which `cursor` holds, or the current time.

    Raises `ConfigurationError` for a time that cannot be read.
    """
    moment = _resolve_now(now, cursor)
    limits = (
        None if after is None else _limit("after", after, moment),
        None if before is None else _limit("before", before, moment),
    )
    if when is None:
        return TimeLimits(*limits, moment)
    span = _parse_span("when", when, moment)
    return TimeLimits(
        span.start if limits[0] is None else max(limits[0], span.start),
        span.end if limits[1] is None else min(limits[1], span.end),
        moment,
    )


def is_within(message: Message, after: float | None, before: float | None) -> bool:
    """Return whether a message is from `after` until before `before`, in milliseconds since 1970. None is no limit."""
    return (after is None or message.created_at >= after) and (before is None or message.created_at < before)


def _resolve_now(now: datetime | int | None, cursor: str | None) -> datetime:
    if now is None:
        moment = time_of_cursor(cursor) or datetime.now(UTC)
    elif isinstance(now, datetime):
        moment = now if now.tzinfo is not None else now.astimezone()
    else:
        try:
            moment = datetime.fromtimestamp(now / 1000, UTC)
        except (TypeError, ValueError, OverflowError, OSError):
            raise ConfigurationError(
                f"now must be a datetime or milliseconds since 1970, not {str(now)[:80]!r}"
            ) from None
    # Cursors contain milliseconds, and the next page must be relative to the same time.
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def time_of_cursor(cursor: str | None) -> datetime | None:
    """Return the time of the query whose next page a cursor names, in UTC; None if it contains no time."""
    asked_at = _asked_at(cursor)
    return None if asked_at is None else datetime.fromtimestamp(asked_at / 1000, UTC)


def _asked_at(cursor: str | None) -> int | None:
    """Return the time in the cursor of a search. A malformed cursor is refused by the search itself."""
    fields = str(cursor).split(".") if cursor is not None else []
    return int(fields[2]) if len(fields) > 2 and fields[2].isdecimal() and 0 < int(fields[2]) < MAX_DATE_MS else None


def _limit(name: str, value: TimeInput, now: datetime) -> int | float:
    if isinstance(value, int | float):
        return value
    if isinstance(value, datetime):
        return _milliseconds(value, now)
    return _parse_span(name, value, now).start


def _parse_span(name: str, value: TimeInput, now: datetime) -> TimeSpan:
    if isinstance(value, datetime):
        start = _milliseconds(value, now)
        return TimeSpan(start, start + _DAY_MS)
    if not isinstance(value, str):
        raise ConfigurationError(_problem(name, value))
    span = (
        _parse_age(value, now)
        or _parse_iso(value, now)
        or _parse_expression(value, now)
        or _parse_date(value, now)
        or _parse_other(value, now)
    )
    if span is None:
        raise ConfigurationError(_problem(name, value))
    return span


def _problem(name: str, value: object) -> str:
    return (
        f"{name} must be a time, not {str(value)[:80]!r}; pass milliseconds since 1970, a datetime, '2026-03-01' or an expression"
        " such as 'last week'"
    )


def _milliseconds(moment: datetime, now: datetime) -> int:
    return round((moment if moment.tzinfo is not None else moment.replace(tzinfo=now.tzinfo)).timestamp() * 1000)


def _parse_age(text: str, now: datetime) -> TimeSpan | None:
    """Read an age, such as 30m, 12h, 7d or 2w: the time since then."""
    age = re.fullmatch(r"\s*([0-9]{1,6})([mhdw])\s*", text)
    if age is None:
        return None
    try:
        start = now - timedelta(**{_AGE_UNITS[age[2]]: int(age[1])})
        return TimeSpan(_milliseconds(start, now), _milliseconds(now, now))
    except (OverflowError, ValueError, OSError):
        return None


def _parse_iso(text: str, now: datetime) -> TimeSpan | None:
    try:
        start = datetime.fromisoformat(text.strip())
        length = timedelta(days=1) if len(text.strip()) <= len("2026-03-01") else timedelta(minutes=1)
        return TimeSpan(_milliseconds(start, now), _milliseconds(start + length, now))
    except (ValueError, OverflowError, OSError):
        return None


def _parse_expression(text: str, now: datetime) -> TimeSpan | None:
    expressions = find_time_expressions(text, now)
    return expressions[0].span if len(expressions) == 1 and covers_all(text, expressions) else None


def _parse_date(text: str, now: datetime) -> TimeSpan | None:
    """Read a month, a part of one or a day; without a year, the last one that has begun."""
    mentions = find_dates(text)
    if len(mentions) != 1 or re.fullmatch(rf"(?:{GLUE}|\.)*", without_dates(text).lower()) is None:
        return None
    (mention,) = mentions
    try:
        start = _begin(mention, mention.year or now.year, now)
        if mention.year is None and start > now:
            start = _begin(mention, now.year - 1, now)
        end = _end(mention, start)
        return TimeSpan(_milliseconds(start, now), _milliseconds(end, now))
    except (ValueError, OverflowError):
        return None


def _begin(mention: DateMention, year: int, now: datetime) -> datetime:
    return datetime(year, mention.month, mention.day or 1, tzinfo=now.tzinfo)


def _end(mention: DateMention, start: datetime) -> datetime:
    next_month = (start.replace(day=1) + timedelta(days=31)).replace(day=1)
    if mention.last_day is not None:
        return min(start.replace(day=1) + timedelta(days=mention.last_day), next_month)
    return next_month if mention.day is None else start + timedelta(days=1)


def _parse_other(text: str, now: datetime) -> TimeSpan | None:
    """Read expressions that this package does not know, in the languages of dateparser. Loading its data takes a second
    or two.
    """
    from dateparser.date import DateDataParser

    settings: Any = {
        "RELATIVE_BASE": now.replace(tzinfo=None),
        "PREFER_DATES_FROM": "past",
        "RETURN_AS_TIMEZONE_AWARE": False,
    }
    found = DateDataParser(settings=settings).get_date_data(text[:200])
    if found is None or found.date_obj is None:
        return None
    day = found.date_obj.replace(tzinfo=now.tzinfo)
    if found.period == "time":
        return TimeSpan(_milliseconds(day, now), _milliseconds(day + timedelta(minutes=1), now))
    start = day.replace(hour=0, minute=0, second=0, microsecond=0)
    if found.period == "week":
        start -= timedelta(days=start.weekday())
    elif found.period in ("month", "year"):
        start = start.replace(day=1, month=start.month if found.period == "month" else 1)
    days = {"week": 7, "month": 31, "year": 366}.get(found.period, 1)
    end = start + timedelta(days=days)
    return TimeSpan(_milliseconds(start, now), _milliseconds(end if days < 31 else end.replace(day=1), now))
