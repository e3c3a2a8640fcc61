"""Plan a sweep: which outputs to prune and which spans to fold. Pure functions, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mnesis.compaction.fold import FoldPlan, plan_fold
from mnesis.compaction.prune import plan_prune
from mnesis.compaction.summarize import Count
from mnesis.config import CompactionConfig
from mnesis.models.context import ActiveContext, Budget, Prune

Trigger = Literal["soft", "hard", "manual", "overflow", "resume"]

# A background sweep that would free less than this share of the usable tokens is not worth a break of the cache.
WORTHWHILE_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """What a sweep would do: outputs to show as markers, runs to fold."""

    prunes: tuple[Prune, ...] = ()
    fold: FoldPlan = FoldPlan()

    @property
    def pruned_tokens(self) -> int:
        return sum(prune.tokens_saved for prune in self.prunes)

    def __bool__(self) -> bool:
        return bool(self.prunes or self.fold.runs)


def plan_sweep(
    context: ActiveContext, budget: Budget, config: CompactionConfig, count: Count, trigger: Trigger
) -> SweepPlan:
    """What a sweep for this reason would do; empty if there is nothing worth doing. Pure."""
    session = context.session
    # Reports may say more than the counts. What stays is counted, so the marks are brought down to counted tokens.
    share = session.stored_tokens / max(session.context_tokens, session.stored_tokens, 1)
    low_water = int(budget.low_water_tokens * share)
    prunes = plan_prune(context, config, count)
    saved = sum(prune.tokens_saved for prune in prunes)
    if trigger != "manual" and prunes and session.stored_tokens - saved <= low_water:
        return SweepPlan(prunes)
    keep = max(low_water - session.system_tokens - int(budget.summary_tokens * share), 0)
    pressed = trigger in ("hard", "overflow")
    bound = config.fresh_tail_fraction
    fold = plan_fold(
        context,
        budget,
        keep_tokens=keep,
        everything=trigger == "manual",
        pressed=pressed,
        fresh_tokens=None if bound is None else int(budget.usable_tokens * bound * share),
    )
    plan = SweepPlan(prunes, fold)
    little = saved + fold.tokens < budget.usable_tokens * WORTHWHILE_SHARE * share
    return SweepPlan() if trigger in ("soft", "resume") and little else plan
