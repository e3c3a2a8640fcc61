"""Checks that reject regular expressions too large for any time limit, and compilation. Pure functions, no I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from math import prod
from typing import Any

from mnesis.errors import ConfigurationError

MAX_PATTERN_CHARS = 1_000
"""Preparing a longer literal takes a second or more (cubic in its length) and blocks the event loop meanwhile."""
MAX_EXPANDED_CHARS = 1_000_000
"""Compiling a pattern expands its counted repetitions; this many characters take some hundred megabytes."""

_REPETITION = re.compile(r"\{\s*([0-9]+)")
_GROUP_REPETITION = re.compile(r"\)\s*\{\s*([0-9]+)")
_VERBOSE = re.compile(r"\(\?[A-Za-z0-9-]*x")
_RECURSION = re.compile(r"(?<!\\)(?:\\\\)*\(\?(?:R|[+-]?[0-9]|&|P>)")


def check_pattern(pattern: object) -> None:
    """Raise `ConfigurationError` unless the pattern is a string that is small enough, also with its repetitions expanded.

    Recursive patterns are rejected too: their memory use is unbounded.
    """
    if not isinstance(pattern, str) or not 0 < len(pattern) <= MAX_PATTERN_CHARS:
        raise ConfigurationError(
            f"pattern must be a string of 1 to {MAX_PATTERN_CHARS:,} characters, not {str(pattern)[:80]!r}"
        )
    if expanded_chars(pattern) > MAX_EXPANDED_CHARS:
        raise ConfigurationError(f"the pattern {pattern[:80]!r} repeats too often; use smaller counts, or * and +")
    if _RECURSION.search(pattern):
        raise ConfigurationError(f"the pattern {pattern[:80]!r} is recursive; recursion is not supported")


FindMatches = Callable[[str, float], Iterator[Any]]
"""Yields the matches of a pattern in a text. Raises `TimeoutError` after the seconds given. Does not block other threads."""


def compile_pattern(pattern: str, *, ignore_case: bool = False) -> FindMatches:
    """Compile a pattern that passed `check_pattern`. Call it off the event loop.

    Raises `ConfigurationError` if the pattern is not valid.
    """
    import regex

    flags = regex.MULTILINE | (regex.IGNORECASE if ignore_case else 0)
    try:
        compiled_pattern = regex.compile(pattern, flags)
    except (regex.error, OverflowError, RecursionError, ValueError, MemoryError) as error:
        raise ConfigurationError(f"the pattern {pattern[:80]!r} is not valid: {error}") from error
    return lambda text, seconds: compiled_pattern.finditer(text, timeout=seconds, concurrent=True)


def expanded_chars(pattern: str) -> int:
    """Return an upper bound for the length of a pattern with its counted repetitions expanded.

    Each part is repeated by its own count and by the counts of the groups around it. In verbose patterns a comment may
    precede a count, so any count may belong to a group.
    """
    if _VERBOSE.search(pattern):
        return len(pattern) * prod(_repetition_counts(_REPETITION, pattern))
    own_count = max(_repetition_counts(_REPETITION, pattern), default=1)
    return len(pattern) * own_count * prod(_repetition_counts(_GROUP_REPETITION, pattern))


def _repetition_counts(repetition: re.Pattern[str], pattern: str) -> list[int]:
    # Counts with more digits cannot be compiled, and int() rejects very long ones.
    return [max(int(digits[:18]), 1) for digits in repetition.findall(pattern)]
