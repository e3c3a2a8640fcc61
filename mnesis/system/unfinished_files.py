"""Names of unfinished files, by which files of killed processes are recognised and removed.

A file that must appear completely or not at all is written under such a name and then renamed. Its name contains the id
of the process that writes it. If that process has ended, the file is a leftover.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from mnesis.system.process_ids import is_process_dead, process_id

SUFFIX = ".mnesis-unfinished"
MAX_NAME_CHARS = 60
"""The number of characters of the final name in the unfinished name; file systems allow names of 255 bytes."""
LEFTOVER_SECONDS = 24 * 3600.0
"""Unfinished files of this age are leftovers, whichever machine wrote them."""
_NAME = re.compile(
    r"\..*\.(?P<process>[0-9a-f]{16}-\d+-\d+)-[0-9a-f]{16}" + re.escape(SUFFIX) + "(-wal|-shm|-journal)?", re.DOTALL
)


def unfinished_path(target: Path) -> Path:
    """Return a new hidden name in the directory of `target`, for the file that will replace it."""
    return target.with_name(f".{target.name[:MAX_NAME_CHARS]}.{process_id()}-{secrets.token_hex(8)}{SUFFIX}")


def find_leftovers(directory: Path) -> Iterator[Path]:
    """Yield the unfinished files of a directory whose process has ended. An unreadable directory has none."""
    try:
        entries = list(os.scandir(directory))
    except OSError:
        return
    for entry in entries:
        match = _NAME.fullmatch(entry.name)
        if match is None:
            continue
        with suppress(OSError):  # another process has removed it
            if is_process_dead(match["process"]) or entry.stat().st_mtime < time.time() - LEFTOVER_SECONDS:
                yield Path(entry.path)


def remove_leftovers(directory: Path) -> int:
    """Delete the unfinished files of a directory whose process has ended. Returns their number."""
    count = 0
    for path in find_leftovers(directory):
        with suppress(OSError):
            path.unlink()
            count += 1
    return count
