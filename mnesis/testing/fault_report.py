"""`python -m mnesis.testing.fault_report`: kill every operation at every step, again and again, and print counts per operation.

`--resume FILE` continues where an earlier run ended, also one that was interrupted, and adds to its counts.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from mnesis.testing.fault_operations import all_operations
from mnesis.testing.fault_targets import Target, file_targets
from mnesis.testing.faults import Operation, sweep_kills

DEFAULT_KILLS = 10_000


@dataclass(frozen=True)
class SweepCount:
    """One finished sweep: what was interrupted, its steps, the kills, and the violations."""

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
    options = parser.parse_args(arguments)
    counts = read_counts(options.resume)
    try:
        for count in run_kills(options.kills, only=options.only, store=options.store, done=counts):
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
    kills: int, *, only: str = "", store: str | None = None, done: list[SweepCount] | None = None
) -> Iterator[SweepCount]:
    """Sweep over all operations on all stores, and yield each sweep, until this number of processes was killed.

    Each round goes over everything, before statements and inside them in turn. `done` are sweeps of earlier runs: what they
    finished of a round is not repeated in it.
    """
    pairs = [
        (target, operation)
        for target in file_targets()
        for operation in all_operations()
        if only in f"{operation.api} {operation.name}"
        and store in (None, target.name)
        and target.name in operation.stores
    ]
    if not pairs:
        raise SystemExit(f"no operation contains {only!r}")
    killed = sum(count.kills for count in done or [])
    position = len(done or [])
    while killed < kills:
        target, operation = pairs[position % len(pairs)]
        count = _sweep(target, operation, position // len(pairs) % 2 == 1, kills - killed)
        position, killed = position + 1, killed + count.kills
        yield count


def _sweep(target: Target, operation: Operation, inside: bool, max_kills: int) -> SweepCount:
    with tempfile.TemporaryDirectory(prefix="mnesis-faults-") as directory:
        result = sweep_kills(operation, Path(directory), inside=inside, steps=range(1, max_kills + 1), target=target)
    return SweepCount(target.name, operation.api, operation.name, result.steps, result.faults, result.violations)


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
