"""The token budget of a session, computed from the model's limits and the configuration."""

from __future__ import annotations

import warnings
from dataclasses import replace

from mnesis.config import CompactionConfig
from mnesis.errors import ConfigurationError
from mnesis.models.context import Budget, min_summary_tokens
from mnesis.tokens.model_info import ModelInfo

MAX_RESERVED_FRACTION = 0.375
"""The largest fraction of the context limit for both reserves. If the configured reserves are larger, they are scaled
down to it. A fixed reserve in a small window would leave less for the conversation than a smaller window with scaled
reserves."""

MIN_USABLE_FRACTION = 0.25
"""The fraction of the context limit below which a warning is issued, because the configured reserves would leave less
for the conversation."""


class SmallModelWarning(UserWarning):
    """The context limit is too small for the configured reserves, which were scaled down."""


def resolve_budget(
    budget: Budget | int | None, model: ModelInfo, config: CompactionConfig, system_tokens: int
) -> Budget:
    """Return the budget of a session that is opened with `budget`; an integer is a number of usable tokens.

    None means the budget that follows from the model's limits; see `make_budget()`. The system prompt is added to a budget
    that does not include it. Raises `ConfigurationError` if no compaction could bring the context below the soft threshold.
    """
    if budget is None:
        return make_budget(model, config, system_tokens)
    if not isinstance(budget, Budget):
        budget = Budget.for_tokens(budget, config=config)
    if not budget.is_explicit:
        return budget
    extra_tokens = 0 if budget.includes_system_prompt else system_tokens
    usable_tokens, soft_tokens = budget.usable_tokens + extra_tokens, budget.soft_tokens + extra_tokens
    is_prompt_too_long = budget.includes_system_prompt and system_tokens + budget.low_water_tokens >= soft_tokens
    if system_tokens and is_prompt_too_long:
        raise ConfigurationError(
            f"no compaction could bring the context below its soft threshold: the system prompt takes {system_tokens:,}"
            f" tokens and compaction leaves {budget.low_water_tokens:,} more, but the soft threshold of {usable_tokens:,} usable"
            f" tokens is {soft_tokens:,}; shorten the system prompt, or pass a larger budget"
        )
    return replace(
        budget,
        context_limit=budget.context_limit + extra_tokens,
        usable_tokens=usable_tokens,
        soft_tokens=soft_tokens,
        low_water_tokens=budget.low_water_tokens + system_tokens,
        includes_system_prompt=True,
        system_tokens=system_tokens,
    )


def make_budget(model: ModelInfo, config: CompactionConfig, system_tokens: int) -> Budget:
    """Compute the budget of a session.

    `usable = context_limit - max_output_tokens - compaction_output_budget`. Both reserves together take at most
    `MAX_RESERVED_FRACTION` of the context limit, so that the usable tokens grow with it; in a small window they are scaled
    down. `SmallModelWarning` is issued if they would have left less than a quarter. The low-water mark includes the system
    prompt, which no compaction can reduce.

    Raises `ConfigurationError` if no compaction could bring the context below the soft threshold.
    """
    context_limit, output_tokens = model.context_limit, model.max_output_tokens
    output_tokens, headroom_tokens = _scale_reserves(output_tokens, config.compaction_output_budget, context_limit)
    usable_tokens = context_limit - output_tokens - headroom_tokens
    if context_limit - model.max_output_tokens - config.compaction_output_budget < context_limit * MIN_USABLE_FRACTION:
        _warn_about_reserves(model, config, output_tokens, headroom_tokens)
    soft_tokens = int(usable_tokens * config.soft_threshold_fraction)
    low_tokens = int(usable_tokens * config.low_water_fraction)
    # For a small model, a fraction of the low-water mark would be too little for a useful summary.
    summary_tokens = max(
        int(low_tokens * config.summary_fraction), min_summary_tokens(usable_tokens, soft_tokens - system_tokens)
    )
    low_tokens = max(low_tokens, summary_tokens)
    if system_tokens + low_tokens >= soft_tokens:
        raise ConfigurationError(
            _unsatisfiable_message(model, config, usable_tokens, soft_tokens, low_tokens, system_tokens)
        )
    return Budget(
        context_limit=context_limit,
        max_output_tokens=output_tokens,
        usable_tokens=usable_tokens,
        soft_tokens=soft_tokens,
        low_water_tokens=system_tokens + low_tokens,
        summary_tokens=summary_tokens,
        system_tokens=system_tokens,
    )


def _scale_reserves(output_tokens: int, headroom_tokens: int, context_limit: int) -> tuple[int, int]:
    """Return both reserves, together at most `MAX_RESERVED_FRACTION` of the context limit. The headroom shrinks first."""
    available_tokens = int(context_limit * MAX_RESERVED_FRACTION)
    output_tokens = min(output_tokens, available_tokens - min(headroom_tokens, available_tokens // 3))
    return output_tokens, min(headroom_tokens, available_tokens - output_tokens)


def _warn_about_reserves(model: ModelInfo, config: CompactionConfig, output_tokens: int, headroom_tokens: int) -> None:
    context_limit = model.context_limit
    warnings.warn(
        f"{model.model_id}: a context limit of {context_limit:,} tokens is too small for max_output_tokens={model.max_output_tokens:,} and"
        f" compaction_output_budget={config.compaction_output_budget:,}; reserving {output_tokens:,} and {headroom_tokens:,} instead,"
        f" which leaves {context_limit - output_tokens - headroom_tokens:,} usable tokens; lower compaction_output_budget, or set the true limits in model_overrides",
        SmallModelWarning,
        stacklevel=4,
    )


def _unsatisfiable_message(
    model: ModelInfo,
    config: CompactionConfig,
    usable_tokens: int,
    soft_tokens: int,
    low_tokens: int,
    system_tokens: int,
) -> str:
    return (
        f"no compaction could bring the context of {model.model_id} below its soft threshold: the system prompt takes"
        f" {system_tokens:,} tokens and compaction leaves {low_tokens:,} more (low_water_fraction={config.low_water_fraction}),"
        f" but soft_threshold_fraction={config.soft_threshold_fraction} of {usable_tokens:,} usable tokens is {soft_tokens:,};"
        " shorten the system prompt, lower low_water_fraction or compaction_output_budget, or use a model with a larger window"
    )
