"""Cost of one conversation's requests with a provider's prefix cache.

A cache reuses the longest common prefix with the previous request, message by message. Costs are in input tokens at full
price: a token read from the cache costs 0.1, any other 1.25 because it is written to the cache (Anthropic's prices). The
summariser is a model at a quarter of the price, whose output costs five times its input. The output of the main model is the
same for every strategy and is not counted.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

CACHE_READ_PRICE = 0.10
CACHE_WRITE_PRICE = 1.25
SUMMARISER_PRICE = 0.25
OUTPUT_PRICE = 5
MIN_PREFIX_TOKENS = 1_024
MIN_BREAK_TOKENS = 2_000
MIN_BREAK_FRACTION = 0.05


@dataclass(frozen=True, slots=True)
class Segment:
    """One message of a request: equal identities mean equal bytes."""

    identity: Hashable
    tokens: int


@dataclass
class Score:
    """Sums over the requests of one conversation, which must be added in order."""

    requests: int = 0
    tokens: int = 0
    reused_tokens: int = 0
    breaks: int = 0
    max_request_tokens: int = 0
    summariser_input: int = 0
    summariser_output: int = 0
    _previous: Sequence[Segment] = field(default=(), repr=False)

    def add(self, request: Sequence[Segment]) -> None:
        """Add a request. It breaks the cache if it reuses 2,000 tokens and 5 % less than the previous one contained."""
        size, before = _total_tokens(request), _total_tokens(self._previous)
        reused = _common_prefix(self._previous, request)
        reused = reused if reused >= MIN_PREFIX_TOKENS else 0
        lost = before - reused
        self.requests += 1
        self.tokens += size
        self.reused_tokens += reused
        self.max_request_tokens = max(self.max_request_tokens, size)
        self.breaks += lost >= MIN_BREAK_TOKENS and lost > MIN_BREAK_FRACTION * before
        self._previous = request

    @property
    def hit_ratio(self) -> float:
        return self.reused_tokens / max(self.tokens, 1)

    @property
    def breaks_per_request(self) -> float:
        return self.breaks / max(self.requests, 1)

    @property
    def cost(self) -> float:
        """The total cost including the summariser, in input tokens at full price."""
        return (
            CACHE_READ_PRICE * self.reused_tokens
            + CACHE_WRITE_PRICE * (self.tokens - self.reused_tokens)
            + self.summariser_cost
        )

    @property
    def summariser_cost(self) -> float:
        """The summariser's part of the cost."""
        return SUMMARISER_PRICE * (self.summariser_input + OUTPUT_PRICE * self.summariser_output)


def _total_tokens(segments: Sequence[Segment]) -> int:
    return sum(segment.tokens for segment in segments)


def _common_prefix(before: Sequence[Segment], now: Sequence[Segment]) -> int:
    tokens = 0
    for old, new in zip(before, now, strict=False):
        if old.identity != new.identity:
            break
        tokens += new.tokens
    return tokens
