"""Cost of one conversation's requests with prompt caches.

Hits, breaks and `cost` are those of Claude's cache. `cost` is in input tokens at full price: a token read from the cache costs
0.1, one written to it 1.25, any other 1. The summariser is a model at a quarter of the price, whose output costs five times
its input. The output of the main model is the same for every strategy and is not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.cache.provider_cache import CLAUDE, PRICE_LISTS, CacheUse, MarkedCache, PrefixCache, PriceList, Segment

CACHE_READ_PRICE = 0.10
CACHE_WRITE_PRICE = 1.25
SUMMARISER_PRICE = 0.25
OUTPUT_PRICE = 5
MIN_BREAK_TOKENS = 2_000
MIN_BREAK_FRACTION = 0.05


@dataclass
class Score:
    """Sums over the requests of one conversation, which must be added in order. `seconds` is the time of the next one."""

    requests: int = 0
    tokens: int = 0
    reused_tokens: int = 0
    written_tokens: int = 0
    breaks: int = 0
    max_request_tokens: int = 0
    summariser_input: int = 0
    summariser_output: int = 0
    seconds: float = 0.0
    dollars: dict[str, float] = field(default_factory=dict)
    _previous_tokens: int = field(default=0, repr=False)
    _caches: dict[str, MarkedCache | PrefixCache] = field(
        default_factory=lambda: {prices.name: prices.new_cache() for prices in PRICE_LISTS}, repr=False
    )

    def add(self, request: Sequence[Segment]) -> CacheUse:
        """Add a request, and return what Claude's cache did for it.

        It breaks the cache if it reuses 2,000 tokens and 5 % less than the previous one contained.
        """
        uses = {prices.name: self._caches[prices.name].use(request, self.seconds) for prices in PRICE_LISTS}
        for prices in PRICE_LISTS:
            self.dollars[prices.name] = self.dollars.get(prices.name, 0.0) + _dollars(prices, uses[prices.name])
        use, size = uses[CLAUDE.name], sum(segment.tokens for segment in request)
        lost = self._previous_tokens - use.read
        self.requests += 1
        self.tokens += size
        self.reused_tokens += use.read
        self.written_tokens += use.written
        self.max_request_tokens = max(self.max_request_tokens, size)
        self.breaks += lost >= MIN_BREAK_TOKENS and lost > MIN_BREAK_FRACTION * self._previous_tokens
        self._previous_tokens = size
        return use

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
            + CACHE_WRITE_PRICE * self.written_tokens
            + (self.tokens - self.reused_tokens - self.written_tokens)
            + self.summariser_cost
        )

    @property
    def summariser_cost(self) -> float:
        """The summariser's part of the cost."""
        return SUMMARISER_PRICE * (self.summariser_input + OUTPUT_PRICE * self.summariser_output)

    def total_dollars(self, prices: PriceList) -> float:
        """Return the money of all requests and summaries under a price list."""
        summaries = self.summariser_input * prices.summary_input + self.summariser_output * prices.summary_output
        return self.dollars.get(prices.name, 0.0) + summaries / 1e6


def _dollars(prices: PriceList, use: CacheUse) -> float:
    return (use.read * prices.cache_read + use.written * prices.cache_write + use.uncached * prices.input) / 1e6
