"""Stop a PostgreSQL server when no process uses it any more: `python -I -S stop_unused_server.py FOLDER`.

It returns at once and waits in the background. The processes that use the server hold a shared lock on `FOLDER.users`, which the
kernel releases when a process ends, even if it is killed. So a killed test run leaves no server behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import sys
from pathlib import Path


def main(folder: Path) -> None:
    """Wait until nobody uses the server, and stop it. Does nothing if another process waits already."""
    users, watcher = Path(f"{folder}.users"), Path(f"{folder}.watcher")
    with watcher.open("w") as own, users.open() as used:
        try:
            fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        fcntl.flock(used, fcntl.LOCK_EX)
        stop(folder)
        shutil.rmtree(folder, ignore_errors=True)
        users.unlink(missing_ok=True)
        watcher.unlink(missing_ok=True)


def stop(folder: Path) -> None:
    """Stop the server of a data directory at once, if it still runs."""
    # The first line is the process: https://www.postgresql.org/docs/current/storage-file-layout.html
    with contextlib.suppress(OSError, ValueError, IndexError):
        pid = int((folder / "postmaster.pid").read_text().split()[0])
        command = Path(f"/proc/{pid}/cmdline")
        if not command.exists() or str(folder) in command.read_text():
            os.kill(pid, signal.SIGQUIT)


if __name__ == "__main__":
    if os.fork() == 0:
        main(Path(sys.argv[1]))
