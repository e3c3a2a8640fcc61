"""Work in forked child processes: cheap to start, and free to be killed."""

from __future__ import annotations

import asyncio
import os
import traceback
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

Report = Callable[[str], None]


@dataclass
class Child:
    """A running child and what it reports, line by line."""

    pid: int
    lines: int

    def read_line(self) -> str:
        """The next line, "" at the end."""
        line = b""
        while not line.endswith(b"\n"):
            byte = os.read(self.lines, 1)
            if not byte:
                return ""
            line += byte
        return line[:-1].decode()

    def wait(self) -> tuple[list[str], int]:
        """All remaining lines, and the exit code (negative for a signal)."""
        lines = list(iter(self.read_line, ""))
        _, status = os.waitpid(self.pid, 0)
        os.close(self.lines)
        return lines, os.waitstatus_to_exitcode(status)


def start(work: Callable[[Report], Awaitable[None] | None]) -> Child:
    """Run `work` in a child; an exception there gives exit code 1."""
    lines, ours = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of pytest plugins do not matter to these children
        pid = os.fork()
    if pid:
        os.close(ours)
        return Child(pid, lines)
    code = 1
    try:
        os.close(lines)
        outcome = work(lambda line: _write(ours, line))
        if outcome is not None:
            asyncio.run(_awaited(outcome))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _write(pipe: int, line: str) -> None:
    os.write(pipe, line.encode() + b"\n")


async def _awaited(outcome: Awaitable[None]) -> None:
    await outcome


def read_bytes(path: Path) -> bytes:
    """What stands in a file that no store has open."""
    return path.read_bytes()


def patch(path: Path, offset: int, data: bytes) -> None:
    """Overwrite a place in a file that no store has open."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def replace_bytes(path: Path, old: bytes, new: bytes) -> None:
    """Put other bytes in place of the only `old` ones in a file that no store has open."""
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))
