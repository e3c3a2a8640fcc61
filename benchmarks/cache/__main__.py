"""`python -m benchmarks.cache`: requests of the real engine and of three other strategies against a prefix cache."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Iterator
from dataclasses import asdict
from itertools import product

from benchmarks.cache.engine_run import Settings
from benchmarks.cache.peers import PEERS
from benchmarks.cache.run_strategy import Result, measure_engine, measure_peer
from benchmarks.cache.workload import WORKLOADS, Workload
from benchmarks.tables import format_table
from mnesis import CompactionConfig

# With the default soft threshold, the largest windows whose requests stay about within the peers' limit: a fold completes
# some requests after the threshold, and an agent's outputs are large.
USABLE_TOKENS = {"agent": 120_000, "chat": 36_000}
# The other engine rows have exactly the peers' limit as their hard threshold, which no request exceeds. The last one also cuts
# turns that are longer than a tenth of it.
HIGH_SOFT_FRACTION = 0.8
FRESH_TAIL_FRACTION = 0.1
SWEEP_LOW = (0.05, 0.10, 0.15, 0.20, 0.30, 0.40)
SWEEP_USABLE = {"agent": (100_000, 115_000, 130_000, 140_000), "chat": (25_000, 32_000, 36_000, 40_000)}
QUICK_TURNS = {"agent": 24, "chat": 120}
AIMS = {
    "agent": "aim: hits ≥ 96 %, breaks ≤ 0.045, cost ≤ 7.2 M",
    "chat": "aim: hits ≥ 97 %, cost ≤ 1.25 M",
}
HEAD = (
    "strategy", "Mtok sent", "hits", "breaks/req", "cost M", "of it summaries", "peak tok", "folds", "level 3", "after fold",
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
    parser.add_argument("--lag", type=int, default=1, help="requests that are sent while a background fold runs")
    parser.add_argument("--usable", type=int, help="usable tokens of the engine's model")
    parser.add_argument("--low", type=float, help="low_water_fraction")
    parser.add_argument("--fresh", type=float, help="fresh_tail_fraction")
    parser.add_argument("--asked", action="store_true", help="summaries as long as the engine asks for")
    parser.add_argument("--sweep", action="store_true", help="a table over usable tokens and low-water marks instead")
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
            _print(workload, results, options)
    return report


async def _rows(workload: Workload, options: argparse.Namespace) -> list[Result]:
    turns = QUICK_TURNS[workload.name] if options.quick else None
    seeds = range(1 if options.quick else options.seeds)
    peers = [] if options.sweep else [await measure_peer(workload, kind, seeds, turns) for kind in PEERS]
    engines = [
        await measure_engine(workload, settings, _label(workload, settings), seeds, turns)
        for settings in _settings(workload, options)
    ]
    return [*peers, *engines]


def _settings(workload: Workload, options: argparse.Namespace) -> Iterator[Settings]:
    usable = [options.usable or USABLE_TOKENS[workload.name]]
    low = [CompactionConfig().low_water_fraction if options.low is None else options.low]
    if options.sweep:
        usable, low = list(SWEEP_USABLE[workload.name]), list(SWEEP_LOW)
    for tokens, fraction in product(usable, low):
        compaction = CompactionConfig(low_water_fraction=fraction, fresh_tail_fraction=options.fresh)
        yield Settings(tokens, compaction, options.lag, options.asked)
    if not (options.sweep or options.usable):
        for fresh in (None, FRESH_TAIL_FRACTION):
            high = CompactionConfig(
                low_water_fraction=low[0], soft_threshold_fraction=HIGH_SOFT_FRACTION, fresh_tail_fraction=fresh
            )
            yield Settings(workload.request_tokens, high, options.lag, options.asked)


def _label(workload: Workload, settings: Settings) -> str:
    compaction = settings.compaction
    soft = settings.usable_tokens * compaction.soft_threshold_fraction
    low = settings.usable_tokens * compaction.low_water_fraction + workload.system_tokens
    fresh = compaction.fresh_tail_fraction
    bound = "" if fresh is None else f" fresh {settings.usable_tokens * fresh / 1000:.0f}k"
    return f"mnesis, usable {settings.usable_tokens // 1000}k soft {soft / 1000:.0f}k low {low / 1000:.1f}k{bound}"


def _print(workload: Workload, results: list[Result], options: argparse.Namespace) -> None:
    first = results[0]
    print(
        f"\n{workload.name}: {first.requests:.0f} requests, peers' largest request {workload.request_tokens:,} tokens,"
        f" a fold lands {options.lag} request(s) late; {AIMS[workload.name]}\n"
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
    ]


if __name__ == "__main__":
    main()
