"""How much room there is: from a model's limits and the configuration to the marks that drive everything."""

from __future__ import annotations

import warnings

from mnesis.config import CompactionConfig
from mnesis.errors import ConfigurationError
from mnesis.models.context import Budget
from mnesis.tokens.model_info import ModelInfo

# Below this share of the window, reserving the configured amounts would leave no conversation worth the name.
SMALLEST_USABLE_SHARE = 0.25
SCALED_OUTPUT_SHARE = 0.25
SCALED_HEADROOM_SHARE = 0.125
SMALLEST_SUMMARIES_TOKENS = 1_024
SMALLEST_SUMMARIES_SHARE = 0.125


class SmallModelWarning(UserWarning):
    """The model's window is too small for the configured reserves; they were scaled down."""


def make_budget(model: ModelInfo, config: CompactionConfig, system_tokens: int) -> Budget:
    """The budget of a session.

    `usable = context_limit - max_output_tokens - compaction_output_budget`. Where that leaves less than a quarter of the
    window, both reserves are scaled to the window, with a `SmallModelWarning`. The low-water mark stands on top of the
    system prompt, which no compaction can reduce.

    Raises `ConfigurationError` when no compaction could ever bring the context under the soft threshold.
    """
    limit, output = model.context_limit, model.max_output_tokens
    usable = limit - output - config.compaction_output_budget
    if usable < limit * SMALLEST_USABLE_SHARE:
        output, usable = _scaled(model, config)
    soft = int(usable * config.soft_threshold_fraction)
    low = int(usable * config.low_water_fraction)
    # In a small window a share of the low-water mark would be too little for any summary worth the name.
    least = min(SMALLEST_SUMMARIES_TOKENS, int(usable * SMALLEST_SUMMARIES_SHARE), max(soft - system_tokens, 0) // 4)
    summaries = max(int(low * config.summary_share), least)
    low = max(low, summaries)
    if system_tokens + low >= soft:
        raise ConfigurationError(_unsatisfiable(model, config, usable, soft, low, system_tokens))
    return Budget(
        context_limit=limit,
        max_output_tokens=output,
        usable_tokens=usable,
        soft_tokens=soft,
        low_water_tokens=system_tokens + low,
        summary_tokens=summaries,
    )


def _scaled(model: ModelInfo, config: CompactionConfig) -> tuple[int, int]:
    limit = model.context_limit
    output = min(model.max_output_tokens, int(limit * SCALED_OUTPUT_SHARE))
    headroom = min(config.compaction_output_budget, int(limit * SCALED_HEADROOM_SHARE))
    usable = limit - output - headroom
    warnings.warn(
        f"{model.model_id}: a window of {limit:,} tokens is too small for max_output_tokens={model.max_output_tokens:,} and"
        f" compaction_output_budget={config.compaction_output_budget:,}; reserving {output:,} and {headroom:,} instead,"
        f" {usable:,} tokens are usable. Lower compaction_output_budget, or give the true limits in model_overrides.",
        SmallModelWarning,
        stacklevel=4,
    )
    return output, usable


def _unsatisfiable(
    model: ModelInfo, config: CompactionConfig, usable: int, soft: int, low: int, system_tokens: int
) -> str:
    return (
        f"no compaction could bring {model.model_id} under its soft threshold: the system prompt takes {system_tokens:,} tokens and"
        f" the context comes down to {low:,} more (low_water_fraction={config.low_water_fraction}), but"
        f" soft_threshold_fraction={config.soft_threshold_fraction} of {usable:,} usable tokens is {soft:,}."
        " Shorten the system prompt, lower low_water_fraction or compaction_output_budget, or use a model with a larger window."
    )
