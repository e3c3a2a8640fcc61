"""The times in a query: the messages that they prefer, and the rest of the query to look up. Pure functions, no I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from mnesis.search.analysis import query_terms, stop_words
from mnesis.search.dates import DateMention, find_dates, match_score, utc_day, without_dates
from mnesis.search.event_times import EventMention, find_event
from mnesis.search.time_words import CHINESE_QUESTION_WORDS, GLUE_WORDS, QUESTION_VERBS, plain_text
from mnesis.search.times import TimeExpression, TimeSpan, find_time_expressions, without_expressions

DATE_WEIGHT = 0.4
"""The bonus of a message from a date that the query names, as a fraction of the best score. Chosen by trial."""
EXPRESSION_WEIGHT = 1.0
"""The same for an expression such as "last week", which is certainly about the time of the messages."""
MAX_TIME_MS = 2**53
"""After every message."""
LATER_SCORE = 0.3
MAX_LATER_MS = 14 * 86_400_000
"""People also report events soon after they happened. Messages within the same time after the span, at most two weeks,
get this score."""


@dataclass(frozen=True, slots=True)
class QueryTime:
    """The times that a query names.

    `text` is the query without relative expressions. `is_only_time` says that the query names nothing else. `event` is
    an event that the query uses as a time; the store finds it and adds its time with `at_event`.
    """

    text: str
    expressions: tuple[TimeExpression, ...] = ()
    dates: tuple[DateMention, ...] = ()
    is_only_time: bool = False
    event: EventMention | None = None

    def at_event(self, moment: int) -> QueryTime:
        """Return these times with the time before or after the event, which was at a moment in milliseconds since 1970."""
        event = self.event
        if event is None:
            return self
        span = TimeSpan(0, moment) if event.is_before else TimeSpan(moment + 1, MAX_TIME_MS)
        expression = TimeExpression(span, event.start, event.end, is_relative=False, is_certain=False)
        rest = self.text[: event.start] + " " * (event.end - event.start) + self.text[event.end :]
        return replace(self, expressions=(expression,), is_only_time=not _asks_for_more(rest, ()))

    def contains(self, created_at: int) -> bool:
        """Return whether a time lies in one of the spans, or exactly matches a date."""
        if any(each.span.start <= created_at < each.span.end for each in self.expressions):
            return True
        return bool(self.dates) and match_score(utc_day(created_at), self.dates) >= 1.0

    def bonus(self, created_at: int) -> float:
        """Return the bonus of a message of this time, as a fraction of the best score."""
        bonus = DATE_WEIGHT * match_score(utc_day(created_at), self.dates) if self.dates else 0.0
        return max((bonus, *(_expression_bonus(each, created_at) for each in self.expressions)))


def read_query_time(query: str, now: datetime | None) -> QueryTime:
    """Read the times that a query names. Without `now`, expressions such as "yesterday" are not read."""
    expressions = tuple(find_time_expressions(query, now)) if now is not None else ()
    dates = tuple(find_dates(query))
    if not expressions and not dates:
        return QueryTime(query, event=find_event(query))
    return QueryTime(
        without_expressions(query, expressions), expressions, dates, not _asks_for_more(query, expressions)
    )


def _expression_bonus(expression: TimeExpression, created_at: int) -> float:
    span, weight = expression.span, EXPRESSION_WEIGHT if expression.is_certain else DATE_WEIGHT
    if span.start <= created_at < span.end:
        return weight
    return weight * LATER_SCORE if 0 <= created_at - span.end < min(span.length, MAX_LATER_MS) else 0.0


def _asks_for_more(query: str, expressions: Sequence[TimeExpression]) -> bool:
    ignored = stop_words(query) | GLUE_WORDS
    for each in expressions:
        query = query[: each.start] + " " * (each.end - each.start) + query[each.end :]
    rest = re.sub(CHINESE_QUESTION_WORDS, " ", without_dates(query))
    words = {forms[0] for forms in query_terms(rest)} - ignored
    return bool({plain_text(word) for word in words} - QUESTION_VERBS)
