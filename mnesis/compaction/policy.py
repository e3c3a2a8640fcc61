"""When a compaction is due. Pure."""

from __future__ import annotations

from typing import Literal

from mnesis.models.context import Budget

Urgency = Literal["none", "soft", "hard"]


def urgency(context_tokens: int, budget: Budget) -> Urgency:
    """Below the soft threshold nothing is due; from there on a fold beside the conversation; from the usable tokens on a fold
    before the next request goes out."""
    if context_tokens >= budget.usable_tokens:
        return "hard"
    return "soft" if context_tokens >= budget.soft_tokens else "none"
