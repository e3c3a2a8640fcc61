"""What is known to go wrong around a database: interpreter, SQLite, litellm, tokenizer, permissions, write-ahead log."""

from __future__ import annotations

import os
import sqlite3
import stat
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mnesis.models.finding import Finding

OLDEST_PYTHON = (3, 11)
# A rare race of two connections can corrupt a database in WAL mode; https://www.sqlite.org/wal.html#walresetbug
WAL_RESET_FIXED = (3, 51, 3)
WAL_RESET_BACKPORTS = ((3, 50, 7), (3, 44, 6))
MALICIOUS_LITELLM = ("1.82.7", "1.82.8")
BROKEN_TOOLS_LITELLM = ("1.106.0", "1.106.1", "1.106.2")
LARGE_WAL_BYTES = 64 * 1024 * 1024


def environment_findings() -> Iterator[Finding]:
    """What can be said without a database."""
    yield python_finding(sys.version_info[:3])
    yield sqlite_finding(sqlite3.sqlite_version_info)
    yield litellm_finding(_installed("litellm"))
    yield tokenizer_finding()


def python_finding(found: tuple[int, ...]) -> Finding:
    """Whether this Python is one that mnesis is made for."""
    name = "Python " + ".".join(map(str, found))
    if found[:2] >= OLDEST_PYTHON:
        return Finding("ok", "python", name)
    return Finding("error", "python", f"{name} is too old", "use Python 3.11 or newer")


def sqlite_finding(found: tuple[int, ...]) -> Finding:
    """Whether this SQLite has the race in resetting a write-ahead log."""
    name = "SQLite " + ".".join(map(str, found))
    if found >= WAL_RESET_FIXED or any(found[:2] == fixed[:2] and found >= fixed for fixed in WAL_RESET_BACKPORTS):
        return Finding("ok", "sqlite", name)
    return Finding(
        "warning",
        "sqlite",
        f"{name} can, rarely, damage a database that two processes write at the same moment (WAL reset)",
        "use a Python with SQLite 3.51.3 or newer (or 3.50.7, 3.44.6); until then write from one process only",
    )


def litellm_finding(found: str | None) -> Finding:
    """Whether the litellm that is installed is one to stay away from. It is not imported."""
    if found is None:
        return Finding("error", "litellm", "litellm is not installed", "pip install --force-reinstall mnesis")
    if found in MALICIOUS_LITELLM:
        fix = "uninstall it, change every key this machine has held, then pip install 'litellm>1.83'"
        return Finding("error", "litellm", f"litellm {found} was published with malware in it", fix)
    if found in BROKEN_TOOLS_LITELLM:
        fix = "pip install 'litellm!=1.106.0,!=1.106.1,!=1.106.2'"
        return Finding("error", "litellm", f"litellm {found} fails on every call with tools", fix)
    return Finding("ok", "litellm", f"litellm {found}")


def tokenizer_finding() -> Finding:
    """Whether tokens are counted or estimated here."""
    from mnesis.tokens.estimator import TokenEstimator

    if TokenEstimator().is_exact("gpt-4o"):
        return Finding("ok", "tokenizer", "tables found on this disk: OpenAI models are counted exactly")
    return Finding(
        "warning",
        "tokenizer",
        "no tokenizer tables on this disk: tokens are estimated from the characters",
        "put the o200k_base table into a directory and name it in TIKTOKEN_CACHE_DIR; nothing is ever downloaded",
    )


def file_findings(database: Path) -> Iterator[Finding]:
    """Permissions and sizes, from `stat` alone."""
    for path in (database, Path(f"{database}-wal")):
        try:
            found = os.stat(path)
        except FileNotFoundError:
            continue
        open_to = stat.S_IMODE(found.st_mode) & 0o077
        if open_to and os.name == "posix":
            detail = f"{path} can be used by others (mode {stat.S_IMODE(found.st_mode):04o})"
            yield Finding("warning", "permissions", detail, f"chmod 600 '{path}'")
    yield _log_finding(Path(f"{database}-wal"))


def _log_finding(log: Path) -> Finding:
    try:
        size = os.stat(log).st_size
    except FileNotFoundError:
        size = 0
    detail = f"write-ahead log of {size / 1e6:,.1f} MB"
    if size <= LARGE_WAL_BYTES:
        return Finding("ok", "wal size", detail)
    fix = "look for a process that keeps a read transaction open and end it; the log shrinks when the last one closes"
    return Finding("warning", "wal size", detail, fix)


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
