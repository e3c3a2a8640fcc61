"""Names of workers, and whether the process behind a name is still alive.

Only for workers of this machine is that known at once; the claims of others end with their leases.
"""

from __future__ import annotations

import hashlib
import os
import platform
import secrets
from functools import cache
from pathlib import Path

_at_work: set[str] = set()


def new_worker() -> str:
    """A name for a worker of this process: place, process id, start of the process, something random. `retire` it."""
    pid = os.getpid()
    worker = f"{_place()}-{pid}-{_started(pid) or 0}-{secrets.token_hex(4)}"
    _at_work.add(worker)
    return worker


def retire(worker: str) -> None:
    """It works no more, whatever it still holds."""
    _at_work.discard(worker)


def is_dead(worker: str | None) -> bool:
    """Whether that worker is known to be gone: its process on this machine, or within this process its run."""
    try:
        place, pid, started, _ = (worker or "").split("-")
        number, start = int(pid), int(started)
    except ValueError:
        return False
    if place != _place():
        return False
    if number == os.getpid() and start == (_started(number) or 0):
        return worker not in _at_work
    return not _runs(number) or (start > 0 and _started(number) != start)


@cache
def _place() -> str:
    """This machine since it was started, and the namespace in which its process ids mean something."""
    facts = [platform.node()]
    for read in (_boot, lambda: os.readlink("/proc/self/ns/pid")):
        try:
            facts.append(read())
        except OSError:  # not Linux
            facts.append("")
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text()


def _runs(pid: int) -> bool:
    if os.name != "posix":
        return True  # there, a signal of 0 would end the process
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _state(pid) not in ("Z", "X")


def _stat(pid: int) -> list[str]:
    """What Linux tells of a process, from its state on; empty where it tells nothing."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _state(pid: int) -> str:
    return next(iter(_stat(pid)), "")


def _started(pid: int) -> int | None:
    """When the process started, in ticks since the machine did: tells it from a later one of the same id."""
    fields = _stat(pid)
    return int(fields[19]) if len(fields) > 19 else None
