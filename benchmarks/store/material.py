"""What is written: turns of 200 + 600 characters, and the model whose window nothing here fills."""

from __future__ import annotations

import random
from dataclasses import dataclass

from mnesis import MnesisConfig

MODEL = "openai/gpt-4o"
ASKED_CHARS = 200
ANSWERED_CHARS = 600
PAYLOAD_BYTES = ASKED_CHARS + ANSWERED_CHARS
CONFIG = MnesisConfig.model_validate({"model_overrides": {"context_limit": 2_000_000, "max_output_tokens": 4_000}})

_TEXT = (
    "window budget ledger harbour pencil orbit copper meadow signal thread marble canyon lantern"
    " ribbon timber velvet saddle engine pocket summit valley basket mirror candle garden bridge"
)
_WORDS = _TEXT.split()


@dataclass(frozen=True, slots=True)
class Turn:
    """What a user said and what was answered."""

    asked: str
    answered: str


def turns(count: int, seed: int = 1) -> list[Turn]:
    """So many different turns."""
    rng = random.Random(seed)
    return [Turn(_text(ASKED_CHARS, rng), _text(ANSWERED_CHARS, rng)) for _ in range(count)]


def _text(chars: int, rng: random.Random) -> str:
    return " ".join(rng.choices(_WORDS, k=chars // 4))[:chars]
