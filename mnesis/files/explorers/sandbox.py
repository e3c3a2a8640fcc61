"""Parsers that hostile content can make run, or grow, without end: each in a process that is stopped at its limits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from mnesis.files.explorers.source import Source

MAX_MEMORY_BYTES = 512 << 20
"""Address space of the child, which is more than what it uses. Where there is no such limit, the time is the only one."""

_CHILD = Path(__file__).with_name("sandbox_child.py")


class NoAnswerError(Exception):
    """There is no parser, or it gave no answer within its limits. The message is the reason, for the summary."""


def ask(reader: str, source: Source, *arguments: str, max_seconds: float) -> dict[str, Any]:
    """What `answer(path, *arguments)` in a file of this directory returns. Raises NoAnswerError."""
    seconds = min(max_seconds, source.seconds_left)
    # Isolated from the environment, but with the modules of this process: what is installed here is found there.
    command = [sys.executable, "-I", str(_CHILD), json.dumps(sys.path), str(MAX_MEMORY_BYTES)]
    command += [str(_CHILD.with_name(reader)), str(source.path.absolute()), *arguments]
    try:
        run = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=seconds, check=True)  # noqa: S603 - our own script, no shell
        answer: dict[str, Any] = json.loads(run.stdout)
    except subprocess.TimeoutExpired:
        raise NoAnswerError(f"its parser takes longer than {seconds:.0f} s") from None
    except (OSError, ValueError, subprocess.CalledProcessError):  # no child process here, or one that died
        raise NoAnswerError("its parser gave up") from None
    if "failure" in answer:
        raise NoAnswerError(f"its parser gave up ({answer['failure']})")
    return answer
