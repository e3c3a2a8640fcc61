"""Ids of workers, and whether the process behind an id is still alive.

Liveness is known at once only for workers on this machine. The claims of other workers end with their leases.
"""

from __future__ import annotations

import secrets

from mnesis.system.process_ids import is_process_dead, process_id

_live_workers: set[str] = set()
"""Workers of this process that are still running."""


def register_worker() -> str:
    """Create an id for a worker of this process. Call `unregister_worker` when it stops.

    The id consists of the id of the process and a random part.
    """
    worker = f"{process_id()}-{secrets.token_hex(4)}"
    _live_workers.add(worker)
    return worker


def unregister_worker(worker: str) -> None:
    """Mark a worker as stopped. Other workers may then take over the items it still holds."""
    _live_workers.discard(worker)


def is_dead(worker: str | None) -> bool:
    """Return whether a worker is known to be dead.

    Its process has ended, or it was unregistered in this process.
    """
    process = (worker or "").rpartition("-")[0]
    if process == process_id():
        return worker not in _live_workers
    return is_process_dead(process)
