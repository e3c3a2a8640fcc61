"""Sample turns of 200 + 600 characters, and a model whose window they never fill."""

from __future__ import annotations

import random
from dataclasses import dataclass

from mnesis import MnesisConfig

MODEL = "openai/gpt-4o"
USER_CHARS = 200
ASSISTANT_CHARS = 600
PAYLOAD_BYTES = USER_CHARS + ASSISTANT_CHARS
CONFIG = MnesisConfig.model_validate({"model_overrides": {"context_limit": 2_000_000, "max_output_tokens": 4_000}})

_TEXT = (
    "window budget ledger harbour pencil orbit copper meadow signal thread marble canyon lantern"
    " ribbon timber velvet saddle engine pocket summit valley basket mirror candle garden bridge"
)
_WORDS = _TEXT.split()


@dataclass(frozen=True, slots=True)
class Turn:
    """A user message and its reply."""

    user_text: str
    assistant_text: str


def make_turns(count: int, seed: int = 1) -> list[Turn]:
    """Return `count` different turns. The same seed gives the same turns."""
    rng = random.Random(seed)
    return [Turn(_random_text(USER_CHARS, rng), _random_text(ASSISTANT_CHARS, rng)) for _ in range(count)]


def _random_text(chars: int, rng: random.Random) -> str:
    return " ".join(rng.choices(_WORDS, k=chars // 4))[:chars]
