"""Other strategies for limiting a conversation, based on sizes alone. None of them can restore what it dropped."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from benchmarks.cache.cache_score import Score, Segment
from benchmarks.cache.workload import Piece, Workload

REWRITTEN_SUMMARY_TOKENS = 1_500
SUMMARY_PROMPT_TOKENS = 500


class FullHistory:
    """A strategy that sends everything. Needs a window as large as the conversation."""

    name = "full history"

    def __init__(self, workload: Workload) -> None:
        self._serial = count()
        self.max_history_tokens = workload.request_tokens - workload.system_tokens
        self.system = self._segment(workload.system_tokens)
        self.history: list[tuple[Piece, Segment]] = []
        self.score = Score()

    def _segment(self, tokens: int) -> Segment:
        return Segment(next(self._serial), tokens)

    async def add(self, pieces: Sequence[Piece]) -> None:
        """Add messages to the history."""
        self.history.extend((piece, self._segment(piece.tokens)) for piece in pieces)

    async def ask(self) -> None:
        """Make one request."""
        self.score.add([self.system, *self.segments()])

    def segments(self) -> list[Segment]:
        """Return the segments after the system prompt."""
        return [segment for _, segment in self.history]

    def first_index_that_fits(self, available_tokens: int) -> int:
        """Return the start of the longest tail of the history with at most `available_tokens` tokens.

        The tail never starts with a tool output.
        """
        start = len(self.history)
        while start and available_tokens >= self.history[start - 1][1].tokens:
            start -= 1
            available_tokens -= self.history[start][1].tokens
        while start < len(self.history) and self.history[start][0].kind == "tool":
            start += 1
        return start


class TrimmedEachTurn(FullHistory):
    """A sliding window: the newest messages that fit."""

    name = "trimmed each turn"

    def segments(self) -> list[Segment]:
        return super().segments()[self.first_index_that_fits(self.max_history_tokens) :]


class SummaryRewrittenEachTurn(FullHistory):
    """The newest messages that fit, after one summary of all others, which is rewritten whenever a message is dropped."""

    name = "summary rewritten each turn"

    def segments(self) -> list[Segment]:
        summary = [pair for pair in self.history[:1] if pair[0].kind == "summary"]
        taken = sum(segment.tokens for _, segment in self.history)
        if taken > self.max_history_tokens:
            start = max(
                self.first_index_that_fits(self.max_history_tokens - REWRITTEN_SUMMARY_TOKENS), len(summary) + 1
            )
            gone, self.history = self.history[:start], self.history[start:]
            self.score.summariser_input += sum(segment.tokens for _, segment in gone) + SUMMARY_PROMPT_TOKENS
            self.score.summariser_output += REWRITTEN_SUMMARY_TOKENS
            made = Piece("summary", REWRITTEN_SUMMARY_TOKENS), self._segment(REWRITTEN_SUMMARY_TOKENS)
            self.history.insert(0, made)
        return super().segments()


PEERS = (FullHistory, TrimmedEachTurn, SummaryRewrittenEachTurn)
