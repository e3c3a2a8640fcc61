"""Which regular expressions are run at all: those that no time limit could hold, because of their size, are refused. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from math import prod
from typing import Any

from mnesis.errors import ConfigurationError

MAX_PATTERN_CHARS = 1_000
"""Longer literal strings take the matcher a second and more to prepare, cubic in their length, with the event loop held."""
MAX_WRITTEN_OUT_CHARS = 1_000_000
"""Counted repetitions are written out when a pattern is compiled; so much of it takes some hundred megabytes."""

_COUNT = re.compile(r"\{\s*([0-9]+)")
_COUNT_OF_GROUP = re.compile(r"\)\s*\{\s*([0-9]+)")
_VERBOSE = re.compile(r"\(\?[A-Za-z0-9-]*x")
_RECURSION = re.compile(r"(?<!\\)(?:\\\\)*\(\?(?:R|[+-]?[0-9]|&|P>)")


def check_pattern(pattern: object) -> None:
    """Raises `ConfigurationError` for what is no pattern, or too large once its repetitions are written out.

    Patterns that call themselves are refused too: their memory has no bound.
    """
    if not isinstance(pattern, str) or not 0 < len(pattern) <= MAX_PATTERN_CHARS:
        raise ConfigurationError(
            f"a pattern is a string of 1 to {MAX_PATTERN_CHARS:,} characters: {str(pattern)[:80]!r}"
        )
    if written_out_chars(pattern) > MAX_WRITTEN_OUT_CHARS:
        raise ConfigurationError(f"the pattern {pattern[:80]!r} repeats too much; count less, or use * and +")
    if _RECURSION.search(pattern):
        raise ConfigurationError(f"the pattern {pattern[:80]!r} calls itself; recursion cannot be run")


Find = Callable[[str, float], Iterator[Any]]
"""Gives the matches of a pattern in a text; raises TimeoutError after so many seconds. Other threads go on meanwhile."""


def compiled(pattern: str, *, ignore_case: bool = False) -> Find:
    """The pattern, ready to run. Call it off the event loop, after `check_pattern`. Raises `ConfigurationError`."""
    import regex

    flags = regex.MULTILINE | (regex.IGNORECASE if ignore_case else 0)
    try:
        ready = regex.compile(pattern, flags)
    except (regex.error, OverflowError, RecursionError, ValueError, MemoryError) as error:
        raise ConfigurationError(f"the pattern {pattern[:80]!r} cannot be read: {error}") from error
    return lambda text, seconds: ready.finditer(text, timeout=seconds, concurrent=True)


def written_out_chars(pattern: str) -> int:
    """At most how long a pattern is with its counted repetitions written out.

    A piece of it is repeated by one count of its own and by those of the groups around it. In verbose patterns comments
    may stand before a count, so there every count may be a group's.
    """
    if _VERBOSE.search(pattern):
        return len(pattern) * prod(_counts(_COUNT, pattern))
    return len(pattern) * max(_counts(_COUNT, pattern), default=1) * prod(_counts(_COUNT_OF_GROUP, pattern))


def _counts(count: re.Pattern[str], pattern: str) -> list[int]:
    # No count of more digits can be compiled, and int() refuses very long ones.
    return [max(int(digits[:18]), 1) for digits in count.findall(pattern)]
