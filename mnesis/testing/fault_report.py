"""`python -m mnesis.testing.fault_report`: kill every operation at every step, again and again, and print counts per operation.

`--resume FILE` continues where an earlier run ended, also one that was interrupted, and adds to its counts. `--jobs N` runs
N sweeps at the same time, each in its own process.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path

from mnesis.testing.fault_operations import all_operations
from mnesis.testing.fault_targets import file_targets
from mnesis.testing.faults import LATE_MODULES, sweep_kills

DEFAULT_KILLS = 10_000


@dataclass(frozen=True)
class SweepCount:
    """One finished sweep: the interrupted operation, its steps, the kills, and the violations."""

    store: str
    api: str
    operation: str
    steps: int
    kills: int
    violations: list[str]


def main(arguments: list[str] | None = None) -> None:
    """Run sweeps until the number of kills is reached. Exits with 1 if any invariant was violated."""
    parser = argparse.ArgumentParser(prog="python -m mnesis.testing.fault_report", description=__doc__)
    parser.add_argument("--kills", type=int, default=DEFAULT_KILLS, help="how many processes to kill (%(default)s)")
    parser.add_argument("--only", default="", help="only operations whose name contains this")
    parser.add_argument("--store", choices=[target.name for target in file_targets()], help="only this store")
    parser.add_argument(
        "--resume", type=Path, metavar="FILE", help="keep the counts in this file, and continue with them"
    )
    parser.add_argument("--jobs", type=int, default=1, help="sweeps at the same time (%(default)s)")
    options = parser.parse_args(arguments)
    if options.jobs < 1:
        parser.error(f"--jobs must be at least 1, not {options.jobs}")
    counts = read_counts(options.resume)
    try:
        for count in run_kills(
            options.kills, only=options.only, store=options.store, done=list(counts), jobs=options.jobs
        ):
            counts.append(count)
            if options.resume is not None:
                write_counts(options.resume, counts)
    except KeyboardInterrupt:
        print("interrupted; continue with --resume", file=sys.stderr)
    violations = [each for count in counts for each in count.violations]
    print(format_report(counts))
    for violation in violations[:50]:
        print(violation, file=sys.stderr)
    sys.exit(1 if violations else 0)


def run_kills(
    kills: int, *, only: str = "", store: str | None = None, done: list[SweepCount] | None = None, jobs: int = 1
) -> Iterator[SweepCount]:
    """Sweep over all operations on all stores, and yield each sweep, until this number of processes was killed.

    Each round covers every operation; rounds interrupt alternately before statements and inside them. `done` are sweeps
    of earlier runs, which are not repeated in their round. Several jobs may kill more than `kills`, because each
    finishes its sweep.
    """
    pairs = [
        (target.name, operation.api, operation.name)
        for target in file_targets()
        for operation in all_operations()
        if only in f"{operation.api} {operation.name}"
        and store in (None, target.name)
        and target.name in operation.stores
    ]
    if not pairs:
        raise SystemExit(f"no operation contains {only!r}")
    counts = list(done or [])
    rounds = Counter((count.store, count.api, count.operation) for count in counts)
    killed = sum(count.kills for count in counts)

    def next_sweep() -> tuple[tuple[str, str, str], bool, int]:
        pair = min(pairs, key=lambda each: rounds[each])
        rounds[pair] += 1
        return pair, rounds[pair] % 2 == 0, kills - killed

    if jobs == 1:
        while killed < kills:
            count = _sweep(*next_sweep())
            killed += count.kills
            yield count
        return
    context = multiprocessing.get_context("forkserver" if os.name == "posix" else "spawn")
    context.set_forkserver_preload([__name__, *LATE_MODULES])  # the jobs share the modules that take seconds to import
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        running: set[Future[SweepCount]] = set()
        while killed < kills or running:
            while killed < kills and len(running) < jobs:
                running.add(pool.submit(_sweep, *next_sweep()))
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                killed += future.result().kills
                yield future.result()


def _sweep(pair: tuple[str, str, str], inside: bool, max_kills: int) -> SweepCount:
    """Sweep over one operation of one store, which are named because another process may do it."""
    store, api, name = pair
    target = next(each for each in file_targets() if each.name == store)
    operation = next(each for each in all_operations() if (each.api, each.name) == (api, name))
    with tempfile.TemporaryDirectory(prefix="mnesis-faults-") as directory:
        result = sweep_kills(operation, Path(directory), inside=inside, steps=range(1, max_kills + 1), target=target)
    return SweepCount(store, api, name, result.steps, result.faults, result.violations)


def read_counts(path: Path | None) -> list[SweepCount]:
    """Return the sweeps that a file of `--resume` lists, or none."""
    if path is None or not path.exists():
        return []
    return [SweepCount(**each) for each in json.loads(path.read_text("utf-8"))]


def write_counts(path: Path, counts: list[SweepCount]) -> None:
    """Write the sweeps to a file, atomically."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    unfinished.write_text(json.dumps([asdict(count) for count in counts]), "utf-8")
    unfinished.replace(path)


def format_report(counts: list[SweepCount]) -> str:
    """Return a table with one line per operation and store: its steps, kills and violations."""
    lines = [f"{'store':10} {'api':12} {'operation':20} {'steps':>6} {'kills':>7} {'violations':>11}"]
    for store, api, name in dict.fromkeys((each.store, each.api, each.operation) for each in counts):
        group = [each for each in counts if (each.store, each.api, each.operation) == (store, api, name)]
        steps, kills = max(each.steps for each in group), sum(each.kills for each in group)
        violations = sum(len(each.violations) for each in group)
        lines.append(f"{store:10} {api:12} {name:20} {steps:6,} {kills:7,} {violations:11,}")
    total = sum(each.kills for each in counts)
    lines.append(f"{'all':44} {'':6} {total:7,} {sum(len(each.violations) for each in counts):11,}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
