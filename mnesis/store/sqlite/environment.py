"""The requirements of a database: a file system with working locks, and a sound SQLite release.

`open_connection` reports unsuitable surroundings once per process, and `mnesis doctor` reports the same findings.
"""

from __future__ import annotations

import os
import re
import sqlite3
import threading
from pathlib import Path

from mnesis.errors import ConfigurationError
from mnesis.models.finding import Finding
from mnesis.redaction import get_logger

logger = get_logger(__name__)

OLDEST_SQLITE = (3, 37, 0)
"""STRICT tables, which the schema uses, exist since this release (https://sqlite.org/stricttables.html)."""
# A rare race of two connections can corrupt a database in WAL mode; https://www.sqlite.org/wal.html#walresetbug
WAL_RESET_FIXED = (3, 51, 3)
WAL_RESET_BACKPORTS = ((3, 50, 7), (3, 44, 6))

NETWORK_FILE_SYSTEMS = frozenset(
    [
        "9p",
        "acfs",
        "afp",
        "afpfs",
        "afs",
        "autofs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "davfs",
        "fuse.davfs2",
        "fuse.gcsfuse",
        "fuse.glusterfs",
        "fuse.goofys",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.sshfs",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "orangefs",
        "osxfuse",
        "pvfs2",
        "smb",
        "smb2",
        "smb3",
        "smbfs",
        "virtiofs",
        "webdav",
    ]
)
"""Types of file systems that are shared between machines, or that forward file operations to another one."""

_reported: set[tuple[str, str]] = set()
_reported_lock = threading.Lock()


def sqlite_finding(installed: tuple[int, ...]) -> Finding:
    """Check that this SQLite release is recent enough, and does not have the WAL-reset race."""
    name = "SQLite " + ".".join(map(str, installed))
    if installed < OLDEST_SQLITE:
        needed = ".".join(map(str, OLDEST_SQLITE))
        return Finding("error", "sqlite", f"{name} is too old", f"use a Python with SQLite {needed} or newer")
    if installed >= WAL_RESET_FIXED or any(
        installed[:2] == fixed[:2] and installed >= fixed for fixed in WAL_RESET_BACKPORTS
    ):
        return Finding("ok", "sqlite", name)
    return Finding(
        "warning",
        "sqlite",
        f"{name} can, in rare cases, corrupt a database that two processes write at the same moment (WAL reset)",
        "use a Python with SQLite 3.51.3 or newer (or 3.50.7, 3.44.6); until then write from one process only",
    )


def file_system_finding(path: Path, file_system: str | None) -> Finding:
    """Check that the file system of a database is local. `file_system` is its type, or None if it is not known."""
    if file_system not in NETWORK_FILE_SYSTEMS:
        return Finding("ok", "file system", f"file system {file_system or 'of unknown type'}")
    # https://www.sqlite.org/useovernet.html, https://www.sqlite.org/wal.html (section 1: all processes on the same host)
    return Finding(
        "warning",
        "file system",
        f"{path} is on {file_system}, a network file system, whose locks and shared memory do not work reliably: writes can"
        " be lost, and the database can be damaged",
        "move the database to a local disk and copy it with `mnesis backup`; until then use it from one process only, with"
        " StoreConfig(wal_mode=False)",
    )


def find_file_system(path: Path, mounts: str | None = None) -> str | None:
    """Return the type of the file system at a path, such as "ext4" or "nfs4", or None if it cannot be determined.

    `mounts` is the text of /proc/self/mountinfo (proc(5)); None reads it.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
        except OSError:
            return None
    location, best, file_system = os.path.realpath(path), "", None
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        columns = fields.split(" ")
        if len(columns) < 5 or not rest:
            continue
        mount_point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), columns[4])
        prefix = mount_point.rstrip("/") + "/"
        if f"{location}/".startswith(prefix) and len(prefix) >= len(best):  # a later mount hides an earlier one
            best, file_system = prefix, rest.split(" ", 1)[0]
    return file_system


def report_environment(path: Path, sqlite_release: tuple[int, ...] = sqlite3.sqlite_version_info) -> None:
    """Log unsuitable surroundings, each once per process and database. Call it when a database is opened.

    Raises `ConfigurationError` if SQLite is too old.
    """
    release = sqlite_finding(sqlite_release)
    if release.severity == "error":
        raise ConfigurationError(f"{release.detail}; {release.fix}")
    # Most Python releases contain a SQLite with the rare race, so that is not worth a warning in every program.
    if _is_first_report("sqlite", "") and release.severity == "warning":
        logger.info("%s; %s", release.detail, release.fix)
    if _is_first_report("file system", os.path.realpath(path)):
        location = file_system_finding(path, find_file_system(path))
        if location.severity == "warning":
            logger.warning("%s; %s", location.detail, location.fix)


def _is_first_report(check: str, location: str) -> bool:
    with _reported_lock:
        is_known = (check, location) in _reported
        _reported.add((check, location))
        return not is_known
