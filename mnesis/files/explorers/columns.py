"""Columns of a table: types, ranges, and numbers of empty and distinct values. Pure functions, no I/O."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

from mnesis.files.explorers.report import clean_line, plural

MAX_DISTINCT = 1_000
"""Distinct values are counted up to this number."""
_MAX_LISTED_VALUES = 6
_Ordered = TypeVar("_Ordered", str, int)

_NUMBER = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*")
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?")
_BOOLEANS = frozenset({"true", "false", "yes", "no", "t", "f"})


class Column:
    """Statistics of a column, fed with batches of values."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.empty_count = 0
        self._kinds: Counter[str] = Counter()
        self._low: float = math.inf
        self._high: float = -math.inf
        self._dates: list[str] = []
        self._lengths: list[int] = []
        self._distinct: dict[str, None] = {}
        self._has_many_distinct = False

    def feed(self, values: Sequence[str]) -> None:
        """Add values, in order."""
        filled = [value for value in values if value]
        self.empty_count += len(values) - len(filled)
        if not filled:
            return
        self._record_distinct(filled)
        for kind, convert in (("integer", int), ("number", float)):
            try:
                self._add_numbers(kind, list(map(convert, filled)))
            except ValueError:
                continue
            return
        self._add_mixed(filled)

    def _record_distinct(self, filled: list[str]) -> None:
        if not self._has_many_distinct:
            self._distinct.update(dict.fromkeys(filled))
            self._has_many_distinct = len(self._distinct) > MAX_DISTINCT
            if self._has_many_distinct:
                self._distinct = {value: None for value, _ in zip(self._distinct, range(3), strict=False)}

    def _add_numbers(self, kind: str, numbers: list[int] | list[float]) -> None:
        self._kinds[kind] += len(numbers)
        real = numbers if kind == "integer" else [number for number in numbers if number == number]
        if real:
            self._low, self._high = min(self._low, min(real)), max(self._high, max(real))

    def _add_mixed(self, filled: list[str]) -> None:
        """Add values one by one, because not all of them are numbers."""
        texts = []
        for value in filled:
            if _NUMBER.fullmatch(value):
                whole = value.strip().lstrip("+-").isdecimal() and len(value) < 400
                self._add_numbers("integer" if whole else "number", [int(value) if whole else float(value)])
            else:
                texts.append(value)
        dates = [value for value in texts if _DATE.fullmatch(value)]
        booleans = sum(1 for value in texts if value.lower() in _BOOLEANS) if len(dates) < len(texts) else 0
        self._kinds.update({"date": len(dates), "boolean": booleans, "text": len(texts) - len(dates) - booleans})
        self._dates = _min_and_max([*self._dates, *dates])
        self._lengths = _min_and_max([*self._lengths, *map(len, texts)])

    @property
    def type(self) -> str:
        """The type of all values, or the most common one and the number of others."""
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
        """Describe the column, such as `name: integer, 1 to 90, 3 empty, 80 different`."""
        parts = [self.type, self._describe_range()]
        if self.empty_count and self._kinds:
            parts.append(f"{self.empty_count:,} empty")
        if self._kinds:
            parts.append(self._describe_values())
        return f"{self.name}: {', '.join(part for part in parts if part)}"

    def _describe_range(self) -> str:
        if self._low <= self._high and not self.type.startswith("text"):
            return f"{self._low} to {self._high}" if self._low < self._high else f"{self._low}"
        if self._dates and "date" in self.type:
            low, high = self._dates[0], self._dates[-1]
            return f"{low} to {high}" if low < high else low
        if self._lengths and self.type == "text":
            shortest, longest = self._lengths[0], self._lengths[-1]
            return plural(longest, "character") if shortest == longest else f"{shortest:,} to {longest:,} characters"
        return ""

    def _describe_values(self) -> str:
        count = (
            f"more than {MAX_DISTINCT:,} different" if self._has_many_distinct else f"{len(self._distinct):,} different"
        )
        if "text" not in self.type and "boolean" not in self.type:
            return count
        examples = [clean_line(value, 30) for value, _ in zip(self._distinct, range(_MAX_LISTED_VALUES), strict=False)]
        if not self._has_many_distinct and len(self._distinct) <= _MAX_LISTED_VALUES:
            return f"{count}: {', '.join(examples)}"
        return f"{count}, such as {', '.join(examples[:3])}"


def _min_and_max(values: list[_Ordered]) -> list[_Ordered]:
    return [min(values), max(values)] if values else []


def looks_like_header(first: list[str], rest: list[list[str]]) -> bool:
    """Return whether the first row names the columns.

    Column names are not numbers or dates. Names of number and date columns may repeat. Names of text columns must be
    distinct and must not occur in their columns.
    """
    names = [cell.strip() for cell in first]
    if not any(names) or any(_is_value(name) for name in names if name):
        return False
    if any(all(map(_is_value, filter(None, cells))) and any(cells) for cells in zip(*rest, strict=False)):
        return True
    return len(set(names)) == len(names) and not any(
        cell == name for row in rest for cell, name in zip(row, names, strict=False) if name
    )


def _is_value(cell: str) -> bool:
    """Return whether a cell is a number, a date or a boolean, and so not the name of a column."""
    return bool(_NUMBER.fullmatch(cell) or _DATE.fullmatch(cell)) or cell.lower() in _BOOLEANS
