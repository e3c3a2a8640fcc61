"""Budgets for a compaction down to a given size. Pure functions, no I/O."""

from __future__ import annotations

from mnesis.config import MnesisConfig, ModelOverrides

MIN_BUDGET_TOKENS = 400
"""Below this, compaction cannot save tokens: a summary with its fence takes about a quarter of it."""
OUTPUT_TOKENS = 1
"""The smallest output limit that a configuration accepts: the whole budget is for the context."""
HEADROOM_TOKENS = 1_000
"""The compaction output budget. It is added to the context limit again, so it does not reduce the usable tokens."""
SUMMARY_FRACTION = 0.3
"""The largest part of the folded tokens that their summaries may take."""


def with_token_budget(config: MnesisConfig, *, usable_tokens: int, keep_tokens: int) -> MnesisConfig:
    """Return `config` with exactly `usable_tokens`, of which compaction leaves about `keep_tokens` unfolded.

    The fractions are those of `CompactionConfig`. The low-water mark covers the kept tokens and the summaries of the
    rest.
    """
    kept_tokens = min(max(keep_tokens, 0), usable_tokens * 8 // 10)
    summary_tokens = max(int((usable_tokens - kept_tokens) * SUMMARY_FRACTION), 1)
    low_water_fraction = min(max((kept_tokens + summary_tokens) / usable_tokens, 0.02), 0.9)
    compaction = config.compaction.model_copy(
        update={
            "auto": True,
            "compaction_output_budget": HEADROOM_TOKENS,
            "soft_threshold_fraction": 0.95,
            "low_water_fraction": low_water_fraction,
            "summary_fraction": min(max(summary_tokens / (low_water_fraction * usable_tokens), 0.05), 0.95),
            "prune_protect_tokens": min(config.compaction.prune_protect_tokens, kept_tokens),
            "prune_minimum_tokens": min(config.compaction.prune_minimum_tokens, max(kept_tokens // 2, 1)),
        }
    )
    overrides = config.model_overrides or ModelOverrides()
    limits = overrides.model_copy(
        update={
            "context_limit": usable_tokens + HEADROOM_TOKENS + OUTPUT_TOKENS,
            "max_output_tokens": OUTPUT_TOKENS,
        }
    )
    return config.model_copy(update={"compaction": compaction, "model_overrides": limits})
