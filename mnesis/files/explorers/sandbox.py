"""Sandbox for parsers that hostile content can exhaust: each runs in a child process with time and memory limits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, BinaryIO

from mnesis.files.explorers.source import Source

MAX_MEMORY_BYTES = 512 << 20
"""Limits the address space of the child, which is larger than its memory use. Some systems have no such limit."""

MAX_PIPED_BYTES = 64 << 20
"""The child holds decrypted content in memory."""

_CHILD = Path(__file__).with_name("sandbox_child.py")


class ParserFailedError(Exception):
    """No parser is installed, or it failed within its limits. The message is the reason shown in the summary."""


def run_in_sandbox(reader: str, source: Source, *arguments: str, max_seconds: float) -> dict[str, Any]:
    """Call `answer(file, *arguments)` of a file in this directory in a child process. Raises `ParserFailedError`.

    The child reads the content from its standard input: decrypted content has no path.
    """
    seconds = min(max_seconds, source.remaining_seconds)
    # Isolated from the environment, but with the module path of this process, so that the same packages are found.
    command = [sys.executable, "-I", str(_CHILD), json.dumps(sys.path), str(MAX_MEMORY_BYTES)]
    command += [str(_CHILD.with_name(reader)), *arguments]
    try:
        with source.open() as file:
            run = _run(command, file, source.size_bytes, seconds)
        answer: dict[str, Any] = json.loads(run.stdout)
    except subprocess.TimeoutExpired:
        raise ParserFailedError(f"its parser takes longer than {seconds:.0f} s") from None
    except (OSError, ValueError, subprocess.CalledProcessError):  # the child process could not start, or died
        raise ParserFailedError("its parser gave up") from None
    if "failure" in answer:
        raise ParserFailedError(f"its parser gave up ({answer['failure']})")
    return answer


def _run(command: list[str], file: BinaryIO, size_bytes: int, seconds: float) -> subprocess.CompletedProcess[bytes]:
    try:
        file.fileno()
    except OSError:  # decrypted while it is read
        if size_bytes > MAX_PIPED_BYTES:
            raise ParserFailedError("it is too large to be parsed while it is encrypted") from None
        return subprocess.run(command, capture_output=True, input=file.read(), timeout=seconds, check=True)  # noqa: S603 - our own script, no shell
    return subprocess.run(command, capture_output=True, stdin=file, timeout=seconds, check=True)  # noqa: S603
