"""When a compaction is due. Pure functions, no I/O."""

from __future__ import annotations

from typing import Literal

from mnesis.models.context import Budget
from mnesis.models.dialects import PromptCache

Urgency = Literal["none", "soft", "hard"]


def urgency(context_tokens: int, budget: Budget) -> Urgency:
    """Return how urgent a compaction is.

    "none" below the soft threshold. At and above the soft threshold: compact in the background. "hard" from the usable
    tokens on: compact before the next request.
    """
    if context_tokens >= budget.usable_tokens:
        return "hard"
    return "soft" if context_tokens >= budget.soft_tokens else "none"


SUMMARY_RATIO = 8
"""Estimated tokens that a sweep frees per token of summary: a value between those of recorded summaries of short and of
long spans."""

OUTPUT_PRICE_FACTOR = 5
"""The price of an output token in input tokens: 5 at Anthropic, 8 at OpenAI and Google, 1.5 to 4 at DeepSeek and Kimi."""

CERTAIN_SECONDS = 300.0
"""The time that an automatic cache certainly lives after its last use: OpenAI and Google keep entries for at least five
minutes of inactivity (prompt caching guides), DeepSeek for hours."""

MIN_LEFT_SECONDS = 10.0
"""A request that reads the cache must arrive before it expires."""

EXPECTED_REQUESTS = 10
"""The number of requests after a pause within which a sweep must earn back its price."""


def pays_off_when_expired(
    context_tokens: int, budget: Budget, threshold_fraction: float, cache: PromptCache | None, lifetime: str
) -> bool:
    """Return whether a sweep pays off once the provider's cache has expired, and the context must be written again.

    It does if the context has at least `threshold_fraction` of the soft threshold, and the price is earned back within
    `EXPECTED_REQUESTS`. `lifetime` is the one that cache marks ask for.
    """
    threshold_tokens = budget.system_tokens + (budget.soft_tokens - budget.system_tokens) * threshold_fraction
    if cache is None or context_tokens < max(threshold_tokens, budget.low_water_tokens):
        return False
    return requests_until_paid_off(cache, lifetime) <= EXPECTED_REQUESTS


def is_certainly_cached(cache: PromptCache, idle_seconds: float, lifetime_seconds: float) -> bool:
    """Return whether a cache that has been unused for `idle_seconds` will still be there when a request arrives.

    An entry that a mark asked for lives for `lifetime_seconds`. Caches without marks promise less than their longest lifetime.
    """
    alive_seconds = lifetime_seconds if cache.max_marks else min(lifetime_seconds, CERTAIN_SECONDS)
    return idle_seconds + MIN_LEFT_SECONDS <= alive_seconds


def prefix_is_cheaper(
    cache: PromptCache,
    *,
    cached_tokens: int,
    uncached_tokens: int,
    transcript_tokens: int,
    summary_tokens: int,
    price_ratio: float,
) -> bool:
    """Return whether a summary costs less if the session's model reads the conversation from its cache.

    The other way is a transcript of `transcript_tokens` for a model whose tokens cost `price_ratio` times as much as the
    session model's. Prices are multiples of the session model's input token.
    """
    output_price = summary_tokens * OUTPUT_PRICE_FACTOR
    from_cache = cached_tokens * cache.read_factor + uncached_tokens + output_price
    return from_cache < (transcript_tokens + output_price) * price_ratio


def requests_until_paid_off(cache: PromptCache, lifetime: str) -> float:
    """Return the number of requests after which a sweep of an expired context has paid off, per token that it frees.

    The summariser reads the token at full price and writes its share of the summary. The next request does not write
    the token, and later ones do not read it. The price of another model as summariser is not known, so it counts the
    same.
    """
    summary_price = 1 + OUTPUT_PRICE_FACTOR / SUMMARY_RATIO
    price_left = summary_price - cache.write_factor(lifetime)
    if price_left <= 0:
        return 1.0
    return 1 + price_left / cache.read_factor if cache.read_factor else float("inf")
