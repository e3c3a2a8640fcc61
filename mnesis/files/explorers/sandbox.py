"""Sandbox for parsers that hostile content can exhaust: each runs in a child process with time and memory limits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from mnesis.files.explorers.source import Source

MAX_MEMORY_BYTES = 512 << 20
"""Limits the address space of the child, which is larger than its memory use. Some systems have no such limit."""

_CHILD = Path(__file__).with_name("sandbox_child.py")


class ParserFailedError(Exception):
    """No parser is installed, or it failed within its limits. The message is the reason shown in the summary."""


def run_in_sandbox(reader: str, source: Source, *arguments: str, max_seconds: float) -> dict[str, Any]:
    """Call `answer(path, *arguments)` of a file in this directory in a child process. Raises `ParserFailedError`."""
    seconds = min(max_seconds, source.remaining_seconds)
    # Isolated from the environment, but with the module path of this process, so that the same packages are found.
    command = [sys.executable, "-I", str(_CHILD), json.dumps(sys.path), str(MAX_MEMORY_BYTES)]
    command += [str(_CHILD.with_name(reader)), str(source.path.absolute()), *arguments]
    try:
        run = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=seconds, check=True)  # noqa: S603 - our own script, no shell
        answer: dict[str, Any] = json.loads(run.stdout)
    except subprocess.TimeoutExpired:
        raise ParserFailedError(f"its parser takes longer than {seconds:.0f} s") from None
    except (OSError, ValueError, subprocess.CalledProcessError):  # the child process could not start, or died
        raise ParserFailedError("its parser gave up") from None
    if "failure" in answer:
        raise ParserFailedError(f"its parser gave up ({answer['failure']})")
    return answer
