"""Statements that write sessions and their accounts, with new hashes and seals."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import astuple

from mnesis.models.session import SessionRecord
from mnesis.store.chain import EMPTY_HEAD, first_log_head, seal, session_hash
from mnesis.store.codec import DamagedValueError
from mnesis.store.postgres.rows import Parameters, Row, from_text, to_text
from mnesis.store.postgres.stored_session import StoredSession, hash_accounts, request_json
from mnesis.store.postgres.transaction import Answer, Transaction, session_parameters
from mnesis.store.record_heads import RecordHeads, Rows
from mnesis.store.settings import settings_json


def insert_session(transaction: Transaction, record: SessionRecord) -> tuple[int, bytes] | None:
    """Insert the name and the settings of a session. Returns its key and their hash, or None if the id is taken."""
    profile = settings_json(record)
    profile_hash = session_hash(record.id, record.parent_id, record.created_at, profile)
    inserted = transaction.row(
        "insert_session",
        {
            "id": to_text(record.id),
            "parent_id": None if record.parent_id is None else to_text(record.parent_id),
            "created_at": record.created_at,
            "profile": profile,
            "hash": profile_hash,
        },
    )
    return None if inserted is None else (inserted[0], profile_hash)


def insert_accounts(
    transaction: Transaction,
    session_pk: int,
    record: SessionRecord,
    profile_hash: bytes,
    log_head: bytes | None = None,
    records: RecordHeads | None = None,
) -> None:
    """Insert the accounts of a new session, and its record heads. A fork begins with those of its origin."""
    records = records or RecordHeads()
    heads = (log_head or first_log_head(record.id), EMPTY_HEAD, records.combine())
    parameters = account_parameters(transaction, session_pk, record, time.time_ns(), profile_hash, heads)
    transaction.send("insert_accounts", parameters)
    insert_record_heads(transaction, session_pk, records)


def insert_record_heads(transaction: Transaction, session_pk: int, records: RecordHeads) -> None:
    """Insert the record heads of a session."""
    transaction.send("insert_record_heads", _record_head_parameters(session_pk, records))


def save_accounts(
    transaction: Transaction,
    stored: StoredSession,
    after: SessionRecord,
    *,
    log_head: bytes | None = None,
    turn_head: bytes | None = None,
    records: RecordHeads | None = None,
    profile_hash: bytes | None = None,
    statement: str | None = "update_accounts",
) -> Parameters:
    """Write the accounts of a locked session, with their new hash and seal. None keeps a head unchanged.

    Returns the parameters of the statement. With `statement=None` the caller sends them. The time of the last use
    changes if the record changed.
    """
    if after is not stored.record:
        stored.last_used = max(stored.last_used + 1, time.time_ns())
    stored.record = after
    stored.log_head = log_head or stored.log_head
    stored.turn_head = turn_head or stored.turn_head
    stored.profile_hash = profile_hash or stored.profile_hash
    if records is not None:
        stored.record_head = records.combine()
        transaction.send("update_record_heads", _record_head_parameters(stored.pk, records))
    heads = (stored.log_head, stored.turn_head, stored.record_head)
    parameters = account_parameters(transaction, stored.pk, after, stored.last_used, stored.profile_hash, heads)
    stored.hash, stored.seal = parameters["hash"], parameters["seal"]
    if statement is not None:
        transaction.send(statement, parameters)
    transaction.saved_session = stored
    return parameters


def account_parameters(
    transaction: Transaction,
    session_pk: int,
    record: SessionRecord,
    last_used: int,
    profile_hash: bytes,
    heads: tuple[bytes, bytes, bytes],
) -> Parameters:
    """Return the parameters of the statements that write accounts. `heads` are those of the log, turns and records."""
    request = request_json(record)
    row_hash = hash_accounts(record, last_used, profile_hash + b"".join(heads), request)
    usage = record.usage
    return {
        "session_pk": session_pk,
        "last_used": last_used,
        "updated_at": record.updated_at,
        "last_seq": record.last_seq,
        "turn_count": record.turn_count,
        "system_tokens": record.system_tokens,
        "message_tokens": record.message_tokens,
        "tool_tokens": record.tool_tokens,
        "summary_tokens": record.summary_tokens,
        "context_tokens": record.context_tokens,
        "last_request_tokens": record.last_request_tokens,
        "calibration": float(record.calibration),
        "usage_input": usage.input,
        "usage_output": usage.output,
        "usage_cache_read": usage.cache_read,
        "usage_cache_write": usage.cache_write,
        "usage_total": usage.total,
        "usage_reasoning": usage.reasoning,
        "cost": float(record.cost),
        "fold_count": record.fold_count,
        "last_request": request or None,
        "log_head": heads[0],
        "turn_head": heads[1],
        "record_head": heads[2],
        "hash": row_hash,
        "seal": None if transaction.key is None else seal(transaction.key, row_hash),
    }


def read_record_heads(answer: Answer, session_id: str) -> RecordHeads:
    """Return the record heads in the answer of `record_heads`. Raises `DamagedValueError` if they are missing."""
    row = answer.row()
    if row is None:
        raise DamagedValueError(f"the list of records of session {session_id!r}")
    return RecordHeads(*row)


def rows_of_session(transaction: Transaction, session_pk: int, session_id: str) -> Rows:
    """Return a function that returns the rows of a session which a statement selects, with their texts unescaped.

    The spans of `check_edges` become one row for each message, as SQLite has them.
    """
    parameters = session_parameters(session_id) | {"session_pk": session_pk}

    def rows(statement: str) -> Iterable[Row]:
        selected = transaction.rows(statement, parameters)
        if statement == "check_edges":
            return ((pk, seq) for pk, first, last in selected for seq in range(first, last + 1))
        return [tuple(from_text(value) if isinstance(value, str) else value for value in row) for row in selected]

    return rows


def _record_head_parameters(session_pk: int, records: RecordHeads) -> Parameters:
    return {"session_pk": session_pk, **dict(zip(RecordHeads.__slots__, astuple(records), strict=True))}
