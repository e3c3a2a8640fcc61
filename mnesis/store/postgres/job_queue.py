"""Jobs on a few threads. The operations of one session run in the order of the calls, as with an SQLite file."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from mnesis.store.awaited_writes import WriteQueue
from mnesis.store.postgres.group_commit import MAX_GROUP_APPENDS, PendingAppend

Job = Callable[[], None]
CommitGroup = Callable[[Sequence[PendingAppend]], Mapping[str, Job]]
"""Commits appends of different sessions and answers their callers. Returns jobs, by session, for those that must run alone."""


class JobQueue:
    """A pool of threads. Jobs never raise.

    A job with a key waits for the earlier writes with the same key: a read sees the writes before it, also those whose
    caller was cancelled, and writers of one session do not occupy several connections to wait for each other.

    One thread at a time commits appends. While it does, the next ones wait, and share the next transaction.
    """

    def __init__(self, max_threads: int, commit_group: CommitGroup) -> None:
        self._threads = ThreadPoolExecutor(max_threads, thread_name_prefix="mnesis-postgres")
        self._commit_group = commit_group
        self._lock = threading.Lock()
        self._all_written = threading.Condition(self._lock)
        self._waiting: dict[str, deque[Job | PendingAppend]] = {}
        """The jobs of each key that wait for its running write."""
        self._appends: WriteQueue[PendingAppend] = WriteQueue()
        """The appends that wait only for the thread that commits them."""
        self._is_committing = False

    def submit(self, job: Job, key: str | None, *, is_write: bool = False) -> None:
        """Run a job as soon as a thread is free and the writes before it are done."""
        with self._lock:
            if key is None or (key not in self._waiting and not is_write):
                self._threads.submit(job)
            elif key in self._waiting:
                self._wait_for_key(key, job)
            else:
                self._waiting[key] = deque()
                self._threads.submit(self._run_in_order, key, job)

    def submit_append(self, append: PendingAppend) -> None:
        """Commit an append, together with others, after the earlier writes of its session. Called by its event loop."""
        with self._lock:
            if append.session_id in self._waiting:
                self._wait_for_key(append.session_id, append)
                return
            self._waiting[append.session_id] = deque()
            must_wake = not self._is_committing and self._appends.must_wake(append.loop)
            may_delay = self._appends.may_delay()
            self._appends.add(append)
            if must_wake and may_delay:
                append.loop.call_soon(self._wake_after_delay)
                self._appends.delay(append.loop)
            elif must_wake:
                self._wake()

    def close(self) -> None:
        """Wait for all jobs and end the threads."""
        with self._lock:
            self._wake()
            self._all_written.wait_for(lambda: not self._waiting)
        self._threads.shutdown(wait=True)

    def _wait_for_key(self, key: str, job: Job | PendingAppend) -> None:
        self._waiting[key].append(job)
        # The append before it may be waiting for a callback of a loop that has stopped.
        self._wake()

    def _wake_after_delay(self) -> None:
        with self._lock:
            self._wake()

    def _wake(self) -> None:
        """Let a thread commit the waiting appends, unless a thread is doing so. The caller holds the lock."""
        if self._appends.has_unannounced and not self._is_committing:
            self._is_committing = True
            self._appends.note_woken()
            self._threads.submit(self._commit_appends)

    def _commit_appends(self) -> None:
        with self._lock:
            group = self._appends.take(MAX_GROUP_APPENDS)
        jobs = self._commit_group(group)
        with self._lock:
            for append in group:
                key = append.session_id
                job = jobs.get(key) or self._next_job(key)
                if job is not None:
                    self._threads.submit(self._run_in_order, key, job)
            # The next group queues for a thread behind other jobs, so that these also run if there is only one thread.
            self._is_committing = False
            self._wake()

    def _run_in_order(self, key: str, job: Job | None) -> None:
        while job is not None:
            job()
            with self._lock:
                job = self._next_job(key)
                self._wake()

    def _next_job(self, key: str) -> Job | None:
        """Return the next job of a key, unless it is an append, which waits for the group. The caller holds the
        lock.
        """
        waiting = self._waiting[key]
        if not waiting:
            del self._waiting[key]
            if not self._waiting:
                self._all_written.notify_all()
            return None
        job = waiting.popleft()
        if isinstance(job, PendingAppend):
            self._appends.add(job)
            return None
        return job
