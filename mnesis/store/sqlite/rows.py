"""The conversion between database rows and values."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mnesis.errors import SessionNotFoundError
from mnesis.models.context import Cover, Prune
from mnesis.models.message import Message
from mnesis.models.results import CompactionResult, ContextBreakdown, TurnSnapshot
from mnesis.models.sent_request import SentRequest
from mnesis.models.session import Interruption, SessionRecord
from mnesis.models.summary import Summary
from mnesis.models.usage import TokenUsage
from mnesis.store.codec import EncodedMessage, decode_message, decode_summary, from_json, to_json
from mnesis.store.sqlite.queries import sql

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A session and the key of its rows. Sessions are ordered by `last_used`."""

    pk: int
    record: SessionRecord
    last_used: int


def load_session(connection: sqlite3.Connection, session_id: str) -> StoredSession:
    """Load a session by id. Raises `SessionNotFoundError`."""
    try:
        row = connection.execute(sql("session"), {"id": session_id}).fetchone()
    except UnicodeEncodeError:
        row = None
    if row is None:
        raise SessionNotFoundError(session_id)
    return session_from_row(row)


def session_from_row(row: Row) -> StoredSession:
    """Convert a row of a statement that lists sessions."""
    pk, session_id, parent_id, created_at, settings, updated_at, last_seq, turn_count, *counts, last_used = row
    system, message, tool, summary, context, last_request_tokens, calibration, *sums = counts
    *usage_counts, cost, fold_count, reasoning, last_request = sums
    record = SessionRecord(
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
        usage=_usage([*usage_counts, reasoning]),
        cost=cost,
        fold_count=fold_count,
        last_request=None if last_request is None else SentRequest(**from_json(last_request)),
        **from_json(settings),
    )
    return StoredSession(pk, record, last_used)


def _usage(counts: Sequence[int]) -> TokenUsage:
    names = ("input", "output", "cache_read", "cache_write", "total", "reasoning")
    return TokenUsage(**dict(zip(names, counts, strict=True)))


def settings_json(session: SessionRecord) -> bytes:
    """Encode the settings of a session as JSON."""
    names = ("model", "system_prompt", "agent", "title", "metadata")
    return to_json({name: getattr(session, name) for name in names}, f"session {session.id!r}")


def account_parameters(session_pk: int, session: SessionRecord) -> dict[str, Any]:
    """Return the parameters of the statements that write accounts."""
    usage = session.usage
    return {
        "session_pk": session_pk,
        "now": time.time_ns(),
        "updated_at": session.updated_at,
        "last_seq": session.last_seq,
        "turn_count": session.turn_count,
        "system_tokens": session.system_tokens,
        "message_tokens": session.message_tokens,
        "tool_tokens": session.tool_tokens,
        "summary_tokens": session.summary_tokens,
        "context_tokens": session.context_tokens,
        "last_request_tokens": session.last_request_tokens,
        "calibration": session.calibration,
        "usage_input": usage.input,
        "usage_output": usage.output,
        "usage_cache_read": usage.cache_read,
        "usage_cache_write": usage.cache_write,
        "usage_total": usage.total,
        "cost": session.cost,
        "fold_count": session.fold_count,
        "usage_reasoning": usage.reasoning,
        "last_request": None
        if session.last_request is None
        else to_json(asdict(session.last_request), f"session {session.id!r}, last request"),
    }


def save_accounts(connection: sqlite3.Connection, session_pk: int, session: SessionRecord) -> None:
    """Write the accounts of an existing session."""
    connection.execute(sql("update_accounts"), account_parameters(session_pk, session))


def message_row(session_pk: int, seq: int, message: EncodedMessage) -> Row:
    """Return the parameters of `insert_message`."""
    return (
        session_pk,
        seq,
        message.id,
        message.role,
        message.parts,
        message.meta,
        message.digest,
        message.token_count,
        message.tool_tokens,
        message.created_at,
    )


def message_from_row(session_id: str, row: Row) -> Message:
    """Convert a row of a statement that reads messages. Raises `DamagedValueError`."""
    return decode_message(session_id, row[0], EncodedMessage(*row[1:]))


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


def turn_row(session_pk: int, turn: TurnSnapshot) -> Row:
    """Return the parameters of `insert_turn`."""
    tokens = turn.context_tokens
    counts = (tokens.system_prompt, tokens.summary, tokens.messages, tokens.tool_outputs, turn.measured_tokens)
    return (session_pk, turn.turn_index, turn.seq, turn.role, *counts, turn.created_at)


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
    """Convert a row of the statement that reads interruptions."""
    return Interruption(**from_json(body))
