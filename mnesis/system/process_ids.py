"""Ids of processes, and whether the process behind an id is still alive.

Liveness is known only for processes of this boot of this machine.
"""

from __future__ import annotations

import hashlib
import os
import platform
from functools import cache
from pathlib import Path


def process_id() -> str:
    """Return an id of this process: the host, its number there, and its start time, so that no later process has the
    same id.
    """
    pid = os.getpid()
    return f"{_host_id()}-{pid}-{_start_ticks(pid) or 0}"


def is_process_dead(identity: str) -> bool:
    """Return whether a process is known to have ended. Returns False for text that `process_id` did not create."""
    try:
        host, pid_text, start_text = identity.split("-")
        pid, start_ticks = int(pid_text), int(start_text)
    except ValueError:
        return False
    if host != _host_id():
        return False
    return not _is_alive(pid) or (start_ticks > 0 and _start_ticks(pid) != start_ticks)


@cache
def _host_id() -> str:
    """Identify this boot of this machine, and the namespace of its process ids."""
    facts = [platform.node()]
    for read in (_boot_id, lambda: os.readlink("/proc/self/ns/pid")):
        try:
            facts.append(read())
        except OSError:  # not Linux
            facts.append("")
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text()


def _is_alive(pid: int) -> bool:
    if os.name != "posix":
        return True  # on Windows, the signal 0 would end the process
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _process_state(pid) not in ("Z", "X")


def _stat_fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat (see proc(5)), starting with the state.

    Returns an empty list if there is no such file.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _process_state(pid: int) -> str:
    return next(iter(_stat_fields(pid)), "")


def _start_ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot.

    Distinguishes it from a later process with the same id.
    """
    fields = _stat_fields(pid)
    return int(fields[19]) if len(fields) > 19 else None
