"""Values as the JSON that stores keep, and back, exactly.

Only what differs from its default is written, and the parts of a message that is nothing but text are that text. JSON
is UTF-8 without escapes; a lone surrogate, which UTF-8 cannot hold, is escaped, and a high surrogate followed by a low
one, which JSON would join, keeps its three-byte form.
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import cache
from json.encoder import encode_basestring
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from mnesis.errors import CorruptStoreError, InvalidMessageError
from mnesis.models.message import DataPart, Message, MessagePart, ReasoningPart, TextPart, ToolPart
from mnesis.models.summary import Summary

MAX_DEPTH = 200
"""Containers inside containers. Deeper values exhaust the stack of whoever reads them back."""

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_LONE_SURROGATE = re.compile("[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]")
_INTEGERS = range(-(2**63), 2**63)
_IN_COLUMNS = {"id", "session_id", "seq", "role", "parts", "created_at", "token_count", "tool_tokens"}
_SUMMARY_COLUMNS = {"id", "session_id", "first_seq", "last_seq", "token_count", "message_count", "child_ids"}


class EncodedMessage(NamedTuple):
    """A message as it is stored. `meta` holds the rarer fields, None if all of them have their defaults."""

    id: str
    role: str
    parts: bytes
    meta: bytes | None
    digest: bytes
    token_count: int
    tool_tokens: int
    created_at: int


def encode_message(message: Message) -> EncodedMessage:
    """The stored form. Raises `InvalidMessageError` naming what cannot be stored exactly."""
    check_id(message.id)
    for name in ("token_count", "tool_tokens", "created_at"):
        if getattr(message, name) not in _INTEGERS:
            raise InvalidMessageError(f"message {message.id!r}: {name} does not fit 64 bits: {getattr(message, name)}")
    parts, meta = _encode_parts(message), _encode_meta(message)
    digest = _digest(message.id, message.role, parts, meta)
    return EncodedMessage(
        message.id, message.role, parts, meta, digest, message.token_count, message.tool_tokens, message.created_at
    )


def decode_message(session_id: str, seq: int, stored: EncodedMessage, where: str) -> Message:
    """The message back. Raises `CorruptStoreError` if it is not what was stored; `where` names the database."""
    if _digest(stored.id, stored.role, stored.parts, stored.meta) != stored.digest:
        raise _damaged(f"message {stored.id!r} (seq {seq})", session_id, where)
    try:
        return Message(
            id=stored.id,
            session_id=session_id,
            seq=seq,
            role=stored.role,  # type: ignore[arg-type]  # checked by the model
            parts=_decode_parts(stored.parts),
            created_at=stored.created_at,
            token_count=stored.token_count,
            tool_tokens=stored.tool_tokens,
            **(from_json(stored.meta) if stored.meta is not None else {}),
        )
    except (ValueError, ValidationError) as error:
        raise _damaged(f"message {stored.id!r} (seq {seq})", session_id, where) from error


def message_is_intact(stored: EncodedMessage) -> bool:
    """Whether the content still is what was stored."""
    return _digest(stored.id, stored.role, stored.parts, stored.meta) == stored.digest


def encode_summary(summary: Summary) -> tuple[bytes, bytes]:
    """What no column holds of a summary, and its digest."""
    check_id(summary.id)
    if "\0" in summary.id:
        raise InvalidMessageError(f"the id of summary {summary.id!r} holds a NUL, where SQLite's lists of ids end")
    body = to_json({"kind": summary.kind, **_changed_fields(summary, _SUMMARY_COLUMNS)}, f"summary {summary.id!r}")
    return body, summary_digest(summary.id, body)


def summary_digest(summary_id: str, body: bytes) -> bytes:
    """The digest stored with a summary."""
    return hashlib.sha256(b"%b\0%b" % (summary_id.encode(), body)).digest()


def decode_summary(body: bytes, digest: bytes, where: str, **columns: Any) -> Summary:
    """The summary back. Raises `CorruptStoreError` if it is not what was stored."""
    if summary_digest(columns["id"], body) != digest:
        raise _damaged(f"summary {columns['id']!r}", columns["session_id"], where)
    try:
        return Summary(**from_json(body), **columns)
    except (ValueError, ValidationError) as error:
        raise _damaged(f"summary {columns['id']!r}", columns["session_id"], where) from error


def check_id(id: str) -> None:
    """Raises `InvalidMessageError` for an id that cannot name anything."""
    if not id:
        raise InvalidMessageError("an id must not be empty")
    if not _is_utf8(id):
        raise InvalidMessageError(f"the id {id!r} holds a lone surrogate; ids must be valid Unicode")


def to_json(value: object, where: str) -> bytes:
    """Compact JSON. Raises `InvalidMessageError`, naming `where`, for what JSON cannot hold."""
    try:
        text = _encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidMessageError(f"{where} cannot be stored: {error}") from error
    return _utf8(text)


def from_json(data: bytes) -> Any:
    """The inverse of `to_json`. Raises ValueError for anything else."""
    return json.loads(data.decode("utf-8", "surrogatepass"))


def check_json(value: object, where: str, depth: int = 0) -> None:
    """Raises `InvalidMessageError` for what JSON would give back changed, or not at all."""
    if depth > MAX_DEPTH:
        raise InvalidMessageError(f"{where} is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise InvalidMessageError(f"{where} has the key {key!r}; keys must be strings")
            check_json(inner, f"{where}.{key}", depth + 1)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            check_json(inner, f"{where}[{index}]", depth + 1)
    elif value is not None and not isinstance(value, str | int | float):
        raise InvalidMessageError(
            f"{where} is a {type(value).__name__}, which JSON does not keep as it is;"
            " give dicts, lists, strings, numbers, booleans and None"
        )


def _encode_parts(message: Message) -> bytes:
    parts = message.parts
    if len(parts) == 1 and type(parts[0]) is TextPart and parts[0].provider is None:
        return _utf8(encode_basestring(parts[0].text))
    where = f"message {message.id!r}, parts"
    return b"[" + b",".join(_encode_part(part, f"{where}[{index}]") for index, part in enumerate(parts)) + b"]"


def _decode_parts(data: bytes) -> Any:
    parts = from_json(data)
    return (TextPart(text=parts),) if isinstance(parts, str) else parts


def _encode_part(part: MessagePart, where: str) -> bytes:
    if isinstance(part, TextPart | ReasoningPart | ToolPart):
        check_json(part.provider, f"{where}.provider")
    if isinstance(part, ToolPart):
        check_json(part.input, f"{where}.input")
    if isinstance(part, DataPart):
        check_json(part.data, f"{where}.data")
    return to_json({"type": part.type, **_changed_fields(part)}, where)


def _encode_meta(message: Message) -> bytes | None:
    fields = _changed_fields(message, _IN_COLUMNS)
    if not fields:
        return None
    where = f"message {message.id!r}"
    check_json(message.extra, f"{where}, extra")
    return to_json(fields, f"{where}, its usage, cost or extra")


def _changed_fields(value: BaseModel, left_out: set[str] | frozenset[str] = frozenset()) -> dict[str, Any]:
    defaults = _defaults(type(value))
    return {
        name: _changed_fields(field) if isinstance(field, BaseModel) else field
        for name, field in value.__dict__.items()
        if field != defaults[name] and name not in left_out
    }


@cache
def _defaults(model: type[BaseModel]) -> dict[str, Any]:
    return {name: field.get_default(call_default_factory=True) for name, field in model.model_fields.items()}


def _digest(id: str, role: str, parts: bytes, meta: bytes | None) -> bytes:
    return hashlib.sha256(b"%b\0%b\0%b\0%b" % (id.encode(), role.encode(), parts, meta or b"")).digest()


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        escaped = _LONE_SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
        return escaped.encode("utf-8", "surrogatepass")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _damaged(what: str, session_id: str, where: str) -> CorruptStoreError:
    return CorruptStoreError(
        f"{what} of session {session_id!r} in {where} is damaged: its content is not what was stored."
        " Other messages are readable; run `mnesis doctor` for the extent, and restore it from a backup",
        db_path=where,
    )
