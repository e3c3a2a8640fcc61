"""What the requests of one conversation cost a provider with a prefix cache.

A cache re-uses the longest common prefix with the request before, message by message. Costs are in tokens of input at
full price: a token read from the cache costs 0.1, any other 1.25 (it is written to the cache); Anthropic's prices. The
summariser is a model at a quarter of the price, whose output costs five times its input. The output of the main model
is the same for every strategy and left out.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

READ_PRICE = 0.10
WRITE_PRICE = 1.25
SUMMARISER_PRICE = 0.25
OUTPUT_PRICE = 5
SMALLEST_PREFIX_TOKENS = 1_024
BREAK_TOKENS = 2_000
BREAK_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Segment:
    """One message of a request: equal identities mean equal bytes."""

    identity: Hashable
    tokens: int


@dataclass
class Score:
    """Sums over the requests of one conversation; add them in order."""

    requests: int = 0
    tokens: int = 0
    reused: int = 0
    breaks: int = 0
    peak: int = 0
    summariser_input: int = 0
    summariser_output: int = 0
    _previous: Sequence[Segment] = field(default=(), repr=False)

    def add(self, request: Sequence[Segment]) -> None:
        """Count a request. It breaks the cache if it re-uses 2,000 tokens and 5 % less than the one before had."""
        size, before = _size(request), _size(self._previous)
        reused = _common_prefix(self._previous, request)
        reused = reused if reused >= SMALLEST_PREFIX_TOKENS else 0
        lost = before - reused
        self.requests += 1
        self.tokens += size
        self.reused += reused
        self.peak = max(self.peak, size)
        self.breaks += lost >= BREAK_TOKENS and lost > BREAK_SHARE * before
        self._previous = request

    @property
    def hit_ratio(self) -> float:
        return self.reused / max(self.tokens, 1)

    @property
    def breaks_per_request(self) -> float:
        return self.breaks / max(self.requests, 1)

    @property
    def cost(self) -> float:
        """The bill, summariser included, in tokens of input at full price."""
        return READ_PRICE * self.reused + WRITE_PRICE * (self.tokens - self.reused) + self.summariser_cost

    @property
    def summariser_cost(self) -> float:
        """The part of the bill that summaries make."""
        return SUMMARISER_PRICE * (self.summariser_input + OUTPUT_PRICE * self.summariser_output)


def _size(segments: Sequence[Segment]) -> int:
    return sum(segment.tokens for segment in segments)


def _common_prefix(before: Sequence[Segment], now: Sequence[Segment]) -> int:
    tokens = 0
    for old, new in zip(before, now, strict=False):
        if old.identity != new.identity:
            break
        tokens += new.tokens
    return tokens
