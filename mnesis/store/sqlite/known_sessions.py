"""Sessions as a connection last read or wrote them, so that the next transaction need not read and check them again.

An entry is valid only if no other change of the database is possible since then: SQLite's number of commits by other
connections (https://sqlite.org/pragma.html#pragma_data_version) and its number of rows that this connection changed are
the same.
"""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")

MAX_KNOWN_SESSIONS = 1_024
"""The number of sessions that a connection remembers, about two kilobytes each."""


class KnownSessions(Generic[T]):
    """The sessions that a connection knows, by id. For one thread, and only within transactions that `begin()` announced."""

    def __init__(self) -> None:
        self._sessions: dict[str, T] = {}
        self._data_version = -1
        self._total_changes = -1
        self._is_in_transaction = False

    def begin(self, data_version: int) -> None:
        """Begin a transaction in which SQLite reports this number."""
        if data_version != self._data_version:
            self._sessions.clear()
        self._data_version, self._is_in_transaction = data_version, True

    def end(self, *, is_committed: bool) -> None:
        """End the transaction. Entries from a transaction that is rolled back are dropped."""
        if not is_committed:
            self._sessions.clear()
        self._is_in_transaction = False

    def find(self, session_id: str, total_changes: int) -> T | None:
        """Return a session if this connection has not changed anything else since the entry was made."""
        if total_changes != self._total_changes:
            self._sessions.clear()
        return self._sessions.get(session_id) if self._is_in_transaction else None

    def note(self, session_id: str, session: T, total_changes: int) -> None:
        """Store a session that was just read or written, and the fact that all changes up to now came from such appends.

        Call it after a read or an append that called `find()`.
        """
        if len(self._sessions) >= MAX_KNOWN_SESSIONS:
            self._sessions.clear()
        if self._is_in_transaction:
            self._sessions[session_id] = session
        self._total_changes = total_changes
