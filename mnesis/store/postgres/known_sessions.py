"""Sessions as this store last wrote them, so that an append need not read them from the server."""

from __future__ import annotations

import threading
from collections import OrderedDict
from copy import deepcopy
from dataclasses import replace

from mnesis.store.postgres.stored_session import StoredSession

XID_COUNT = 2**32
"""`xmin` holds the lower half of a transaction number (PostgreSQL manual, 5.6 System Columns)."""
MAX_KNOWN_SESSIONS = 1_024
"""About two kilobytes each."""


class KnownSessions:
    """The sessions that this store wrote last, by id, for any thread. Other writers may have changed them since
    then.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: OrderedDict[str, StoredSession] = OrderedDict()

    def get(self, session_id: str) -> StoredSession | None:
        """Return a copy of a session's last written state, or None."""
        with self._lock:
            stored = self._sessions.get(session_id)
            return None if stored is None else stored.copy()

    def put(self, stored: StoredSession, number: int) -> None:
        """Store the state of a session after transaction `number`, and drop the one that was written longest ago."""
        stored.row_version = number % XID_COUNT
        # The caller of the append gets the record, and may change its metadata.
        stored.record = replace(stored.record, metadata=deepcopy(stored.record.metadata))
        with self._lock:
            self._sessions[stored.record.id] = stored
            self._sessions.move_to_end(stored.record.id)
            if len(self._sessions) > MAX_KNOWN_SESSIONS:
                self._sessions.popitem(last=False)
