"""Comparison of records that are read with their hashes, so that a missing or changed record is never skipped."""

from __future__ import annotations

import sqlite3

from mnesis.store.chain import EMPTY_HEAD, encode_turn, extend_chain
from mnesis.store.codec import DamagedValueError
from mnesis.store.record_heads import NO_RECORDS, RecordHeads
from mnesis.store.sqlite.accounts import StoredSession
from mnesis.store.sqlite.queries import sql
from mnesis.store.sqlite.records import compute_record_head, load_record_heads


def refuse_damaged_records(connection: sqlite3.Connection, stored: StoredSession, *kinds: str) -> None:
    """Compare all records of some kinds (fields of `RecordHeads`) with their hashes. Raises `DamagedValueError`."""
    heads = load_intact_heads(connection, stored)
    for kind in kinds if heads is not None else ():
        if compute_record_head(connection, stored.pk, kind) != getattr(heads, kind):
            raise _damaged(kind, stored)


def refuse_damaged_turns(connection: sqlite3.Connection, stored: StoredSession) -> None:
    """Compare all snapshots of turns with the head of their chain. Raises `DamagedValueError`."""
    if stored.hash is None:
        return
    head = EMPTY_HEAD
    for row in connection.execute(sql("check_turn_rows"), {"session_pk": stored.pk}):
        head = extend_chain(head, encode_turn(row))
    if head != stored.turn_head:
        raise _damaged("turns", stored)


def load_intact_heads(connection: sqlite3.Connection, stored: StoredSession) -> RecordHeads | None:
    """Return the hashes of the records of a session. None if an older release wrote the session and its heads are not
    computed yet.

    Reads nothing if the session has no records. Raises `DamagedValueError`.
    """
    if stored.hash is None:
        return None
    if stored.record_head == NO_RECORDS:
        return RecordHeads()
    heads = load_record_heads(connection, stored.pk, stored.record.id)
    if heads.combine() != stored.record_head:
        raise DamagedValueError(f"the list of records of session {stored.record.id!r}")
    return heads


def _damaged(kind: str, stored: StoredSession) -> DamagedValueError:
    return DamagedValueError(f"the list of {kind.replace('_', ' ')} of session {stored.record.id!r}")
