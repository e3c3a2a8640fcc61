"""The command line in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

READING = [("ls",), ("show", "alpha"), ("context", "alpha"), ("export", "alpha"), ("doctor",)]


def mnesis(*arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mnesis.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **env},
    )
