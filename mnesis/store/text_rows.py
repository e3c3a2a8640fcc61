"""Rows of messages that are one text, as most are, decoded in one step: each first window reads dozens of them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from json.decoder import scanstring  # type: ignore[attr-defined]  # typeshed lists only the decoder
from typing import Any

from mnesis.models.message import Message
from mnesis.models.text_message import create_text_message, create_text_part
from mnesis.store.chain import message_hash
from mnesis.store.codec import from_json, message_digest

MAX_META_BYTES = 200
"""Longer ones hold more than the two fields that most replies have."""

_ROLES = frozenset({"system", "user", "assistant", "tool"})
_FIELDS: dict[str, Any] = {"model_id": "", "finish_reason": None}


def decode_text_row(session_id: str, row: Sequence[Any], owner_id: str) -> Message | None:
    """Decode a row if it is one text and its hash proves it unchanged since it was validated. None for any other.

    A row is seq, id, role, parts, meta, hash, token count, tool tokens and creation time. `owner_id` is the session that stores it.
    `mnesis.store.codec.decode_message` decodes the others, and says what is damaged.
    """
    seq, message_id, role, parts, meta, stored_hash, token_count, tool_tokens, created_at = row
    try:
        fields = _FIELDS if meta is None else _read_fields(meta) if len(meta) < MAX_META_BYTES else None
        if fields is None or parts[:1] != b'"' or role not in _ROLES or token_count < 0 or tool_tokens < 0:
            return None
        digest = message_digest(message_id, role, parts, meta)
        if stored_hash != message_hash(owner_id, seq, created_at, token_count, tool_tokens, digest) and (
            stored_hash != digest  # a release before schema version 7 stored only that
        ):
            return None
        encoded = parts.decode("utf-8", "surrogatepass")
        text, end = scanstring(encoded, 1)
    except (TypeError, ValueError, AttributeError, struct.error):  # values of other types, as in a damaged page
        return None
    if end != len(encoded):
        return None
    return create_text_message(
        create_text_part(text),
        message_id,
        role,
        session_id,
        seq,
        created_at,
        token_count,
        tool_tokens,
        fields["model_id"],
        fields["finish_reason"],
    )


@lru_cache(maxsize=1_024)
def _read_fields(meta: bytes) -> dict[str, Any] | None:
    """Decode the two fields that most replies have. None if there are others."""
    fields = from_json(meta)
    is_plain = (
        isinstance(fields, dict)
        and fields.keys() <= _FIELDS.keys()
        and all(isinstance(value, str) for value in fields.values())
    )
    return {**_FIELDS, **fields} if is_plain else None
