"""Reading a damaged database row by row. A row that cannot be read is skipped, and all others are found."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnesis.encryption import EncryptionKey
from mnesis.models.message import Message
from mnesis.models.session import ForkPoint, Interruption
from mnesis.store.chain import session_hash
from mnesis.store.codec import DamagedValueError, decode_message, from_json, stored_message
from mnesis.store.settings import parse_fork_point
from mnesis.store.sqlite.keyed_file import connect_file, refuse_wrong_key
from mnesis.store.sqlite.migrate import refuse_foreign
from mnesis.store.sqlite.queries import sql
from mnesis.store.sqlite.translate_errors import has_code, translate_error
from mnesis.system.open_files import refuse_second_name

Row = tuple[Any, ...]
MAX_TRAILING_GAP = 1_000_000
"""The largest number of messages that count as missing at the end of a log. A larger number in damaged accounts is
itself a sign of damage."""

# Read by the index, and without it forwards and backwards.
_SESSION_ROWS = ("salvage_sessions", "salvage_sessions_forwards", "salvage_sessions_backwards")
_MESSAGE_ROWS = ("salvage_messages", "salvage_messages_forwards", "salvage_messages_backwards")


@dataclass(slots=True)
class ReadableSession:
    """A session of a damaged database and its known properties.

    `last_seq` is the end of its log by its accounts, or 0. `turn_ends` are the seqs at which its turns end. The
    messages up to `forked_from` are those of another session.
    """

    pk: int
    id: str
    parent_id: str | None
    created_at: int
    settings: dict[str, Any]
    settings_are_intact: bool
    forked_from: ForkPoint | None = None
    last_seq: int = 0
    system_tokens: int = 0
    turn_ends: set[int] = field(default_factory=set)
    interruptions: list[Interruption] = field(default_factory=list)
    message_pks: dict[int, int] = field(default_factory=dict)
    """Row numbers by seq. Rows that cannot be read are omitted."""


class DamagedDatabase:
    """A database opened read-only, with every row that can be read."""

    def __init__(self, path: Path, timeout_seconds: float, key: EncryptionKey | None) -> None:
        refuse_second_name(path, is_encrypted=key is not None)
        self._path, self._key, self._timeout_seconds = path, key, timeout_seconds
        self._connection = self._connect()
        try:
            self._refuse_unsuitable()
        except BaseException:
            self._connection.close()
            raise

    def _refuse_unsuitable(self) -> None:
        """Raise a typed error for another program's file, a wrong key and a locked database. Damage is not refused."""
        try:
            refuse_foreign(self._connection, self._path)
        except sqlite3.Error as error:
            if has_code(error, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise translate_error(error, self._path) from error
            if has_code(error, sqlite3.SQLITE_NOTADB):
                self._connection.close()
                refuse_wrong_key(self._path, self._key)
                raise translate_error(error, self._path) from error
            # A damaged header is skipped like any other damage.

    def _connect(self) -> sqlite3.Connection:
        connection = connect_file(
            self._path.absolute(), "mode=ro", self._key, isolation_level=None, timeout=self._timeout_seconds
        )
        try:
            # A definition that cannot be parsed does not hide the other tables (sqlite.org/pragma.html#pragma_writable_schema).
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute("PRAGMA cell_size_check = ON")
        except BaseException:
            connection.close()
            raise
        connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
        return connection

    def _read(self, statement: str, parameters: Mapping[str, object] | tuple[object, ...] = ()) -> Iterator[Row]:
        """Yield the rows of a statement, until the first that cannot be read."""
        try:
            yield from self._connection.execute(sql(statement), parameters)
        except sqlite3.Error:
            if self._key is not None:
                # After one page that it cannot decrypt, SQLCipher also fails on intact pages.
                self._connection.close()
                self._connection = self._connect()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def sessions(self) -> list[ReadableSession]:
        """Return the sessions whose row can be read, in order of creation."""
        sessions = {}
        for pk in self._row_numbers(*_SESSION_ROWS):
            with suppress(DamagedValueError):
                sessions[pk] = self._session(pk)
        for pk in self._row_numbers(*_MESSAGE_ROWS):
            row = self._fetch("salvage_place", pk)
            if row is not None and row[0] in sessions:
                sessions[row[0]].message_pks[row[1]] = pk
        for session in sessions.values():
            self._add_accounts(session)
            self._add_interruptions(session)
        self._add_turns(sessions)
        return list(sessions.values())

    def message(self, session: ReadableSession, seq: int) -> Message | None:
        """Return a message if its hash is right at this place."""
        pk = session.message_pks.get(seq)
        row = None if pk is None else self._fetch("salvage_message", pk)  # damaged accounts may name a million seqs
        try:
            return None if row is None else decode_message(session.id, seq, stored_message(row))
        except (DamagedValueError, UnicodeEncodeError, TypeError, AttributeError):
            return None

    def rows(self, statement: str, parameters: Mapping[str, object] | tuple[object, ...] = ()) -> list[Row]:
        """Return the rows of a statement, until the first that cannot be read."""
        return list(self._read(statement, parameters))

    def has_no_sessions(self) -> bool:
        """Return whether the database is readable and empty."""
        try:
            return not self._connection.execute(sql("salvage_sessions_forwards")).fetchall()
        except sqlite3.Error:
            return False

    def count_lost_messages(self, sessions: list[ReadableSession]) -> int:
        """Return the number of messages whose session cannot be read."""
        known = sum(len(session.message_pks) for session in sessions)
        return len(self._row_numbers(*_MESSAGE_ROWS)) - known

    def _session(self, pk: int) -> ReadableSession:
        row = self._fetch("salvage_session", pk)
        if row is None:
            raise DamagedValueError(f"session {pk}")
        session_id, parent_id, created_at, profile, stored_hash = row
        try:
            is_intact = stored_hash in (None, session_hash(session_id, parent_id, created_at, profile))
            settings = dict(from_json(profile))
        except (ValueError, TypeError, AttributeError):
            is_intact, settings = False, {}
        if not _is_utf8(session_id):
            raise DamagedValueError(f"session {pk}")
        point = _fork_point(settings)
        return ReadableSession(pk, session_id, parent_id, created_at, settings, is_intact, point)

    def _add_accounts(self, session: ReadableSession) -> None:
        row = self._fetch("salvage_accounts", session.pk)
        shared = session.forked_from.seq if session.forked_from else 0
        limit = shared + len(session.message_pks) + MAX_TRAILING_GAP  # a damaged seq may be as large as 2**62
        last = max((seq for seq in session.message_pks if seq <= limit), default=0)
        if row is not None and all(isinstance(value, int) for value in row):
            session.last_seq = row[0] if last <= row[0] <= last + MAX_TRAILING_GAP else last
            session.system_tokens = max(row[1], 0)
        session.last_seq = max(session.last_seq, last)

    def _add_interruptions(self, session: ReadableSession) -> None:
        for (body,) in self._read("interruptions", {"session_pk": session.pk}):
            with suppress(ValueError, TypeError):
                session.interruptions.append(Interruption(**from_json(body)))

    def _add_turns(self, sessions: dict[int, ReadableSession]) -> None:
        for statement in ("salvage_turns", "salvage_turns_backwards"):  # both ways, until an unreadable page
            for session_pk, seq in self._read(statement):
                if session_pk in sessions:
                    sessions[session_pk].turn_ends.add(seq)

    def _row_numbers(self, *statements: str) -> list[int]:
        """Return the row numbers of a table. Each statement reads until the first page that it cannot read."""
        found: set[int] = set()
        for statement in statements:
            found.update(pk for (pk,) in self._read(statement))
        return sorted(found)

    def _fetch(self, statement: str, pk: int | None) -> Row | None:
        return next(self._read(statement, {"pk": pk}), None)


def read_damaged(path: Path, timeout_seconds: float, key: EncryptionKey | None) -> closing[DamagedDatabase]:
    """Open a damaged database for reading, as a context. Raises `EncryptionKeyError` if the key is not the right one."""
    return closing(DamagedDatabase(path, timeout_seconds, key))


def messages_of(database: DamagedDatabase, session: ReadableSession) -> Iterator[tuple[int, Message | None]]:
    """Yield every seq of a log that is not shared with its message, or None if the message is missing or damaged."""
    for seq in range((session.forked_from.seq if session.forked_from else 0) + 1, session.last_seq + 1):
        yield seq, database.message(session, seq)


def _fork_point(settings: dict[str, Any]) -> ForkPoint | None:
    try:
        point = parse_fork_point(settings.get("forked_from"))
    except TypeError:
        return None
    return point if point is not None and isinstance(point.seq, int) else None


def _is_utf8(text: object) -> bool:
    try:
        return bool(str(text).encode())
    except UnicodeEncodeError:
        return False
