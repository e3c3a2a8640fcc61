"""Regular expressions under a limit of wall-clock time, and checks that reject those too large for any limit."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from math import prod
from queue import Empty, Full, Queue
from typing import Any

from mnesis.errors import ConfigurationError

MAX_PATTERN_CHARS = 1_000
"""Preparing a longer literal takes a second or more (cubic in its length) and blocks the event loop."""
MAX_EXPANDED_CHARS = 1_000_000
"""Compiling a pattern expands its counted repetitions; this many characters take about a hundred megabytes."""

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


MOMENT_SECONDS = 0.05
MAX_QUEUED_MATCHES = 256

FindMatches = Callable[[str, float], Iterator[Any]]
"""Yields the matches of a pattern in a text. Raises `TimeoutError` after these seconds of wall-clock time."""


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
    return partial(_find_matches, compiled_pattern)


def _find_matches(compiled_pattern: Any, text: str, seconds: float) -> Iterator[Any]:
    """Yield the matches within a limit of wall-clock time.

    The library's own limit is processor time of the whole process (clock(3)), which passes slowly on a busy machine. So a
    text that takes more than a moment is searched in another thread, which is abandoned at the deadline and ends by that
    limit later. Most texts take less, and a thread for each would cost more than the search.
    """
    deadline, count = time.monotonic() + seconds, 0
    try:
        for match in compiled_pattern.finditer(text, timeout=min(seconds, MOMENT_SECONDS), concurrent=True):
            count += 1
            yield match
        return
    except TimeoutError:
        pass
    yield from islice(_find_in_thread(compiled_pattern, text, deadline), count, None)


def _find_in_thread(compiled_pattern: Any, text: str, deadline: float) -> Iterator[Any]:
    results: Queue[Any] = Queue(MAX_QUEUED_MATCHES)
    is_abandoned = threading.Event()

    def search() -> None:
        try:
            seconds = max(deadline - time.monotonic(), MOMENT_SECONDS)
            for match in compiled_pattern.finditer(text, timeout=seconds, concurrent=True):
                if not _put(results, match, is_abandoned):
                    return
            _put(results, None, is_abandoned)
        except BaseException as error:  # raised in the waiting thread
            _put(results, error, is_abandoned)

    threading.Thread(target=search, daemon=True, name="mnesis-grep").start()
    try:
        while True:
            try:
                result = results.get(timeout=max(deadline - time.monotonic(), 0.0))
            except Empty:
                raise TimeoutError("the time limit was reached") from None
            if result is None:
                return
            if isinstance(result, BaseException):
                raise result
            yield result
    finally:
        is_abandoned.set()


def _put(results: Queue[Any], result: Any, is_abandoned: threading.Event) -> bool:
    """Hand over a result. Returns False if no caller waits for it any more."""
    while not is_abandoned.is_set():
        try:
            results.put(result, timeout=MOMENT_SECONDS)
        except Full:
            continue
        return True
    return False


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
