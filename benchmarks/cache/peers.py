"""Other strategies for limiting a conversation, based on sizes alone. None of them can restore what it dropped.

They mark their requests as well as possible: after the system prompt, where the previous request ends, and at the end.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count

from benchmarks.cache.cache_score import Score
from benchmarks.cache.provider_cache import Segment
from benchmarks.cache.workload import STEP_SECONDS, Piece, Turn, Workload

REWRITTEN_SUMMARY_TOKENS = 1_500
SUMMARY_PROMPT_TOKENS = 500


class FullHistory:
    """A strategy that sends everything. Needs a window as large as the conversation."""

    name = "full history"

    def __init__(self, workload: Workload) -> None:
        self._serial = count()
        fixed_tokens = workload.tool_tokens + workload.system_tokens
        self.max_history_tokens = workload.request_tokens - fixed_tokens
        self.fixed = [self._segment(tokens) for tokens in (workload.tool_tokens, workload.system_tokens) if tokens]
        self.history: list[tuple[Piece, Segment]] = []
        self.score = Score()
        self._previous: list[Segment] = []

    def _segment(self, tokens: int) -> Segment:
        return Segment(next(self._serial), tokens)

    async def run_turn(self, turn: Turn) -> None:
        """Make the requests of one turn."""
        self.score.seconds += turn.pause_seconds
        self._add(turn.user)
        for call, output in turn.steps:
            self._ask()
            self._add(call)
            self._add(output)
        self._ask()
        self._add(turn.answer)

    def _add(self, piece: Piece) -> None:
        self.history.append((piece, self._segment(piece.tokens)))

    def _ask(self) -> None:
        request = [*self.fixed, *self.segments()]
        shared = sum(old == new for old, new in zip(self._previous, request, strict=False))
        marks = {len(self.fixed) - 1, max(shared - 1, 0), len(request) - 1}
        self.score.add([replace(segment, is_marked=index in marks) for index, segment in enumerate(request)])
        self.score.seconds += STEP_SECONDS
        self._previous = request

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
