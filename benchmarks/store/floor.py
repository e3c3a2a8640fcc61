"""The floor: what a turn costs when nothing is done but write its rows.

One plain function on the thread of an aiosqlite connection, BEGIN IMMEDIATE to COMMIT, WAL with synchronous NORMAL: two
message rows with their ids, order and a hash, one turn row, one update of the session's row. Nothing is counted,
encoded, hashed, checked or read.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiosqlite

from benchmarks.store.material import Turn

_SCHEMA = """
CREATE TABLE sessions (
    pk INTEGER PRIMARY KEY, updated_at INTEGER, last_seq INTEGER, turn_count INTEGER, system_tokens INTEGER,
    message_tokens INTEGER, tool_tokens INTEGER, summary_tokens INTEGER, context_tokens INTEGER, usage_input INTEGER,
    usage_output INTEGER, cost REAL
) STRICT;
CREATE TABLE messages (
    pk INTEGER PRIMARY KEY, session_pk INTEGER, seq INTEGER, id TEXT, role TEXT, token_count INTEGER, tool_tokens INTEGER,
    created_at INTEGER, hash BLOB, parts TEXT, UNIQUE (session_pk, seq), UNIQUE (session_pk, id)
) STRICT;
CREATE TABLE turns (
    session_pk INTEGER, turn_index INTEGER, seq INTEGER, role TEXT, system_tokens INTEGER, summary_tokens INTEGER,
    message_tokens INTEGER, tool_tokens INTEGER, context_tokens INTEGER, created_at INTEGER,
    PRIMARY KEY (session_pk, turn_index)
) STRICT, WITHOUT ROWID;
"""
_INSERT_MESSAGE = "INSERT INTO messages VALUES (NULL, ?, ?, ?, ?, ?, 0, 1763700000000, ?, ?)"
_INSERT_TURN = "INSERT INTO turns VALUES (?, ?, ?, 'assistant', 10, 0, ?, 0, ?, 1763700000000)"
_UPDATE_SESSION = (
    "UPDATE sessions SET updated_at = updated_at + 1, last_seq = ?, turn_count = ?, message_tokens = ?,"
    " context_tokens = ?, usage_input = usage_input + 50, usage_output = usage_output + 150 WHERE pk = ?"
)


class Floor:
    """A database of bare rows with as many sessions as wanted, numbered from 1."""

    def __init__(self, connection: aiosqlite.Connection, sessions: int) -> None:
        self._connection = connection
        self._turns = [0] * (sessions + 1)

    async def write(self, session_pk: int, turn: Turn) -> None:
        """One turn: one hop, one transaction."""
        number = self._turns[session_pk]
        self._turns[session_pk] += 1
        execute: Any = self._connection._execute
        await execute(self._transaction, session_pk, number, turn)

    def _transaction(self, session_pk: int, number: int, turn: Turn) -> None:
        connection = self._connection._conn
        connection.execute("BEGIN IMMEDIATE")
        seq, tokens, hash_of_row = 2 * number + 1, 200 * number, os.urandom(32)
        rows = [
            (session_pk, seq, f"msg_{seq:026d}", "user", 50, hash_of_row, turn.asked),
            (session_pk, seq + 1, f"msg_{seq + 1:026d}", "assistant", 150, hash_of_row, turn.answered),
        ]
        connection.executemany(_INSERT_MESSAGE, rows)
        connection.execute(_INSERT_TURN, (session_pk, number, seq + 1, tokens, tokens))
        connection.execute(_UPDATE_SESSION, (seq + 1, number + 1, tokens, tokens, session_pk))
        connection.execute("COMMIT")


@asynccontextmanager
async def open_floor(path: Path, sessions: int = 1) -> AsyncIterator[Floor]:
    """A new database at `path`."""
    _create(path, sessions)
    async with aiosqlite.connect(path, isolation_level=None) as connection:
        await connection.execute("PRAGMA synchronous = NORMAL")
        yield Floor(connection, sessions)


def _create(path: Path, sessions: int) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(_SCHEMA)
    row = "INSERT INTO sessions VALUES (?, 0, 0, 0, 10, 0, 0, 0, 10, 0, 0, 0.0)"
    connection.executemany(row, [(pk,) for pk in range(1, sessions + 1)])
    connection.commit()
    connection.close()
