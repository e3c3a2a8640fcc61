"""Length limits that models exceeded, so that they are not asked for such short answers again and again."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

MAX_DISTRUST_FACTOR = 2
"""An answer is remembered as at most this many times the limit. A far longer one says little about requests that allow
far more."""

FIRST_PAUSE = 32
"""The number of requests that are skipped before the model is tried again; it doubles with each failure. Other text may
be shorter, and providers change models under the same name."""


@dataclass
class _Failure:
    """The largest limit that a model would exceed, and the requests until it is tried again."""

    limit_tokens: int
    pause: int = FIRST_PAUSE
    skipped: int = 0


class AnswerLengths:
    """The lengths that writers exceeded. A writer is a model with one kind of prompt. For one event loop at a time."""

    def __init__(self) -> None:
        self._failures: dict[Hashable, _Failure] = {}

    def can_ask(self, writer: Hashable, limit_tokens: int) -> bool:
        """Return whether to ask a writer for at most this many tokens. A skipped request counts towards the next
        try.
        """
        failure = self._failures.get(writer)
        if failure is None or limit_tokens > failure.limit_tokens:
            return True
        if failure.skipped >= failure.pause:
            return True
        failure.skipped += 1
        return False

    def note_too_long(self, writer: Hashable, limit_tokens: int, needed_tokens: int) -> None:
        """Report that a writer exceeded its limit. The answer would have been accepted with a limit of `needed_tokens`."""
        exceeded_tokens = max(limit_tokens, min(needed_tokens - 1, MAX_DISTRUST_FACTOR * limit_tokens))
        failure = self._failures.setdefault(writer, _Failure(exceeded_tokens))
        if failure.skipped >= failure.pause:
            failure.pause *= 2
        failure.skipped = 0
        failure.limit_tokens = max(failure.limit_tokens, exceeded_tokens)

    def note_met(self, writer: Hashable, limit_tokens: int) -> None:
        """Report that a writer kept to a limit, so that it is asked for this length again."""
        failure = self._failures.get(writer)
        if failure is not None and limit_tokens <= failure.limit_tokens:
            del self._failures[writer]
