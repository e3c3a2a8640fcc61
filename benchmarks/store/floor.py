"""The floor: the cost of a turn if only its rows are written.

One plain function on the thread of an aiosqlite connection, BEGIN IMMEDIATE to COMMIT, WAL with synchronous NORMAL: two
message rows, one turn row, one update of the session's row, with the columns and keys of the real tables. Nothing is
counted, encoded, hashed, checked, guarded by triggers or read.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiosqlite

from benchmarks.store.sample_turns import Turn

_SCHEMA = """
CREATE TABLE accounts (
    session_pk INTEGER PRIMARY KEY, last_used INTEGER, updated_at INTEGER, last_seq INTEGER, turn_count INTEGER,
    system_tokens INTEGER, message_tokens INTEGER, tool_tokens INTEGER, summary_tokens INTEGER, context_tokens INTEGER,
    last_request_tokens INTEGER, calibration REAL, usage_input INTEGER, usage_output INTEGER, usage_cache_read INTEGER,
    usage_cache_write INTEGER, usage_total INTEGER, cost REAL
) STRICT;
CREATE TABLE messages (
    pk INTEGER PRIMARY KEY, session_pk INTEGER, seq INTEGER, id TEXT, role TEXT, token_count INTEGER, tool_tokens INTEGER,
    created_at INTEGER, hash BLOB, meta TEXT, parts TEXT, UNIQUE (session_pk, seq), UNIQUE (session_pk, id)
) STRICT;
CREATE TABLE turns (
    session_pk INTEGER, turn_index INTEGER, seq INTEGER, role TEXT, system_tokens INTEGER, summary_tokens INTEGER,
    message_tokens INTEGER, tool_tokens INTEGER, context_tokens INTEGER, created_at INTEGER,
    PRIMARY KEY (session_pk, turn_index)
) STRICT, WITHOUT ROWID;
"""
_NOW_MS = 1_763_700_000_000
_META = '{"model_id":"openai/gpt-4o","finish_reason":"stop"}'
_NEW_SESSION = "INSERT INTO accounts VALUES (?, 0, 0, 0, 0, 10, 0, 0, 0, 10, NULL, 1.0, 0, 0, 0, 0, 0, 0.0)"
_INSERT_MESSAGE = "INSERT INTO messages VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT_TURN = "INSERT INTO turns VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_UPDATE_ACCOUNTS = (
    "UPDATE accounts SET last_used = ?, updated_at = ?, last_seq = ?, turn_count = ?, system_tokens = ?,"
    " message_tokens = ?, tool_tokens = ?, summary_tokens = ?, context_tokens = ?, last_request_tokens = ?,"
    " calibration = ?, usage_input = ?, usage_output = ?, usage_cache_read = ?, usage_cache_write = ?, usage_total = ?,"
    " cost = ? WHERE session_pk = ?"
)


class Floor:
    """A database of bare rows, with sessions numbered from 1."""

    def __init__(self, connection: aiosqlite.Connection, sessions: int) -> None:
        self._connection = connection
        self._turns = [0] * (sessions + 1)

    async def write(self, session_pk: int, turn: Turn) -> None:
        """Write one turn: one hop to the thread, one transaction."""
        number = self._turns[session_pk]
        self._turns[session_pk] += 1
        execute: Any = self._connection._execute
        await execute(self._transaction, session_pk, number, turn)

    def _transaction(self, session_pk: int, number: int, turn: Turn) -> None:
        connection = self._connection._conn
        connection.execute("BEGIN IMMEDIATE")
        seq, tokens, digest = 2 * number + 1, 200 * number, os.urandom(32)
        asked = (session_pk, seq, f"msg_{seq:026d}", "user", 50, 0, _NOW_MS, digest, None, turn.user_text)
        reply = (
            session_pk,
            seq + 1,
            f"msg_{seq + 1:026d}",
            "assistant",
            150,
            0,
            _NOW_MS,
            digest,
            _META,
            turn.assistant_text,
        )
        connection.executemany(_INSERT_MESSAGE, [asked, reply])
        snapshot = (session_pk, number, seq + 1, "assistant", 10, 0, tokens, 0, tokens, _NOW_MS)
        connection.execute(_INSERT_TURN, snapshot)
        usage = (50 * number, 150 * number, 0, 0, tokens)
        counts = (seq + 1, number + 1, 10, tokens, 0, 0, tokens, None, 1.0)
        connection.execute(_UPDATE_ACCOUNTS, (time.time_ns(), _NOW_MS, *counts, *usage, 0.0, session_pk))
        connection.execute("COMMIT")


@asynccontextmanager
async def open_floor(path: Path, sessions: int = 1) -> AsyncIterator[Floor]:
    """Create a database at `path` and open it."""
    _create(path, sessions)
    async with aiosqlite.connect(path, isolation_level=None) as connection:
        await connection.execute("PRAGMA synchronous = NORMAL")
        yield Floor(connection, sessions)


def _create(path: Path, sessions: int) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(_SCHEMA)
    connection.executemany(_NEW_SESSION, [(pk,) for pk in range(1, sessions + 1)])
    connection.commit()
    connection.close()
