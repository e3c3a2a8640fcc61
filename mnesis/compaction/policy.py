"""When a compaction is due. Pure functions, no I/O."""

from __future__ import annotations

from typing import Literal

from mnesis.models.context import Budget
from mnesis.models.dialects import PromptCache

Urgency = Literal["none", "soft", "hard"]


def urgency(context_tokens: int, budget: Budget) -> Urgency:
    """Return how urgent a compaction is.

    "none" below the soft threshold. "soft" from there on: compact in the background. "hard" from the usable tokens on:
    compact before the next request.
    """
    if context_tokens >= budget.usable_tokens:
        return "hard"
    return "soft" if context_tokens >= budget.soft_tokens else "none"


SUMMARY_RATIO = 8
"""Tokens that a sweep frees per token of summary, about; between those of recorded summaries of short and of long spans."""

OUTPUT_PRICE_FACTOR = 5
"""The price of an output token in input tokens: 5 at Anthropic, 8 at OpenAI and Google, 1.5 to 4 at DeepSeek and Kimi."""

EXPECTED_REQUESTS = 10
"""Requests that a conversation makes after a pause, at the least, for a sweep to be worth its price."""


def pays_off_when_expired(
    context_tokens: int, budget: Budget, threshold_fraction: float, cache: PromptCache | None, lifetime: str
) -> bool:
    """Return whether a sweep pays off once the provider's cache has expired, and the context must be written again.

    From `threshold_fraction` of the soft threshold on, if its price is earned back within `EXPECTED_REQUESTS`. `lifetime` is
    the one that cache marks ask for.
    """
    threshold_tokens = budget.system_tokens + (budget.soft_tokens - budget.system_tokens) * threshold_fraction
    if cache is None or context_tokens < max(threshold_tokens, budget.low_water_tokens):
        return False
    return requests_until_paid_off(cache, lifetime) <= EXPECTED_REQUESTS


def requests_until_paid_off(cache: PromptCache, lifetime: str) -> float:
    """Return after how many requests a sweep of an expired context costs less than none, per token that it frees.

    The summariser reads the token at full price and writes its share of the summary. The next request does not write the
    token, and later ones do not read it. The price of a summariser of another model is not known, so it counts the same.
    """
    summary_price = 1 + OUTPUT_PRICE_FACTOR / SUMMARY_RATIO
    price_left = summary_price - cache.write_factor(lifetime)
    if price_left <= 0:
        return 1.0
    return 1 + price_left / cache.read_factor if cache.read_factor else float("inf")
