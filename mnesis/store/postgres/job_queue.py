"""Jobs on a few threads. What one session is asked to do happens in the order of the calls, as with an SQLite file."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

Job = Callable[[], None]


class JobQueue:
    """A pool of threads. Jobs never raise.

    A job with a key waits for the earlier writes with the same key: a read sees the writes before it, also those whose
    caller was cancelled, and writers of one session do not occupy several connections to wait for each other.
    """

    def __init__(self, max_threads: int) -> None:
        self._threads = ThreadPoolExecutor(max_threads, thread_name_prefix="mnesis-postgres")
        self._lock = threading.Lock()
        self._waiting: dict[str, deque[Job]] = {}

    def submit(self, job: Job, key: str | None, *, is_write: bool = False) -> None:
        """Run a job as soon as a thread is free and the writes before it are done."""
        with self._lock:
            if key is None or (key not in self._waiting and not is_write):
                self._threads.submit(job)
            elif key in self._waiting:
                self._waiting[key].append(job)
            else:
                self._waiting[key] = deque()
                self._threads.submit(self._run_in_order, key, job)

    def close(self) -> None:
        """Wait for all jobs and end the threads."""
        self._threads.shutdown(wait=True)

    def _run_in_order(self, key: str, job: Job | None) -> None:
        while job is not None:
            job()
            with self._lock:
                waiting = self._waiting[key]
                job = waiting.popleft() if waiting else None
                if job is None:
                    del self._waiting[key]
