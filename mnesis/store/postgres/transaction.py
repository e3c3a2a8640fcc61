"""One transaction: statements by name, sent in a pipeline, so that those that need no earlier answer share a round trip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mnesis.errors import RunNotFoundError, SessionNotFoundError
from mnesis.store.postgres.rows import Parameters, Row, is_storable_id, to_text
from mnesis.store.postgres.stored_session import StoredSession, intact_session
from mnesis.store.seals import refuse_unsealed

if TYPE_CHECKING:
    import psycopg


class Answer:
    """The rows of a statement that was sent. Reading them waits for the server."""

    __slots__ = ("_cursor",)

    def __init__(self, cursor: psycopg.Cursor[Row]) -> None:
        self._cursor = cursor

    def rows(self) -> list[Row]:
        """Return all rows."""
        return self._cursor.fetchall()

    def row(self) -> Row | None:
        """Return the first row, or None."""
        return self._cursor.fetchone()


class Transaction:
    """The statements of one transaction on one connection.

    `number` is the number that the server gave the transaction, once a session or run is locked. With it, the store
    finds out whether the transaction was committed if the connection is lost. `key` seals its writes.

    `may_be_committed` says that an earlier attempt at this transaction may have been committed. `saved_session` is the session
    that it wrote last.
    """

    def __init__(
        self,
        connection: psycopg.Connection[Row],
        statements: Mapping[str, bytes],
        origin: int,
        location: str,
        key: bytes | None = None,
    ) -> None:
        self.origin = origin
        self.location = location
        self.key = key
        self.has_change = False
        self.saved_session: StoredSession | None = None
        self.may_be_committed = False
        self._connection = connection
        self._statements = statements
        self._number: Answer | None = None
        self.number: int | None = None

    def send(self, name: str, parameters: Parameters | None = None) -> Answer:
        """Send a statement without waiting for its answer."""
        cursor = self._connection.cursor(binary=True)
        cursor.execute(self._statements[name], parameters)
        return Answer(cursor)

    def send_many(self, name: str, parameters: Sequence[Parameters]) -> None:
        """Send a statement once for each element of `parameters`."""
        for each in parameters:
            self._connection.cursor().execute(self._statements[name], each)

    def rows(self, name: str, parameters: Parameters | None = None) -> list[Row]:
        """Send a statement and return its rows."""
        return self.send(name, parameters).rows()

    def row(self, name: str, parameters: Parameters | None = None) -> Row | None:
        """Send a statement and return its first row, or None."""
        return self.send(name, parameters).row()

    def value(self, name: str, parameters: Parameters | None = None) -> Any:
        """Send a statement that returns one value, and return it."""
        row = self.row(name, parameters)
        assert row is not None  # noqa: S101  # the statement is an aggregate or a constant
        return row[0]

    def ask_number(self) -> None:
        """Send the query for the number of this transaction. Called after the lock, so that numbers follow the order of
        locks.
        """
        self._number = self.send("transaction_number")

    def read_number(self) -> None:
        """Read the number asked for."""
        if self._number is not None:
            row = self._number.row()
            self.number = row[0] if row else None

    def lock_session(self, session_id: str) -> SessionLock:
        """Lock a session and send the statement that loads it. Other statements may follow before it is read."""
        parameters = session_parameters(session_id)
        self._number = self.send("lock_session", parameters)
        return SessionLock(self, session_id, self.send("session", parameters))

    def lock_run(self, run_id: str) -> None:
        """Lock a run. Raises `RunNotFoundError` for an id that no run can have."""
        if not is_storable_id(run_id):
            raise RunNotFoundError(run_id)
        self.send("lock_run", {"id": to_text(run_id)})
        self.ask_number()


class SessionLock:
    """A session that this transaction has locked."""

    __slots__ = ("_answer", "_session_id", "_transaction")

    def __init__(self, transaction: Transaction, session_id: str, answer: Answer) -> None:
        self._transaction = transaction
        self._session_id = session_id
        self._answer = answer

    def read(self) -> StoredSession:
        """Return the session after it was locked.

        Raises `SessionNotFoundError`, `DamagedValueError`, and `IntegrityKeyError` if its seal was made with another key.
        """
        self._transaction.read_number()
        stored = stored_session(self._session_id, self._answer)
        refuse_unsealed(self._transaction.key, stored.hash, stored.seal, f"session {self._session_id!r}")
        return stored


def session_parameters(session_id: str) -> Parameters:
    """Return the parameter that selects a session. Raises `SessionNotFoundError` for an id that no session can have."""
    if not isinstance(session_id, str) or not is_storable_id(session_id):
        raise SessionNotFoundError(session_id)
    return {"id": to_text(session_id)}


def stored_session(session_id: str, answer: Answer) -> StoredSession:
    """Return the session in an answer. Raises `SessionNotFoundError` if there is none, and `DamagedValueError`."""
    row = answer.row()
    if row is None:
        raise SessionNotFoundError(session_id)
    return intact_session(row)
