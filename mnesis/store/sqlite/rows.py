"""The conversion between database rows and values."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from mnesis.models.context import Cover, Prune
from mnesis.models.message import Message
from mnesis.models.results import CompactionResult, ContextBreakdown, TurnSnapshot
from mnesis.models.session import Interruption, SessionRecord
from mnesis.models.summary import Summary
from mnesis.store.codec import (
    DamagedValueError,
    EncodedMessage,
    decode_message,
    decode_summary,
    from_json,
    stored_message,
)
from mnesis.store.sqlite.queries import sql
from mnesis.store.text_rows import decode_text_row

Row = tuple[Any, ...]


def message_row(session_pk: int, seq: int, message: EncodedMessage, message_hash: bytes) -> Row:
    """Return the parameters of `insert_message`."""
    return (
        session_pk,
        seq,
        message.id,
        message.role,
        message.parts,
        message.meta,
        message_hash,
        message.token_count,
        message.tool_tokens,
        message.created_at,
    )


def message_from_row(session_id: str, row: Row) -> Message:
    """Convert a row of a statement that reads messages. Raises `DamagedValueError`.

    The row of a message that a fork shares ends with the session that stores it.
    """
    owner_id = row[9] if len(row) > 9 else session_id
    message = decode_text_row(session_id, row[:9], owner_id)
    if message is None:
        message = decode_message(session_id, row[0], encoded_from_row(row), owner_id)
    return message


def encoded_from_row(row: Row) -> EncodedMessage:
    """Convert a row of a statement that reads messages, without decoding it."""
    return stored_message(row[1:9])


def summary_from_row(session_id: str, row: Row) -> Summary:
    """Convert a row of a statement that reads summaries. Raises `DamagedValueError`."""
    summary_id, first_seq, last_seq, token_count, message_count, digest, body, children = row
    return decode_summary(
        body,
        digest,
        id=summary_id,
        session_id=session_id,
        first_seq=first_seq,
        last_seq=last_seq,
        token_count=token_count,
        message_count=message_count,
        child_ids=tuple(json.loads(children)),
    )


def turn_row(session_pk: int, session: SessionRecord, role: str) -> Row:
    """Return the parameters of `insert_turn` for the turn that has just ended, with a message of this role."""
    return (
        session_pk,
        session.turn_count - 1,
        session.last_seq,
        role,
        session.system_tokens,
        session.summary_tokens,
        session.message_tokens,
        session.tool_tokens,
        session.context_tokens,
        session.updated_at,
    )


def turn_from_row(row: Row) -> TurnSnapshot:
    """Convert a row of a statement that reads turns."""
    turn_index, seq, role, system, summary, messages, tools, measured, created_at = row
    return TurnSnapshot(
        turn_index=turn_index,
        role=role,
        seq=seq,
        context_tokens=ContextBreakdown(
            system_prompt=system,
            summary=summary,
            messages=messages,
            tool_outputs=tools,
            total=system + summary + messages,
        ),
        measured_tokens=measured,
        created_at=created_at,
    )


def load_covers(connection: sqlite3.Connection, session_pk: int) -> tuple[Cover, ...]:
    """Load all covers of a session, in order."""
    return tuple(Cover(*row) for row in connection.execute(sql("covers"), {"session_pk": session_pk}))


def load_prunes(connection: sqlite3.Connection, session_pk: int, spans: str) -> list[Prune]:
    """Load the prunes inside `spans`, a JSON list of [first, last]."""
    return [
        Prune(*row) for row in connection.execute(sql("prunes_in_spans"), {"session_pk": session_pk, "spans": spans})
    ]


def load_compactions(connection: sqlite3.Connection, session_pk: int) -> list[CompactionResult]:
    """Load the results of all compactions of a session, oldest first."""
    rows = connection.execute(sql("compactions"), {"session_pk": session_pk})
    return [CompactionResult(**from_json(result)) for (result,) in rows]


def interruption_from_row(body: bytes) -> Interruption:
    """Convert a row of the statement that reads interruptions. Raises `DamagedValueError`."""
    try:
        return Interruption(**from_json(body))
    except (TypeError, ValueError) as error:
        raise DamagedValueError("an interruption") from error
