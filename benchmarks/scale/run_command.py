"""Run one command of `mnesis` in this process, and write what it took as JSON to a file: processor seconds, peak memory.

python -m benchmarks.scale.run_command REPORT COMMAND [ARGUMENT …]
"""

from __future__ import annotations

import json
import re
import resource
import sys
import time
from pathlib import Path

STATUS = Path("/proc/self/status")
KB_PER_MB = 1_000


def main() -> None:
    """Run the command. It may end with exit code 0 only."""
    from mnesis.cli import main as run

    report, *arguments = sys.argv[1:]
    sys.argv = ["mnesis", *arguments]
    started = time.process_time()
    try:
        run()
    except SystemExit as end:
        if end.code:
            raise
    seconds = time.process_time() - started
    Path(report).write_text(json.dumps({"seconds": seconds, "peak_mb": _peak_kb() / KB_PER_MB}))


def _peak_kb() -> int:
    """Return the most memory that was resident. Linux's `ru_maxrss` begins with that of the parent, so it comes second."""
    if STATUS.exists() and (peak := re.search(r"VmHWM:\s+(\d+)", STATUS.read_text())):
        return int(peak[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
