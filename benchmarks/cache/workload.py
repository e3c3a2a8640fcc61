"""Two synthetic conversations, the same for every strategy: sizes of messages and when a model is called."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["system", "user", "assistant", "call", "tool", "summary"]
LARGEST_OUTPUT_TOKENS = 30_000


@dataclass(frozen=True, slots=True)
class Piece:
    """One message to come: what it is, and how many tokens it has."""

    kind: Kind
    tokens: int


@dataclass(frozen=True, slots=True)
class Step:
    """What is said, then a model call if `asks`, then what the model and its tool answer."""

    said: tuple[Piece, ...] = ()
    asks: bool = True
    answered: tuple[Piece, ...] = ()


@dataclass(frozen=True, slots=True)
class Workload:
    """A conversation: its system prompt, the largest request a strategy may make (tokens), its steps for a seed."""

    name: str
    system_tokens: int
    request_tokens: int
    turns: int
    steps_of: Callable[[int, random.Random], Iterator[Step]]

    def steps(self, seed: int, turns: int | None = None) -> Iterator[Step]:
        """The steps of the first `turns` user turns (all of them if not given)."""
        return self.steps_of(turns or self.turns, random.Random(seed))


def _piece(kind: Kind, rng: random.Random, mean: float, spread: float) -> Piece:
    return Piece(kind, max(1, int(rng.lognormvariate(mean, spread))))


def _chat(turns: int, rng: random.Random) -> Iterator[Step]:
    for _ in range(turns):
        said = _piece("user", rng, 3.9, 0.6)
        yield Step((said,), answered=(_piece("assistant", rng, 5.4, 0.5),))


def _agent(turns: int, rng: random.Random) -> Iterator[Step]:
    for _ in range(turns):
        yield Step((_piece("user", rng, 4.2, 0.7),), asks=False)
        for _ in range(rng.randint(2, 7)):
            call = _piece("call", rng, 4.4, 0.5)
            output = _piece("tool", rng, 6.9, 1.1)
            yield Step(answered=(call, Piece("tool", min(LARGEST_OUTPUT_TOKENS, output.tokens))))
        yield Step(answered=(_piece("assistant", rng, 5.2, 0.5),))


WORKLOADS = {
    "agent": Workload("agent", system_tokens=9_000, request_tokens=100_000, turns=160, steps_of=_agent),
    "chat": Workload("chat", system_tokens=3_000, request_tokens=25_000, turns=600, steps_of=_chat),
}
"""`agent`: each user turn runs two to seven tool steps, each a model call. `chat`: one model call a turn, no tools."""
