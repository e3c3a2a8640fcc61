"""The conversion between rows of PostgreSQL and values. Pure functions, no I/O."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mnesis.models.message import Message
from mnesis.models.results import ContextBreakdown, TurnSnapshot
from mnesis.models.sent_request import SentRequest
from mnesis.models.session import SessionRecord
from mnesis.models.summary import Summary
from mnesis.models.usage import TokenUsage
from mnesis.store.codec import EncodedMessage, decode_message, decode_summary, from_json, stored_message, to_json
from mnesis.store.settings import decode_settings

Row = tuple[Any, ...]
Parameters = dict[str, Any]

_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_USAGE = ("input", "output", "cache_read", "cache_write", "total", "reasoning")


def to_text(value: str) -> str:
    """Escape NUL, which a text column cannot hold, and the backslash that marks it."""
    return value.replace("\\", "\\\\").replace("\0", "\\0") if "\0" in value or "\\" in value else value


def from_text(value: str) -> str:
    """Undo `to_text`."""
    return _ESCAPED.sub(lambda match: "\0" if match[1] == "0" else match[1], value) if "\\" in value else value


def is_storable_id(value: str) -> bool:
    """Return whether an id can exist: UTF-8 has no lone surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


class StoredSession:
    """A session, the key of its rows and its place in the order of last use."""

    __slots__ = ("last_used", "log_head", "pk", "record")

    def __init__(self, row: Row) -> None:
        (
            pk,
            session_id,
            parent_id,
            created_at,
            settings,
            updated_at,
            last_seq,
            turn_count,
            *counts,
            log_head,
            last_used,
        ) = row
        system, message, tool, summary, context, last_request_tokens, calibration, *usage, cost, folds, request = counts
        self.pk: int = pk
        self.last_used: int = last_used
        self.log_head: bytes = log_head
        self.record = SessionRecord(
            id=from_text(session_id),
            parent_id=None if parent_id is None else from_text(parent_id),
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
            usage=TokenUsage(**dict(zip(_USAGE, usage, strict=True))),
            cost=cost,
            fold_count=folds,
            last_request=None if request is None else SentRequest(**from_json(request)),
            **decode_settings(from_json(settings)),
        )


def account_parameters(session_pk: int, session: SessionRecord, log_head: bytes) -> Parameters:
    """Return the parameters of the statements that write accounts."""
    return {
        "log_head": log_head,
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
        "cost": session.cost,
        "fold_count": session.fold_count,
        "last_request": None
        if session.last_request is None
        else to_json(asdict(session.last_request), f"session {session.id!r}, last request"),
        **{f"usage_{name}": getattr(session.usage, name) for name in _USAGE},
    }


def append_parameters(
    session_pk: int,
    first_seq: int,
    messages: Sequence[EncodedMessage],
    hashes: Sequence[bytes],
    turn: TurnSnapshot | None,
) -> Parameters:
    """Return the parameters of `append_messages`, apart from those of the change."""
    return {
        "session_pk": session_pk,
        "seqs": list(range(first_seq, first_seq + len(messages))),
        "ids": [to_text(message.id) for message in messages],
        "roles": [message.role for message in messages],
        "parts": [message.parts for message in messages],
        "metas": [message.meta for message in messages],
        "hashes": list(hashes),
        "token_counts": [message.token_count for message in messages],
        "tool_tokens": [message.tool_tokens for message in messages],
        "created_at": [message.created_at for message in messages],
        **_turn_parameters(turn),
    }


def encoded_from_row(row: Row) -> EncodedMessage:
    """Convert a row of a statement that reads messages, without decoding it."""
    return stored_message((from_text(row[1]), *row[2:9]))


def message_from_row(session_id: str, row: Row) -> Message:
    """Convert a row of a statement that reads messages. Raises `DamagedValueError`.

    The row of a message that a fork shares ends with the session that stores it.
    """
    return decode_message(session_id, row[0], encoded_from_row(row), from_text(row[9]) if len(row) > 9 else None)


def summary_from_row(session_id: str, row: Row) -> Summary:
    """Convert a row of a statement that reads summaries. Raises `DamagedValueError`."""
    summary_id, first_seq, last_seq, token_count, message_count, digest, body, children = row
    return decode_summary(
        body,
        digest,
        id=from_text(summary_id),
        session_id=session_id,
        first_seq=first_seq,
        last_seq=last_seq,
        token_count=token_count,
        message_count=message_count,
        child_ids=tuple(from_text(child) for child in children),
    )


def _turn_parameters(turn: TurnSnapshot | None) -> Parameters:
    """Return the parameters of the snapshot of a turn; all are None if no turn ends."""
    tokens = turn.context_tokens if turn is not None else None
    return {
        "turn_index": turn.turn_index if turn is not None else None,
        "turn_seq": turn.seq if turn is not None else None,
        "turn_role": turn.role if turn is not None else None,
        "turn_system_tokens": tokens.system_prompt if tokens is not None else None,
        "turn_summary_tokens": tokens.summary if tokens is not None else None,
        "turn_message_tokens": tokens.messages if tokens is not None else None,
        "turn_tool_tokens": tokens.tool_outputs if tokens is not None else None,
        "turn_context_tokens": turn.measured_tokens if turn is not None else None,
        "turn_created_at": turn.created_at if turn is not None else None,
    }


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
