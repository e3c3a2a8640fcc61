"""Budgets for a compaction down to a given size. Pure."""

from __future__ import annotations

from mnesis.config import MnesisConfig, ModelOverrides

SMALLEST_TOKENS = 400
"""Below this a compaction could not save anything: a summary with its fence takes about a quarter of it."""
ANSWER_TOKENS = 1
HEADROOM_TOKENS = 1_000
SUMMARY_SHARE = 0.3
"""How much of what is folded its summaries may take, at most."""


def budgeted(base: MnesisConfig, *, usable_tokens: int, keep_tokens: int) -> MnesisConfig:
    """`base` with a window of exactly `usable_tokens`, of which a compaction leaves about `keep_tokens` unfolded.

    The fractions are those of `CompactionConfig`: the low-water mark holds what is kept and the summaries of the rest.
    """
    keep = min(max(keep_tokens, 0), usable_tokens * 8 // 10)
    summaries = max(int((usable_tokens - keep) * SUMMARY_SHARE), 1)
    low = min(max((keep + summaries) / usable_tokens, 0.02), 0.9)
    compaction = base.compaction.model_copy(
        update={
            "auto": True,
            "compaction_output_budget": HEADROOM_TOKENS,
            "soft_threshold_fraction": 0.95,
            "low_water_fraction": low,
            "summary_share": min(max(summaries / (low * usable_tokens), 0.05), 0.95),
            "prune_protect_tokens": min(base.compaction.prune_protect_tokens, keep),
            "prune_minimum_tokens": min(base.compaction.prune_minimum_tokens, max(keep // 2, 1)),
        }
    )
    given = base.model_overrides or ModelOverrides()
    limits = given.model_copy(
        update={
            "context_limit": usable_tokens + HEADROOM_TOKENS + ANSWER_TOKENS,
            "max_output_tokens": ANSWER_TOKENS,
        }
    )
    return base.model_copy(update={"compaction": compaction, "model_overrides": limits})
