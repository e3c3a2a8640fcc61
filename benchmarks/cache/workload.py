"""Three synthetic conversations, the same for every strategy: sizes of messages, tools, pauses, and when a model is called.

Sizes and pauses are log-normal. A person of `chat with pauses` answers after a median of two minutes; more than one pause in four
is longer than the five minutes that Claude's cache lives. In the other two, a person answers after 20 seconds.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["system", "user", "assistant", "call", "tool", "summary"]
MAX_OUTPUT_TOKENS = 30_000
STEP_SECONDS = 10.0
PROMPT_ANSWER_SECONDS = 20.0
PAUSE_MEDIAN_SECONDS, PAUSE_SIGMA = 120.0, 1.5
"""27 % of these pauses are longer than five minutes, 1.2 % longer than an hour."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One message: its kind and its number of tokens."""

    kind: Kind
    tokens: int


@dataclass(frozen=True, slots=True)
class Turn:
    """A user's message after a pause, the steps of the agent (a call and its output), and the answer."""

    pause_seconds: float
    user: Piece
    steps: tuple[tuple[Piece, Piece], ...]
    answer: Piece


@dataclass(frozen=True, slots=True)
class Workload:
    """A conversation. `request_tokens` is the largest request a strategy may make, tools included."""

    name: str
    tool_tokens: int
    system_tokens: int
    request_tokens: int
    turns: int
    max_steps: int
    pause_seconds: Callable[[random.Random], float]

    def make_turns(self, seed: int, turns: int | None = None) -> Iterator[Turn]:
        """Yield the first `turns` turns, or all if None."""
        sizes, pauses = random.Random(seed), random.Random(seed + 1_000)
        for _ in range(turns or self.turns):
            yield self._make_turn(sizes, self.pause_seconds(pauses))

    def _make_turn(self, sizes: random.Random, pause_seconds: float) -> Turn:
        if not self.max_steps:
            user = _piece("user", sizes, 3.9, 0.6)
            return Turn(pause_seconds, user, (), _piece("assistant", sizes, 5.4, 0.5))
        user = _piece("user", sizes, 4.2, 0.7)
        steps = []
        for _ in range(sizes.randint(2, self.max_steps)):
            call, output = _piece("call", sizes, 4.4, 0.5), _piece("tool", sizes, 6.9, 1.1)
            steps.append((call, Piece("tool", min(MAX_OUTPUT_TOKENS, output.tokens))))
        return Turn(pause_seconds, user, tuple(steps), _piece("assistant", sizes, 5.2, 0.5))


def _piece(kind: Kind, rng: random.Random, mean: float, spread: float) -> Piece:
    return Piece(kind, max(1, int(rng.lognormvariate(mean, spread))))


def _answer_promptly(rng: random.Random) -> float:
    return PROMPT_ANSWER_SECONDS


def _pause(rng: random.Random) -> float:
    return rng.lognormvariate(math.log(PAUSE_MEDIAN_SECONDS), PAUSE_SIGMA)


WORKLOADS = {
    "agent": Workload("agent", 6_000, 3_000, 100_000, 160, 7, _answer_promptly),
    "chat": Workload("chat", 0, 3_000, 25_000, 600, 0, _answer_promptly),
    "chat with pauses": Workload("chat with pauses", 0, 3_000, 100_000, 600, 0, _pause),
}
"""`agent`: each user turn has two to seven tool steps, each a model call. The chats: one model call per turn, no tools."""
