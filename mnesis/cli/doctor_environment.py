"""Checks of a database's environment: interpreter, SQLite, litellm, tokenizer, permissions, write-ahead log."""

from __future__ import annotations

import os
import sqlite3
import stat
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mnesis.models.finding import Finding
from mnesis.store.sqlite.environment import file_system_finding, find_file_system, sqlite_finding
from mnesis.system.unfinished_files import find_leftovers

OLDEST_PYTHON = (3, 11)
MALICIOUS_LITELLM = ("1.82.7", "1.82.8")
BROKEN_TOOLS_LITELLM = ("1.106.0", "1.106.1", "1.106.2")
LARGE_WAL_BYTES = 64 * 1024 * 1024


def environment_findings(sqlite_release: tuple[int, ...] | None = sqlite3.sqlite_version_info) -> Iterator[Finding]:
    """Yield the findings that need no database. `sqlite_release` is the release of SQLite that opens the database, or
    None for a server.
    """
    yield python_finding(sys.version_info[:3])
    if sqlite_release is not None:
        yield sqlite_finding(sqlite_release)
    yield litellm_finding(_installed_version("litellm"))
    yield tokenizer_finding()


def python_finding(installed: tuple[int, ...]) -> Finding:
    """Check that mnesis supports this Python version."""
    name = "Python " + ".".join(map(str, installed))
    if installed[:2] >= OLDEST_PYTHON:
        return Finding("ok", "python", name)
    return Finding("error", "python", f"{name} is too old", "use Python 3.11 or newer")


def litellm_finding(installed: str | None) -> Finding:
    """Check that the installed litellm is not malicious or broken, without importing it."""
    if installed is None:
        return Finding("error", "litellm", "litellm is not installed", "pip install --force-reinstall mnesis-context")
    if installed in MALICIOUS_LITELLM:
        fix = "uninstall it, change every key this machine has held, then pip install 'litellm>1.83'"
        return Finding("error", "litellm", f"litellm {installed} was published with malware", fix)
    if installed in BROKEN_TOOLS_LITELLM:
        fix = "pip install 'litellm!=1.106.0,!=1.106.1,!=1.106.2'"
        return Finding("error", "litellm", f"litellm {installed} fails on every call with tools", fix)
    return Finding("ok", "litellm", f"litellm {installed}")


def tokenizer_finding() -> Finding:
    """Check whether tokens are counted exactly or estimated."""
    from mnesis.tokens.estimator import TokenEstimator

    if TokenEstimator().is_exact("gpt-4o"):
        return Finding(
            "ok", "tokenizer", "tokenizer tables found on this disk: tokens of OpenAI models are counted exactly"
        )
    return Finding(
        "warning",
        "tokenizer",
        "no tokenizer tables on this disk: tokens are estimated from the characters",
        "put the o200k_base table into a directory and set TIKTOKEN_CACHE_DIR to it; mnesis never downloads it",
    )


def file_findings(database: Path) -> Iterator[Finding]:
    """Check permissions and sizes of the database files, and look for unfinished copies. Only calls `stat`."""
    for path in (database, Path(f"{database}-wal")):
        try:
            status = os.stat(path)
        except FileNotFoundError:
            continue
        foreign_access = stat.S_IMODE(status.st_mode) & 0o077
        if foreign_access and os.name == "posix":
            detail = f"other users can access {path} (mode {stat.S_IMODE(status.st_mode):04o})"
            yield Finding("warning", "permissions", detail, f"chmod 600 '{path}'")
    yield _wal_finding(Path(f"{database}-wal"))
    leftovers = list(find_leftovers(database.parent))
    if leftovers:
        size = sum(path.stat().st_size for path in leftovers if path.exists())
        detail = (
            f"{len(leftovers)} unfinished copies of killed processes take {size / 1e6:,.1f} MB in {database.parent}"
        )
        yield Finding("warning", "leftovers", detail, "remove them: mnesis migrate")
    file_system = file_system_finding(database, find_file_system(database))
    if file_system.severity != "ok":
        yield file_system


def _wal_finding(wal: Path) -> Finding:
    try:
        size = os.stat(wal).st_size
    except FileNotFoundError:
        size = 0
    detail = f"write-ahead log of {size / 1e6:,.1f} MB"
    if size <= LARGE_WAL_BYTES:
        return Finding("ok", "wal size", detail)
    fix = "find and end the process that keeps a read transaction open; the log shrinks when the last one closes"
    return Finding("warning", "wal size", detail, fix)


def _installed_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
