"""Rows of sessions and their accounts: load, check against their hashes, and save with new hashes and seals."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass, fields
from typing import Any

from mnesis.errors import SessionNotFoundError
from mnesis.models.sent_request import SentRequest
from mnesis.models.session import SessionRecord
from mnesis.models.usage import TokenUsage
from mnesis.store.chain import EMPTY_HEAD, accounts_hash, first_log_head, seal, session_hash
from mnesis.store.codec import DamagedValueError, from_json, to_json
from mnesis.store.record_heads import RecordHeads
from mnesis.store.seals import refuse_unsealed
from mnesis.store.settings import decode_settings, settings_of
from mnesis.store.sqlite.connection import ConnectionState, data_version
from mnesis.store.sqlite.queries import sql
from mnesis.store.sqlite.records import insert_record_heads

Row = tuple[Any, ...]

_USAGE_FIELDS = ("input", "output", "cache_read", "cache_write", "total", "reasoning")
_REQUEST_DEFAULTS = tuple((field.name, field.default) for field in fields(SentRequest))
MAX_KNOWN_ROWS = 1_024
"""The number of rows that a connection remembers as its own, about half a kilobyte each."""


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A session and the key of its rows. `accounts` is its row of accounts, in the order of the statement `session`."""

    pk: int
    record: SessionRecord
    profile_hash: bytes
    accounts: Row

    @property
    def last_used(self) -> int:
        """The time of the last change in nanoseconds, which orders sessions."""
        return int(self.accounts[0])

    @property
    def log_head(self) -> bytes:
        """The head of its log."""
        return bytes(self.accounts[22])

    @property
    def turn_head(self) -> bytes:
        """The head of the chain of its turns."""
        return bytes(self.accounts[23])

    @property
    def record_head(self) -> bytes:
        """The hash of the hashes of its records."""
        return bytes(self.accounts[24])

    @property
    def hash(self) -> bytes | None:
        """The stored hash of its accounts; None if an older release wrote the session."""
        stored: bytes | None = self.accounts[25]
        return stored

    @property
    def seal(self) -> bytes | None:
        """The stored seal; None without a key."""
        stored: bytes | None = self.accounts[26]
        return stored

    def computed_hash(self) -> bytes:
        """Compute the hash of its accounts from the other columns."""
        return hash_accounts(self.profile_hash, self.accounts)


@dataclass(slots=True)
class SessionChange:
    """The changes of one transaction to a session other than its record. None keeps the stored value."""

    change_pk: int = 0
    message_pks: int = 0
    log_head: bytes | None = None
    turn_head: bytes | None = None
    record_head: bytes | None = None
    profile_hash: bytes | None = None


def load_session(connection: sqlite3.Connection, session_id: str) -> StoredSession:
    """Load a session by id.

    Raises `SessionNotFoundError`, and `DamagedValueError` if its settings or accounts are damaged.
    """
    row = _fetch(connection, session_id)
    if not isinstance(connection, ConnectionState):
        return intact_session_from_row(row)
    known = connection.known_profiles.get(row[0])
    if known is not None and known[0] == row[:6]:  # neither hash nor decode it again
        known_session = StoredSession(row[0], _record(row, {**known[2], "metadata": {}}), known[1], row[6:])
        if connection.known_rows.get(row[0]) != row[6:]:
            _refuse_damaged_accounts(known_session)
        return known_session
    stored = intact_session_from_row(row)
    if not stored.record.metadata:
        if len(connection.known_profiles) >= MAX_KNOWN_ROWS:
            connection.known_profiles.clear()
        connection.known_profiles[stored.pk] = (row[:6], stored.profile_hash, settings_of(stored.record))
    return stored


def load_session_again(connection: sqlite3.Connection, session_id: str) -> StoredSession:
    """Load a session by id, as `load_session` does, in a transaction that only reads.

    Does not read it again if nothing was written since this connection loaded or wrote it.
    """
    if not isinstance(connection, ConnectionState):
        return load_session(connection, session_id)
    connection.known_sessions.begin(data_version(connection))
    try:
        stored = _find_known(connection, session_id)
        if stored is None:
            stored = load_session(connection, session_id)
            remember_session(connection, stored)
    finally:
        connection.known_sessions.end(is_committed=True)
    return stored


def _find_known(connection: sqlite3.Connection, session_id: str) -> StoredSession | None:
    """Return a session if nothing was written since this connection loaded or wrote it."""
    if not isinstance(connection, ConnectionState):
        return None
    known: StoredSession | None = connection.known_sessions.find(session_id, connection.total_changes)
    if known is not None and known.record.metadata:  # a dict that a caller may have filled since then
        return None
    return known


def load_session_for_update(connection: sqlite3.Connection, session_id: str) -> StoredSession:
    """Load a session by id in order to change it.

    Raises the errors of `load_session`, and `IntegrityKeyError` if its seal was made with a different key than the
    connection's.
    """
    stored = _find_known(connection, session_id) or load_session(connection, session_id)
    if isinstance(connection, ConnectionState):
        if connection.known_rows.get(stored.pk) == stored.accounts:
            return stored
        refuse_unsealed(connection.integrity_key, stored.hash or b"", stored.seal, f"session {session_id!r}")
    if stored.hash is None:  # each connection with write access computes missing hashes when it opens
        raise DamagedValueError(f"the accounts of session {session_id!r}")
    return stored


def _fetch(connection: sqlite3.Connection, session_id: str) -> Row:
    try:
        row: Row | None = connection.execute(sql("session"), {"id": session_id}).fetchone()
    except UnicodeEncodeError:
        raise SessionNotFoundError(session_id) from None
    if row is None:
        if connection.execute(sql("locate_session"), {"id": session_id}).fetchone() is not None:
            raise DamagedValueError(f"the accounts of session {session_id!r}, which are missing,")
        raise SessionNotFoundError(session_id)
    return row


def intact_session_from_row(row: Row) -> StoredSession:
    """Convert a row of a statement that lists sessions. Raises `DamagedValueError` if settings or accounts are damaged."""
    stored = session_from_row(row)
    _refuse_damaged_accounts(stored)
    return stored


def _refuse_damaged_accounts(stored: StoredSession) -> None:
    """Compare accounts with their hash, which accounts of an older release may lack."""
    if stored.hash is not None and stored.hash != stored.computed_hash():
        raise DamagedValueError(f"the accounts of session {stored.record.id!r}")


def session_from_row(row: Row) -> StoredSession:
    """Convert a row of a statement that lists sessions. Raises `DamagedValueError` if its settings are damaged."""
    pk, session_id, parent_id, created_at, profile, stored_hash = row[:6]
    profile_hash = session_hash(session_id, parent_id, created_at, profile)
    if stored_hash is not None and stored_hash != profile_hash:
        raise DamagedValueError(f"the settings of session {session_id!r}")
    try:
        settings = from_json(profile)
    except ValueError as error:
        raise DamagedValueError(f"the settings of session {session_id!r}") from error
    try:
        return StoredSession(pk, _record(row, settings), profile_hash, row[6:])
    except (ValueError, TypeError) as error:
        raise DamagedValueError(f"the accounts of session {session_id!r}") from error


def _record(row: Row, settings: dict[str, Any]) -> SessionRecord:
    _, session_id, parent_id, created_at, _, _, _, updated_at, last_seq, turn_count, *rest = row
    system, message, tool, summary, context, *usage = rest[:11]
    fold_count, _, _, last_request_tokens, calibration, cost, last_request = rest[11:18]
    return SessionRecord(
        id=session_id,
        parent_id=parent_id,
        created_at=created_at,
        updated_at=updated_at,
        last_seq=last_seq,
        turn_count=turn_count,
        system_tokens=system,
        message_tokens=message,
        tool_tokens=tool,
        summary_tokens=summary,
        context_tokens=context,
        last_request_tokens=last_request_tokens,
        calibration=calibration,
        usage=TokenUsage(**dict(zip(_USAGE_FIELDS, usage, strict=True))),
        cost=cost,
        fold_count=fold_count,
        last_request=None if last_request is None else SentRequest(**from_json(last_request)),
        **decode_settings(settings),
    )


def profile_hash(session: SessionRecord, profile: bytes) -> bytes:
    """Return the hash of a session's name and settings."""
    return session_hash(session.id, session.parent_id, session.created_at, profile)


def insert_session_accounts(
    connection: sqlite3.Connection,
    session_pk: int,
    session: SessionRecord,
    change_pk: int,
    profile_hash: bytes,
    log_head: bytes | None = None,
    records: RecordHeads | None = None,
) -> None:
    """Insert the accounts of a new session, and its record heads. A fork begins with those of its origin."""
    records = records or RecordHeads()
    heads = (log_head or first_log_head(session.id), EMPTY_HEAD, records.combine())
    row = _accounts_row(session, time.time_ns(), (0, change_pk), heads, profile_hash, key_of(connection))
    connection.execute(sql("insert_accounts"), (*row, session_pk))
    insert_record_heads(connection, session_pk, records)


def save_session(
    connection: sqlite3.Connection, stored: StoredSession, after: SessionRecord, change: SessionChange
) -> StoredSession:
    """Write the accounts of a session that `load_session_for_update` returned, with their new hash and seal.

    Returns the session as it is now stored.

    `change.change_pk` is the row that notes this change (`mnesis.store.sqlite.changes`). Each call has its own. The time of
    the last use moves if the record changed.
    """
    before, profile_hash = stored.accounts, change.profile_hash or stored.profile_hash
    row = _accounts_row(
        after,
        stored.last_used if after is stored.record else max(stored.last_used + 1, time.time_ns()),
        (before[16] + change.message_pks, before[17] + change.change_pk),
        (change.log_head or before[22], change.turn_head or before[23], change.record_head or before[24]),
        profile_hash,
        key_of(connection),
    )
    connection.execute(sql("update_accounts"), (*row, stored.pk))
    if isinstance(connection, ConnectionState):
        if len(connection.known_rows) >= MAX_KNOWN_ROWS:
            connection.known_rows.clear()
        connection.known_rows[stored.pk] = row
    return StoredSession(stored.pk, after, profile_hash, row)


def remember_session(connection: sqlite3.Connection, stored: StoredSession) -> None:
    """Keep the session for the next transaction, which then need not read it. Call this last in an append."""
    if isinstance(connection, ConnectionState):
        connection.known_sessions.note(stored.record.id, stored, connection.total_changes)


def _accounts_row(
    session: SessionRecord,
    last_used: int,
    sums: tuple[int, int],
    heads: tuple[bytes, bytes, bytes],
    profile_hash: bytes,
    key: bytes | None,
) -> Row:
    usage = session.usage
    row = (
        last_used,
        session.updated_at,
        session.last_seq,
        session.turn_count,
        session.system_tokens,
        session.message_tokens,
        session.tool_tokens,
        session.summary_tokens,
        session.context_tokens,
        usage.input,
        usage.output,
        usage.cache_read,
        usage.cache_write,
        usage.total,
        usage.reasoning,
        session.fold_count,
        *sums,
        session.last_request_tokens,
        float(session.calibration),
        float(session.cost),
        None if session.last_request is None else _request_json(session, session.last_request),
        *heads,
    )
    row_hash = hash_accounts(profile_hash, row)
    return (*row, row_hash, None if key is None else seal(key, row_hash))


def hash_accounts(profile_hash: bytes, row: Row) -> bytes:
    """Compute the hash of accounts from their other columns, in the order of the statement `session`."""
    heads = b"".join((profile_hash, row[22] or b"", row[23] or b"", row[24] or b""))
    return accounts_hash(heads, row[:21], row[21] or b"")


def _request_json(session: SessionRecord, request: SentRequest) -> bytes:
    # Not asdict(), which copies every value, because each append writes this. Most of a request that a caller sent is
    # unknown.
    values = {name: value for name, default in _REQUEST_DEFAULTS if (value := getattr(request, name)) != default}
    return to_json(values, f"session {session.id!r}, last request")


def key_of(connection: sqlite3.Connection) -> bytes | None:
    """Return the key that seals a connection's writes."""
    return connection.integrity_key if isinstance(connection, ConnectionState) else None
