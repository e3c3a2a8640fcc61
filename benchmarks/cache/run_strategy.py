"""Runs of a workload with a strategy, and their means over seeds."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Protocol

from benchmarks.cache.cache_score import Score
from benchmarks.cache.engine_run import Settings, engine_run
from benchmarks.cache.peers import FullHistory
from benchmarks.cache.provider_cache import PRICE_LISTS
from benchmarks.cache.workload import Turn, Workload


class Strategy(Protocol):
    """A context strategy: makes the requests of each turn."""

    async def run_turn(self, turn: Turn) -> None: ...


@dataclass(frozen=True, slots=True)
class Result:
    """One row: means over the seeds. `peak_tokens` is the largest request; `folds` are compactions per conversation.

    `level3_folds` are the compactions in which the engine rejected the scripted answers. `dollars` has one entry for each
    price list.
    """

    strategy: str
    requests: float
    million_tokens: float
    hit_ratio: float
    breaks_per_request: float
    million_cost: float
    summariser_million_cost: float
    peak_tokens: int
    dollars: dict[str, float] = field(default_factory=dict)
    folds: float = 0.0
    level3_folds: float = 0.0
    after_fold_tokens: float = 0.0


async def run_strategy(turns: Iterable[Turn], strategy: Strategy) -> None:
    """Run the whole conversation."""
    for turn in turns:
        await strategy.run_turn(turn)


async def measure_peer(workload: Workload, kind: type[FullHistory], seeds: range, turns: int | None) -> Result:
    """Measure a strategy that is based on sizes alone."""
    scores = []
    for seed in seeds:
        peer = kind(workload)
        await run_strategy(workload.make_turns(seed, turns), peer)
        scores.append(peer.score)
    return _mean_result(kind.name, scores)


async def measure_engine(workload: Workload, settings: Settings, name: str, seeds: range, turns: int | None) -> Result:
    """Measure the engine, with a new session for each seed."""
    logging.getLogger("mnesis").setLevel(logging.ERROR)
    scores, folds = [], []
    for seed in seeds:
        async with engine_run(workload, settings) as run:
            await run_strategy(workload.make_turns(seed, turns), run)
            scores.append(run.score)
            folds.append(await run.session.compactions())
    all_folds = [fold for of_seed in folds for fold in of_seed]
    return _mean_result(
        name,
        scores,
        folds=len(all_folds) / len(folds),
        level3_folds=sum(fold.level_used == 3 for fold in all_folds) / len(folds),
        after_fold_tokens=fmean(fold.tokens_after for fold in all_folds) if all_folds else 0.0,
    )


def _mean_result(name: str, scores: Sequence[Score], **of_folds: float) -> Result:
    return Result(
        strategy=name,
        requests=fmean(score.requests for score in scores),
        million_tokens=fmean(score.tokens for score in scores) / 1e6,
        hit_ratio=fmean(score.hit_ratio for score in scores),
        breaks_per_request=fmean(score.breaks_per_request for score in scores),
        million_cost=fmean(score.cost for score in scores) / 1e6,
        summariser_million_cost=fmean(score.summariser_cost for score in scores) / 1e6,
        peak_tokens=max(score.max_request_tokens for score in scores),
        dollars={prices.name: fmean(score.total_dollars(prices) for score in scores) for prices in PRICE_LISTS},
        **of_folds,
    )
