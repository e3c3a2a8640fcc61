"""Other ways to keep a conversation within bounds, on sizes alone. None of them can give back what it dropped."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from benchmarks.cache.score import Score, Segment
from benchmarks.cache.workload import Piece, Workload

REWRITTEN_SUMMARY_TOKENS = 1_500
PROMPT_TOKENS = 500


class FullHistory:
    """Everything, always. Needs a window as large as the conversation."""

    name = "full history"

    def __init__(self, workload: Workload) -> None:
        self._serial = count()
        self.room = workload.request_tokens - workload.system_tokens
        self.system = self._segment(workload.system_tokens)
        self.history: list[tuple[Piece, Segment]] = []
        self.score = Score()

    def _segment(self, tokens: int) -> Segment:
        return Segment(next(self._serial), tokens)

    async def add(self, pieces: Sequence[Piece]) -> None:
        """Messages that were said."""
        self.history.extend((piece, self._segment(piece.tokens)) for piece in pieces)

    async def ask(self) -> None:
        """One model call."""
        self.score.add([self.system, *self.shown()])

    def shown(self) -> list[Segment]:
        """What stands after the system prompt."""
        return [segment for _, segment in self.history]

    def first_that_fits(self, room: int) -> int:
        """Where the longest end of the history begins that takes at most `room` tokens; never at a tool's output."""
        start = len(self.history)
        while start and room >= self.history[start - 1][1].tokens:
            start -= 1
            room -= self.history[start][1].tokens
        while start < len(self.history) and self.history[start][0].kind == "tool":
            start += 1
        return start


class TrimmedEachTurn(FullHistory):
    """A sliding window: the newest messages that fit."""

    name = "trimmed each turn"

    def shown(self) -> list[Segment]:
        return super().shown()[self.first_that_fits(self.room) :]


class SummaryRewrittenEachTurn(FullHistory):
    """The newest messages that fit, after one summary of all the others that is written anew when a message leaves."""

    name = "summary rewritten each turn"

    def shown(self) -> list[Segment]:
        summary = [pair for pair in self.history[:1] if pair[0].kind == "summary"]
        taken = sum(segment.tokens for _, segment in self.history)
        if taken > self.room:
            start = max(self.first_that_fits(self.room - REWRITTEN_SUMMARY_TOKENS), len(summary) + 1)
            gone, self.history = self.history[:start], self.history[start:]
            self.score.summariser_input += sum(segment.tokens for _, segment in gone) + PROMPT_TOKENS
            self.score.summariser_output += REWRITTEN_SUMMARY_TOKENS
            made = Piece("summary", REWRITTEN_SUMMARY_TOKENS), self._segment(REWRITTEN_SUMMARY_TOKENS)
            self.history.insert(0, made)
        return super().shown()


PEERS = (FullHistory, TrimmedEachTurn, SummaryRewrittenEachTurn)
