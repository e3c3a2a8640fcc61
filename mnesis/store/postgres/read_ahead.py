"""The next page of changes, which the thread that listens reads before it wakes a follower."""

from __future__ import annotations

import threading

from mnesis.store.postgres.changes import load_page
from mnesis.store.postgres.rows import Row
from mnesis.store.postgres.transaction import Transaction

MAX_UNUSED_PAGES = 16
"""The number of unused pages after which reading ahead stops until a follower reads changes again."""


class ReadAhead:
    """The rows after the changes that were read last, as of the newest notification."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next: tuple[int, int] | None = None
        self._rows: list[Row] | None = None
        self._unused_pages = 0

    def expect(self, after: int, limit: int) -> None:
        """Set the page that will be requested next: at most `limit` transactions after a position."""
        with self._lock:
            self._next, self._rows, self._unused_pages = (after, limit), None, 0

    def load(self, transaction: Transaction) -> None:
        """Read the expected page, after a notification. Blocking."""
        with self._lock:
            wanted, self._rows = self._next, None
            self._unused_pages += 1
            if wanted is None or self._unused_pages > MAX_UNUSED_PAGES:
                return
        rows = load_page(transaction, *wanted, None)
        with self._lock:
            if self._next == wanted:
                self._rows = rows

    def take(self, after: int, limit: int) -> list[Row] | None:
        """Return the page if it was read since the newest notification, once."""
        with self._lock:
            rows, self._rows = self._rows, None
            return rows if self._next == (after, limit) else None
