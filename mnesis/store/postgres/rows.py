"""The conversion between rows of PostgreSQL and values. Pure functions, no I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from mnesis.models.message import Message
from mnesis.models.results import ContextBreakdown, TurnSnapshot
from mnesis.models.summary import Summary
from mnesis.store.codec import EncodedMessage, decode_message, decode_summary, stored_message
from mnesis.store.text_rows import decode_text_row

Row = tuple[Any, ...]
Parameters = dict[str, Any]

_TURN_PARAMETERS = (
    *("turn_index", "turn_seq", "turn_role", "turn_system_tokens", "turn_summary_tokens", "turn_message_tokens"),
    *("turn_tool_tokens", "turn_context_tokens", "turn_created_at"),
)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


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
        "tool_token_counts": [message.tool_tokens for message in messages],
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
    owner_id = from_text(row[9]) if len(row) > 9 else session_id
    message = decode_text_row(session_id, (row[0], from_text(row[1]), *row[2:9]), owner_id)
    if message is None:
        message = decode_message(session_id, row[0], encoded_from_row(row), owner_id)
    return message


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


def turn_values(turn: TurnSnapshot) -> tuple[Any, ...]:
    """Return the columns of a snapshot in order."""
    tokens = turn.context_tokens
    return (
        *(turn.turn_index, turn.seq, turn.role, tokens.system_prompt, tokens.summary, tokens.messages),
        *(tokens.tool_outputs, turn.measured_tokens, turn.created_at),
    )


def _turn_parameters(turn: TurnSnapshot | None) -> Parameters:
    """Return the parameters of the snapshot of a turn; all are None if no turn ends."""
    return dict(zip(_TURN_PARAMETERS, (None,) * 9 if turn is None else turn_values(turn), strict=True))


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
