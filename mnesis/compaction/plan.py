"""Plan a sweep: which outputs to prune and which spans to fold. Pure functions, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mnesis.compaction.fold import FoldPlan, plan_fold, plan_fold_to_keep, visible_tokens
from mnesis.compaction.prune import plan_prune
from mnesis.config import CompactionConfig
from mnesis.models.context import ActiveContext, Budget, Prune
from mnesis.models.message import Message
from mnesis.tokens.estimator import TokenCounter

Trigger = Literal["soft", "hard", "manual", "overflow", "expiry"]

MIN_GAIN_FRACTION = 0.05
"""A background sweep that frees less than this fraction of the usable tokens is not worth invalidating the provider's
cache."""


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """The plan of a sweep: outputs to replace with markers, and message spans to fold."""

    prunes: tuple[Prune, ...] = ()
    fold: FoldPlan = FoldPlan()

    @property
    def pruned_tokens(self) -> int:
        """The tokens that the prunes save."""
        return sum(prune.tokens_saved for prune in self.prunes)

    def __bool__(self) -> bool:
        return bool(self.prunes or self.fold.spans)


def plan_sweep(
    context: ActiveContext,
    budget: Budget,
    config: CompactionConfig,
    count: TokenCounter,
    trigger: Trigger,
    *,
    keep_tokens: int | None = None,
) -> SweepPlan:
    """Plan a sweep. The plan is empty if nothing is worth doing.

    `trigger` is the reason for the sweep: "manual" folds as much as possible, "hard" and "overflow" may also cut fresh
    turns, "soft" and "expiry" skip sweeps that free little. With `keep_tokens`, the messages that stay unfolded take at
    most that many tokens, regardless of the trigger.
    """
    config = _scale_prune_limits(config, budget, keep_tokens)
    if keep_tokens is not None:
        return _plan_to_keep(context, config, count, keep_tokens)
    session = context.session
    # Providers may report more tokens than mnesis counts. Messages are counted, so scale the thresholds to counted tokens.
    counted_fraction = session.stored_tokens / max(session.context_tokens, session.stored_tokens, 1)
    # The system prompt in the mark needs no scaling, because mnesis counted it.
    low_water_tokens = budget.system_tokens + int((budget.low_water_tokens - budget.system_tokens) * counted_fraction)
    prunes = plan_prune(context, config, count)
    pruned_tokens = sum(prune.tokens_saved for prune in prunes)
    if trigger != "manual" and prunes and session.stored_tokens - pruned_tokens <= low_water_tokens:
        return SweepPlan(prunes)
    keep_tokens = max(low_water_tokens - session.system_tokens - int(budget.summary_tokens * counted_fraction), 0)
    fold = plan_fold(
        context,
        budget,
        keep_tokens=keep_tokens,
        fold_all=trigger == "manual",
        may_cut_fresh_turns=trigger in ("hard", "overflow"),
        max_fresh_tokens=_max_fresh_tokens(budget, config, counted_fraction),
    )
    plan = SweepPlan(prunes, fold)
    frees_little = pruned_tokens + fold.tokens < budget.usable_tokens * MIN_GAIN_FRACTION * counted_fraction
    return SweepPlan() if trigger in ("soft", "expiry") and frees_little else plan


def _max_fresh_tokens(budget: Budget, config: CompactionConfig, counted_fraction: float) -> int | None:
    """Return how many tokens the newest turns may take before their tool steps are folded too. None means without limit."""
    if config.fresh_tail_fraction is None:
        return None
    fraction_tokens = int(budget.usable_tokens * config.fresh_tail_fraction)
    return int(max(fraction_tokens, config.fresh_tail_min_tokens) * counted_fraction)


def _plan_to_keep(context: ActiveContext, config: CompactionConfig, count: TokenCounter, keep_tokens: int) -> SweepPlan:
    """Plan a sweep after which the unfolded messages take at most `keep_tokens`, as far as messages may be folded."""
    prunes = plan_prune(context, config, count)
    pruned_tokens = sum(prune.tokens_saved for prune in prunes)
    visible = sum(visible_tokens(item, context.prunes) for item in context.items if isinstance(item, Message))
    if prunes and visible - pruned_tokens <= keep_tokens:
        return SweepPlan(prunes)
    return SweepPlan(prunes, plan_fold_to_keep(context, keep_tokens))


def _scale_prune_limits(config: CompactionConfig, budget: Budget, keep_tokens: int | None) -> CompactionConfig:
    """Reduce the limits of pruning to the size of the target. Their defaults fit the windows of models.

    A budget that follows from a model keeps the configured limits.
    """
    if keep_tokens is None and not budget.is_explicit:
        return config
    target_tokens = budget.low_water_tokens if keep_tokens is None else keep_tokens
    return config.model_copy(
        update={
            "prune_protect_tokens": min(config.prune_protect_tokens, target_tokens),
            "prune_minimum_tokens": min(config.prune_minimum_tokens, max(target_tokens // 2, 1)),
        }
    )
