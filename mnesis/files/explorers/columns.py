"""A column of a table: what its values are, how far they range, how many are empty or different. Pure."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

from mnesis.files.explorers.report import clean, plural

DISTINCT_LIMIT = 1_000
"""Different values are counted up to here."""
_LISTED_VALUES = 6
_Ordered = TypeVar("_Ordered", str, int)

_NUMBER = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*")
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?")
_BOOLEANS = frozenset({"true", "false", "yes", "no", "t", "f"})


class Column:
    """Fed with batches of values, says what they are."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.empty = 0
        self._kinds: Counter[str] = Counter()
        self._low: float = math.inf
        self._high: float = -math.inf
        self._dates: list[str] = []
        self._lengths: list[int] = []
        self._different: dict[str, None] = {}
        self._is_many = False

    def feed(self, values: Sequence[str]) -> None:
        filled = [value for value in values if value]
        self.empty += len(values) - len(filled)
        if not filled:
            return
        self._distinguish(filled)
        for kind, convert in (("integer", int), ("number", float)):
            try:
                self._numbers(kind, list(map(convert, filled)))
            except ValueError:
                continue
            return
        self._others(filled)

    def _distinguish(self, filled: list[str]) -> None:
        if not self._is_many:
            self._different.update(dict.fromkeys(filled))
            self._is_many = len(self._different) > DISTINCT_LIMIT
            if self._is_many:
                self._different = {value: None for value, _ in zip(self._different, range(3), strict=False)}

    def _numbers(self, kind: str, numbers: list[int] | list[float]) -> None:
        self._kinds[kind] += len(numbers)
        real = numbers if kind == "integer" else [number for number in numbers if number == number]
        if real:
            self._low, self._high = min(self._low, min(real)), max(self._high, max(real))

    def _others(self, filled: list[str]) -> None:
        """Values that are not all numbers, one by one."""
        texts = []
        for value in filled:
            if _NUMBER.fullmatch(value):
                whole = value.strip().lstrip("+-").isdecimal() and len(value) < 400
                self._numbers("integer" if whole else "number", [int(value) if whole else float(value)])
            else:
                texts.append(value)
        dates = [value for value in texts if _DATE.fullmatch(value)]
        booleans = sum(1 for value in texts if value.lower() in _BOOLEANS) if len(dates) < len(texts) else 0
        self._kinds.update({"date": len(dates), "boolean": booleans, "text": len(texts) - len(dates) - booleans})
        self._dates = _ends([*self._dates, *dates])
        self._lengths = _ends([*self._lengths, *map(len, texts)])

    @property
    def type(self) -> str:
        """One word for all values, or the commonest and how many are different."""
        kinds = +self._kinds
        if not kinds:
            return "empty"
        if set(kinds) == {"integer", "number"}:
            return "number"
        if len(kinds) == 1:
            return next(iter(kinds))
        if "text" in kinds and kinds["text"] * 2 > kinds.total():
            return "text"
        named, count = kinds.most_common(1)[0]
        return f"mostly {named} ({plural(kinds.total() - count, 'other')})"

    def describe(self) -> str:
        """`name: integer, 1 to 90, 3 empty, 80 different`."""
        parts = [self.type, self._range()]
        if self.empty and self._kinds:
            parts.append(f"{self.empty:,} empty")
        if self._kinds:
            parts.append(self._values())
        return f"{self.name}: {', '.join(part for part in parts if part)}"

    def _range(self) -> str:
        if self._low <= self._high and not self.type.startswith("text"):
            return f"{self._low} to {self._high}" if self._low < self._high else f"{self._low}"
        if self._dates and "date" in self.type:
            low, high = self._dates[0], self._dates[-1]
            return f"{low} to {high}" if low < high else low
        if self._lengths and self.type == "text":
            shortest, longest = self._lengths[0], self._lengths[-1]
            return plural(longest, "character") if shortest == longest else f"{shortest:,} to {longest:,} characters"
        return ""

    def _values(self) -> str:
        count = f"more than {DISTINCT_LIMIT:,} different" if self._is_many else f"{len(self._different):,} different"
        if "text" not in self.type and "boolean" not in self.type:
            return count
        shown = [clean(value, 30) for value, _ in zip(self._different, range(_LISTED_VALUES), strict=False)]
        if not self._is_many and len(self._different) <= _LISTED_VALUES:
            return f"{count}: {', '.join(shown)}"
        return f"{count}, such as {', '.join(shown[:3])}"


def _ends(values: list[_Ordered]) -> list[_Ordered]:
    return [min(values), max(values)] if values else []


def looks_like_header(first: list[str], rest: list[list[str]]) -> bool:
    """Names are no values: no numbers or dates. Above such values they are names even if one stands there twice; above words
    they are if they stand alone, and none recurs in its column."""
    names = [cell.strip() for cell in first]
    if not any(names) or any(_is_value(name) for name in names if name):
        return False
    if any(all(map(_is_value, filter(None, cells))) and any(cells) for cells in zip(*rest, strict=False)):
        return True
    return len(set(names)) == len(names) and not any(
        cell == name for row in rest for cell, name in zip(row, names, strict=False) if name
    )


def _is_value(cell: str) -> bool:
    """Whether this is a number, a date or a boolean, as names of columns are not."""
    return bool(_NUMBER.fullmatch(cell) or _DATE.fullmatch(cell)) or cell.lower() in _BOOLEANS
