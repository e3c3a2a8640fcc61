"""When a compaction is due. Pure functions, no I/O."""

from __future__ import annotations

from typing import Literal

from mnesis.models.context import Budget

Urgency = Literal["none", "soft", "hard"]


def urgency(context_tokens: int, budget: Budget) -> Urgency:
    """Return how urgent a compaction is.

    "none" below the soft threshold. "soft" from there on: compact in the background. "hard" from the usable tokens on:
    compact before the next request.
    """
    if context_tokens >= budget.usable_tokens:
        return "hard"
    return "soft" if context_tokens >= budget.soft_tokens else "none"
