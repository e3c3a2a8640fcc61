"""`python -m benchmarks.cache`: requests of the real engine and of three other strategies against providers' prompt caches."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Iterator
from dataclasses import asdict
from itertools import product

from benchmarks.cache.engine_run import Settings
from benchmarks.cache.peers import PEERS
from benchmarks.cache.provider_cache import PRICE_LISTS
from benchmarks.cache.run_strategy import Result, measure_engine, measure_peer
from benchmarks.cache.workload import WORKLOADS, Workload
from benchmarks.tables import format_table
from mnesis import CompactionConfig

USABLE_TOKENS = {"agent": 132_000, "chat": 36_000, "chat with pauses": 120_000}
"""With the default soft threshold, windows whose requests stay about within the peers' limit: a sweep starts four fifths into it."""
SWEEP_LOW = (0.05, 0.10, 0.15, 0.20, 0.30, 0.40)
SWEEP_EXPIRY = (0.1, 0.2, 0.3, 0.5, 0.8, 1.0)
QUICK_TURNS = {"agent": 16, "chat": 60, "chat with pauses": 180}
AIMS = {
    "agent": "aim: hits ≥ 96 %, cost ≤ 7.0 M",
    "chat": "aim: hits ≥ 97 %, cost ≤ 1.25 M",
    "chat with pauses": "aim: at least 30 % cheaper than without the clock",
}
HEAD = (
    "strategy", "Mtok sent", "hits", "breaks/req", "cost M", "of it summaries", "peak tok", "folds", "level 3", "after fold",
    *(f"$ {prices.name}" for prices in PRICE_LISTS),
)  # fmt: skip


def main() -> None:
    """Parse the arguments, run, print."""
    options = _options()
    report = asyncio.run(_report(options))
    if options.json:
        print(json.dumps(report, indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cache", description=__doc__)
    parser.add_argument("--workload", choices=sorted(WORKLOADS), help="only this one")
    parser.add_argument("--seeds", type=int, default=5, help="conversations per row")
    parser.add_argument("--usable", type=int, help="usable tokens of the engine's model")
    parser.add_argument("--engine-only", action="store_true", help="without the other strategies")
    parser.add_argument("--sweep", action="store_true", help="a table over settings instead")
    parser.add_argument("--quick", action="store_true", help="a smoke run: one short conversation per row")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return parser.parse_args()


async def _report(options: argparse.Namespace) -> dict[str, list[dict[str, object]]]:
    report = {}
    for name in [options.workload] if options.workload else WORKLOADS:
        workload = WORKLOADS[name]
        results = await _rows(workload, options)
        report[name] = [asdict(result) for result in results]
        if not options.json:
            _print(workload, results)
    return report


async def _rows(workload: Workload, options: argparse.Namespace) -> list[Result]:
    turns = QUICK_TURNS[workload.name] if options.quick else None
    seeds = range(1 if options.quick else options.seeds)
    with_peers = not (options.sweep or options.engine_only)
    peers = [await measure_peer(workload, kind, seeds, turns) for kind in PEERS] if with_peers else []
    engines = [
        await measure_engine(workload, settings, label, seeds, turns)
        for label, settings in _settings(workload, options)
    ]
    return [*peers, *engines]


def _settings(workload: Workload, options: argparse.Namespace) -> Iterator[tuple[str, Settings]]:
    usable = options.usable or USABLE_TOKENS[workload.name]
    if options.sweep:
        for low, expiry in product(SWEEP_LOW, SWEEP_EXPIRY if "pauses" in workload.name else (0.5,)):
            config = CompactionConfig(low_water_fraction=low, expiry_threshold_fraction=expiry)
            yield f"mnesis, low {low} expiry {expiry}", Settings(usable, config)
        return
    yield "mnesis, defaults", Settings(usable, CompactionConfig())
    if "pauses" in workload.name:
        yield "mnesis, without the clock", Settings(usable, CompactionConfig(cache_expiry="ignore"))
    elif workload.name == "agent":
        yield "mnesis, two whole turns", Settings(usable, CompactionConfig(fresh_tail_fraction=None))


def _print(workload: Workload, results: list[Result]) -> None:
    first = results[0]
    print(
        f"\n{workload.name}: {first.requests:.0f} requests, peers' largest request {workload.request_tokens:,} tokens;"
        f" {AIMS[workload.name]}\n"
    )
    print(format_table(HEAD, [_cells(result) for result in results]))


def _cells(result: Result) -> list[str]:
    engine = result.folds > 0
    return [
        result.strategy,
        f"{result.million_tokens:.2f}",
        f"{result.hit_ratio:.1%}",
        f"{result.breaks_per_request:.3f}",
        f"{result.million_cost:.2f}",
        f"{result.summariser_million_cost:.2f}",
        f"{result.peak_tokens:,}",
        f"{result.folds:.0f}" if engine else "",
        f"{result.level3_folds:.1f}" if engine else "",
        f"{result.after_fold_tokens:,.0f}" if engine else "",
        *(f"{result.dollars[prices.name]:.2f}" for prices in PRICE_LISTS),
    ]


if __name__ == "__main__":
    main()
