"""Time expressions of a query, such as "last week" or "am Dienstagabend", as spans of time. Pure functions, no I/O.

Expressions are read in English, German, French, Spanish and Chinese, relative to the time of the query and in its time
zone. Words of time are replaced by letters, and regular expressions over the letters form the grammar.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from mnesis.search.time_words import A_FEW, DAY_PARTS, GERMAN_WORDS, GLUE, TIME_WORDS, plain_text

MAX_SCANNED_CHARS = 2_000
"""The maximum length of a query: people ask short questions, and longer texts are data."""
FEW_DAYS = (2, 6)
"""The largest number of units that "a few" means."""

_LETTERS = {
    "future": "x", "day": "d", "hier": "h", "day and part": "g", "last unit": "q", "this unit": "r", "weekend": "e",
    "weekday": "w", "month": "m", "part": "p", "ago": "a", "ago before": "v", "vor": "o", "since": "s", "before": "b",
    "after": "f", "next": "n", "last": "l", "this": "t", "number": "N", "unit": "u",
}  # fmt: skip
_GAP = "|"
_WORD_START = r"(?:\b|(?<=tag)|(?<=mittwoch))"
_WORD_END = r"(?:\b|(?<=tag)|(?<=tags)|(?<=mittwoch))"
"""Latin words match whole. Parts of the day may follow a German weekday."""


@dataclass(frozen=True, slots=True)
class TimeSpan:
    """A span of time in milliseconds since 1970. `end` is exclusive."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """The duration in milliseconds."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class TimeExpression:
    """A time expression: its span, and its position in the query.

    `is_relative` means that messages of that time do not have to contain its words: "last week", but not "Tuesday
    evening". `is_certain` says that it means the time of a message, while a weekday alone may be a subject.
    """

    span: TimeSpan
    start: int
    end: int
    is_relative: bool
    is_certain: bool


@dataclass(frozen=True, slots=True)
class _Token:
    letter: str
    value: Any
    start: int
    end: int


def find_time_expressions(query: str, now: datetime) -> list[TimeExpression]:
    """Return the time expressions of a query, in order. Expressions about the future are omitted.

    `now` has a time zone, which defines where days begin.
    """
    text = plain_text(query[:MAX_SCANNED_CHARS])
    tokens = _tokenize(text)
    letters = "".join(token.letter for token in tokens)
    found: list[TimeExpression] = []
    position = 0
    while position < len(tokens):
        match, read = next(((m, read) for rule, read in _RULES if (m := rule.match(letters, position))), (None, None))
        if match is None or read is None:
            position += 1
            continue
        words = tokens[match.start() : match.end()]
        try:
            span = read(_Words(words), now)
        except (OverflowError, ValueError):
            span = None
        if span is not None:
            is_relative = bool({"d", "h", "g", "u", "q", "r", "e"} & {word.letter for word in words})
            is_certain = len(words) > 1 or words[0].letter != "w"
            found.append(TimeExpression(span, words[0].start, words[-1].end, is_relative, is_certain))
        position = match.end()
    return found


def without_expressions(query: str, expressions: Sequence[TimeExpression]) -> str:
    """Return the query with the relative expressions blanked out."""
    for each in expressions:
        if each.is_relative:
            query = query[: each.start] + " " * (each.end - each.start) + query[each.end :]
    return query


def covers_all(text: str, expressions: Sequence[TimeExpression]) -> bool:
    """Return whether a text consists of time expressions."""
    rest = plain_text(text)
    for each in expressions:
        rest = rest[: each.start] + " " * (each.end - each.start) + rest[each.end :]
    return bool(expressions) and re.fullmatch(GLUE, rest) is not None


def _tokenize(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    end = 0
    for match in (latin_pattern() if text.isascii() else word_pattern()).finditer(text):
        kind, value, _ = TIME_WORDS[(match.lastindex or 1) - 1]
        if kind == "hier" and "avant" not in text and re.search(GERMAN_WORDS, text) is not None:
            continue
        if tokens and _glue_pattern().fullmatch(text, end, match.start()) is None:
            tokens.append(_Token(_GAP, None, end, end))
        tokens.append(_Token(_LETTERS[kind], int(match.group()) if value is int else value, match.start(), match.end()))
        end = match.end()
    return tokens


@cache
def _glue_pattern() -> re.Pattern[str]:
    return re.compile(GLUE)


@cache
def word_pattern() -> re.Pattern[str]:
    """Return a pattern with a group for each kind of word about time."""
    return re.compile("|".join(f"({_match_whole_words(words)})" for _, _, words in TIME_WORDS))


@cache
def latin_pattern() -> re.Pattern[str]:
    """Return a pattern for texts without Chinese: where a word begins is examined once, not for each row of the table."""
    rows = [_split_scripts(words)[0] for _, _, words in TIME_WORDS]
    return re.compile(f"{_WORD_START}(?:{'|'.join(f'({row})' if row else '((?!))' for row in rows)}){_WORD_END}")


def _match_whole_words(words: str) -> str:
    """Return a pattern whose Latin alternatives match whole words only."""
    latin, chinese = _split_scripts(words)
    return "|".join(filter(None, (f"{_WORD_START}(?:{latin}){_WORD_END}" if latin else "", chinese)))


def _split_scripts(words: str) -> tuple[str, str]:
    """Return the Latin alternatives of a row, and the Chinese ones."""
    parts = [[], []]  # type: list[list[str]]
    for word in _alternatives(words):
        parts[any("\u3400" <= char <= "\u9fff" for char in word)].append(word)
    return "|".join(parts[0]), "|".join(parts[1])


def _alternatives(words: str) -> list[str]:
    """Split at bars outside parentheses."""
    pieces, depth = [""], 0
    for char in words:
        depth += (char == "(") - (char == ")")
        if char == "|" and depth == 0:
            pieces.append("")
        else:
            pieces[-1] += char
    return pieces


class _Words:
    """The words of one expression, by letter."""

    def __init__(self, tokens: Sequence[_Token]) -> None:
        self._values = {token.letter: token.value for token in tokens}

    def __contains__(self, letter: str) -> bool:
        return letter in self._values

    def __getitem__(self, letter: str) -> Any:
        return self._values[letter]

    def get(self, letter: str) -> Any:
        return self._values.get(letter)


def _midnight(now: datetime) -> datetime:
    return now.replace(hour=0, minute=0, second=0, microsecond=0)


def _span(start: datetime, end: datetime) -> TimeSpan:
    return TimeSpan(round(start.timestamp() * 1000), round(end.timestamp() * 1000))


def _day_span(day: datetime, part: str | None) -> TimeSpan:
    first, last = DAY_PARTS[part] if part is not None else (0, 24)
    return _span(day + timedelta(hours=first), day + timedelta(hours=last))


def _unit_span(day: datetime, unit: str, offset: int) -> TimeSpan:
    """Return the calendar unit that contains a day, moved by `offset` units."""
    if unit == "week":
        start = day - timedelta(days=day.weekday()) + timedelta(weeks=offset)
        return _span(start, start + timedelta(days=7))
    if unit == "month":
        return _span(_add_months(day, offset), _add_months(day, offset + 1))
    if unit == "year":
        return _span(
            _add_months(day.replace(month=1), 12 * offset), _add_months(day.replace(month=1), 12 * offset + 12)
        )
    start = day + timedelta(days=offset)
    return _span(start, start + timedelta(days=1))


def _add_months(day: datetime, months: int) -> datetime:
    number = day.year * 12 + day.month - 1 + months
    return day.replace(year=number // 12, month=number % 12 + 1, day=1)


def _read_ago(words: _Words, now: datetime) -> TimeSpan:
    number, unit = words["N"], words["u"]
    if unit in ("minute", "hour"):
        step = timedelta(**{f"{unit}s": 1})
        first, last = FEW_DAYS if number == A_FEW else (number - 0.5, number + 0.5)
        return _span(now - last * step, now - first * step)
    day = _midnight(now)
    if number == A_FEW:
        first_span, last_span = (_unit_span(day, unit, -count) for count in reversed(FEW_DAYS))
        return TimeSpan(first_span.start, last_span.end)
    if unit == "day" and "p" in words:
        return _day_span(day - timedelta(days=number), words["p"])
    return _unit_span(day, unit, -number)


def _read_recent(words: _Words, now: datetime) -> TimeSpan:
    number, unit = words["N"] or FEW_DAYS[1], words["u"]
    days = {"minute": 1 / 1440, "hour": 1 / 24, "day": 1, "week": 7, "month": 30.5, "year": 365.25}[unit]
    return _span(now - timedelta(days=days * number), now)


def _read_last_unit(words: _Words, now: datetime) -> TimeSpan:
    day = _midnight(now)
    if "w" in words:
        return _day_span(day - timedelta(days=day.weekday() + 7 - words["w"]), words.get("p"))
    unit = words.get("q") or words["u"]
    if unit in ("minute", "hour"):
        return _span(now - timedelta(**{f"{unit}s": 1}), now)
    return _unit_span(day, unit, -1)


def _read_this_unit(words: _Words, now: datetime) -> TimeSpan:
    return _unit_span(_midnight(now), words.get("r") or words["u"], 0)


def _read_day(words: _Words, now: datetime) -> TimeSpan:
    offset, part = words["g"] if "g" in words else (words.get("d") or words.get("h") or 0, words.get("p"))
    if "l" in words:
        offset = -1
    return _day_span(_midnight(now) + timedelta(days=offset), part)


def _read_weekday(words: _Words, now: datetime) -> TimeSpan:
    day = _midnight(now)
    days_ago = (day.weekday() - words["w"]) % 7
    return _day_span(day - timedelta(days=days_ago or (7 if "l" in words else 0)), words.get("p"))


def _read_weekend(words: _Words, now: datetime) -> TimeSpan:
    day = _midnight(now)
    saturday = day - timedelta(days=(day.weekday() - 5) % 7)
    if "l" in words and day.weekday() >= 5:
        saturday -= timedelta(days=7)
    return _span(saturday, saturday + timedelta(days=2))


def _read_last_month_name(words: _Words, now: datetime) -> TimeSpan:
    day = _midnight(now)
    months_ago = (day.month - words["m"]) % 12 or 12
    return _unit_span(day, "month", -months_ago)


def _ignore(words: _Words, now: datetime) -> None:
    """Read an expression about the future, which matches no message."""


_Reader = Callable[[_Words, datetime], TimeSpan | None]
_POINT_RULES: tuple[tuple[str, _Reader], ...] = (
    ("Nuap?|[vo]Nup?", _read_ago),
    ("l?Nlu|lNu|tNlu", _read_recent),
    ("wp?(?:lu|ul|q)|(?:lu|ul|q)wp?", _read_last_unit),
    ("n[uwem]|[uwe]n|x", _ignore),
    ("le|el|e", _read_weekend),
    ("lwp?|wlp?|wp?", _read_weekday),
    ("lu|ul|q", _read_last_unit),
    ("tu|r", _read_this_unit),
    ("[dh]p?|g|tp|lp", _read_day),
    ("lm|ml", _read_last_month_name),
)


def _bound(read: _Reader, letter: str) -> _Reader:
    def read_bound(words: _Words, now: datetime) -> TimeSpan | None:
        span = read(words, now)
        if span is None:
            return None
        now_ms = round(now.timestamp() * 1000)
        if letter == "s":
            return TimeSpan(span.start, max(now_ms, span.end))
        return TimeSpan(0, span.start) if letter == "b" else TimeSpan(span.end, max(now_ms, span.end))

    return read_bound


_RULES: tuple[tuple[re.Pattern[str], _Reader], ...] = (
    *(
        (re.compile(f"{letters}(?:{rule})"), _bound(read, meaning))
        for letters, meaning in (("s", "s"), ("[bo]", "b"), ("f", "f"))
        for rule, read in _POINT_RULES
        if not (letters == "[bo]" and read is _read_ago)
    ),
    *((re.compile(rule), read) for rule, read in _POINT_RULES),
)
