"""`python -m mnesis.testing.fault_report`: kill every operation at every step, again and again, and print counts per operation."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from mnesis.testing.fault_operations import all_operations
from mnesis.testing.faults import SweepResult, sweep_kills

DEFAULT_KILLS = 10_000


def main(arguments: list[str] | None = None) -> None:
    """Run sweeps until the number of kills is reached. Exits with 1 if any invariant was violated."""
    parser = argparse.ArgumentParser(prog="python -m mnesis.testing.fault_report", description=__doc__)
    parser.add_argument("--kills", type=int, default=DEFAULT_KILLS, help="how many processes to kill (%(default)s)")
    parser.add_argument("--only", default="", help="only operations whose name contains this")
    options = parser.parse_args(arguments)
    results = run_kills(options.kills, only=options.only)
    violations = [each for result in results for each in result.violations]
    print(format_report(results))
    for violation in violations[:50]:
        print(violation, file=sys.stderr)
    sys.exit(1 if violations else 0)


def run_kills(kills: int, *, only: str = "") -> list[SweepResult]:
    """Sweep over all operations, before and inside statements in turn, until so many processes were killed."""
    operations = [operation for operation in all_operations() if only in f"{operation.api} {operation.name}"]
    if not operations:
        raise SystemExit(f"no operation contains {only!r}")
    results: list[SweepResult] = []
    killed, inside = 0, False
    while killed < kills:
        for operation in operations:
            if killed >= kills:
                break
            with tempfile.TemporaryDirectory(prefix="mnesis-faults-") as directory:
                result = sweep_kills(operation, Path(directory), inside=inside, steps=range(1, kills - killed + 1))
            results.append(result)
            killed += result.faults
        inside = not inside
    return results


def format_report(results: list[SweepResult]) -> str:
    """Return a table with one line per operation: its steps, kills and violations."""
    by_operation: dict[tuple[str, str], list[SweepResult]] = defaultdict(list)
    for result in results:
        by_operation[result.operation.api, result.operation.name].append(result)
    lines = [f"{'api':12} {'operation':20} {'steps':>6} {'kills':>7} {'violations':>11}"]
    for (api, name), group in by_operation.items():
        steps, kills = max(each.steps for each in group), sum(each.faults for each in group)
        lines.append(f"{api:12} {name:20} {steps:6,} {kills:7,} {sum(len(each.violations) for each in group):11,}")
    total = sum(result.faults for result in results)
    lines.append(f"{'all':33} {'':6} {total:7,} {sum(len(result.violations) for result in results):11,}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
