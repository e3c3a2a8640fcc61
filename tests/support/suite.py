"""How the suite runs, whatever it tests: how many processes, where temporary files are, and when Python collects garbage."""

from __future__ import annotations

import gc
import os
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.samples import sampled

MEMORY_FILE_SYSTEM = Path("/dev/shm")  # the name that Linux gives it
NEEDED_BYTES = 4 * 1024**3
"""What must be free in memory before temporary files go there: all of a run's take about 2 GB, and most are removed after their test."""


def pytest_configure(config: pytest.Config) -> None:
    """Let no test depend on the load of the machine, and no process of a run repeat the work of another."""
    # On a busy machine, drawing data is slow; that says nothing about the code.
    settings.register_profile(
        "any load", max_examples=sampled(100), deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("any load")
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
        # Compiled modules are not wanted beside the source; without any, each process would compile all of them again.
        os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = str(config.rootpath / ".pytest_cache" / "pycache")
        sys.dont_write_bytecode = False
    if _has_fast_memory():
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY_FILE_SYSTEM))
    gc.disable()


def pytest_collection_finish() -> None:
    """Collect garbage again, but leave alone what importing the tests made: it stays, and looking at it takes half the time."""
    gc.freeze()
    gc.enable()


def pytest_xdist_auto_num_workers() -> int:
    """Run one process more than there are cores, because many tests wait for processes that they start."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + 1


def _has_fast_memory() -> bool:
    """Whether a file system in memory has room. On a disk, tests wait for it most of the time: every commit is flushed."""
    if not os.access(MEMORY_FILE_SYSTEM, os.W_OK | os.X_OK) or not hasattr(os, "ST_NOEXEC"):
        return False
    return (
        shutil.disk_usage(MEMORY_FILE_SYSTEM).free >= NEEDED_BYTES
        and not os.statvfs(MEMORY_FILE_SYSTEM).f_flag & os.ST_NOEXEC
    )
