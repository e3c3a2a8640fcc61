"""Two synthetic conversations, the same for every strategy: sizes of messages and when a model is called."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["system", "user", "assistant", "call", "tool", "summary"]
MAX_OUTPUT_TOKENS = 30_000


@dataclass(frozen=True, slots=True)
class Piece:
    """One message: its kind and its number of tokens."""

    kind: Kind
    tokens: int


@dataclass(frozen=True, slots=True)
class Step:
    """Input messages, then a model call if `calls_model`, then the output of the model and its tool."""

    input_pieces: tuple[Piece, ...] = ()
    calls_model: bool = True
    output_pieces: tuple[Piece, ...] = ()


@dataclass(frozen=True, slots=True)
class Workload:
    """A conversation. `request_tokens` is the largest request a strategy may make."""

    name: str
    system_tokens: int
    request_tokens: int
    turns: int
    make_steps: Callable[[int, random.Random], Iterator[Step]]

    def steps(self, seed: int, turns: int | None = None) -> Iterator[Step]:
        """Yield the steps of the first `turns` user turns, or of all if None."""
        return self.make_steps(turns or self.turns, random.Random(seed))


def _piece(kind: Kind, rng: random.Random, mean: float, spread: float) -> Piece:
    return Piece(kind, max(1, int(rng.lognormvariate(mean, spread))))


def _chat(turns: int, rng: random.Random) -> Iterator[Step]:
    for _ in range(turns):
        said = _piece("user", rng, 3.9, 0.6)
        yield Step((said,), output_pieces=(_piece("assistant", rng, 5.4, 0.5),))


def _agent(turns: int, rng: random.Random) -> Iterator[Step]:
    for _ in range(turns):
        yield Step((_piece("user", rng, 4.2, 0.7),), calls_model=False)
        for _ in range(rng.randint(2, 7)):
            call = _piece("call", rng, 4.4, 0.5)
            output = _piece("tool", rng, 6.9, 1.1)
            yield Step(output_pieces=(call, Piece("tool", min(MAX_OUTPUT_TOKENS, output.tokens))))
        yield Step(output_pieces=(_piece("assistant", rng, 5.2, 0.5),))


WORKLOADS = {
    "agent": Workload("agent", system_tokens=9_000, request_tokens=100_000, turns=160, make_steps=_agent),
    "chat": Workload("chat", system_tokens=3_000, request_tokens=25_000, turns=600, make_steps=_chat),
}
"""`agent`: each user turn has two to seven tool steps, each a model call. `chat`: one model call per turn, no tools."""
