"""Rows of record heads: load, save and compute them."""

from __future__ import annotations

import sqlite3
from dataclasses import astuple

from mnesis.store import record_heads
from mnesis.store.codec import DamagedValueError
from mnesis.store.record_heads import RecordHeads
from mnesis.store.sqlite.queries import sql


def load_record_heads(connection: sqlite3.Connection, session_pk: int, session_id: str) -> RecordHeads:
    """Load the record heads of a session. Raises `DamagedValueError` if they are missing or not hashes."""
    row = connection.execute(sql("record_heads"), (session_pk,)).fetchone()
    if row is None or not all(isinstance(head, bytes) for head in row):
        raise DamagedValueError(f"the list of records of session {session_id!r}")
    return RecordHeads(*row)


def insert_record_heads(connection: sqlite3.Connection, session_pk: int, heads: RecordHeads) -> None:
    """Insert the record heads of a session."""
    connection.execute(sql("insert_record_heads"), (*astuple(heads), session_pk))


def save_record_heads(connection: sqlite3.Connection, session_pk: int, heads: RecordHeads) -> bytes:
    """Write the record heads of a session and return their combined hash."""
    connection.execute(sql("update_record_heads"), (*astuple(heads), session_pk))
    return heads.combine()


def compute_record_heads(connection: sqlite3.Connection, session_pk: int) -> RecordHeads:
    """Compute the record heads of a session from its rows."""
    return record_heads.compute_record_heads(_rows_of(connection, session_pk))


def compute_record_head(connection: sqlite3.Connection, session_pk: int, kind: str) -> bytes:
    """Compute one of the record heads of a session, which is a field of `RecordHeads`, from its rows."""
    return record_heads.compute_record_head(_rows_of(connection, session_pk), kind)


def _rows_of(connection: sqlite3.Connection, session_pk: int) -> record_heads.Rows:
    return lambda statement: connection.execute(sql(statement), {"session_pk": session_pk})
