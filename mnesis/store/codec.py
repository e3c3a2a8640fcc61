"""The exact conversion between values and the JSON that stores keep.

Only values that differ from their defaults are written. The parts of a text-only message are written as that text. JSON
is UTF-8 without escapes, with two exceptions: a lone surrogate, which UTF-8 cannot hold, is escaped; a high surrogate
followed by a low one, which JSON would join, keeps its three-byte form.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from json.encoder import c_make_encoder, encode_basestring  # type: ignore[attr-defined]  # typeshed lists only the encoder
from typing import Any, NamedTuple, NoReturn

from pydantic import BaseModel, ValidationError

from mnesis.errors import CorruptStoreError, InvalidMessageError
from mnesis.models.message import DataPart, Message, MessagePart, ReasoningPart, TextPart, ToolPart, ToolResultPart
from mnesis.models.summary import Summary
from mnesis.store.chain import message_hash

MAX_DEPTH = 200
"""How deep containers may be nested. Reading deeper values back can exhaust Python's stack."""


def _refuse_value(value: object) -> NoReturn:
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _make_encoder() -> Callable[[object], str]:
    """Return a function that writes JSON. `JSONEncoder.encode` would create the encoder in C for each value."""
    if c_make_encoder is None:  # an interpreter without the accelerator
        return json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
    # In the order of `json.encoder.JSONEncoder.iterencode()`: markers, default, encoder, indent, separators, sort_keys,
    # skipkeys, allow_nan. Without markers, a value that contains itself ends in a RecursionError.
    encode = c_make_encoder(None, _refuse_value, encode_basestring, None, ":", ",", False, False, False)
    return lambda value: "".join(encode(value, 0))


_encode = _make_encoder()
_LONE_SURROGATE = re.compile("[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]")
_INTEGERS = range(-(2**63), 2**63)
_MESSAGE_COLUMNS = {"id", "session_id", "seq", "role", "parts", "created_at", "token_count", "tool_tokens", "damage"}
_SUMMARY_COLUMNS = {"id", "session_id", "first_seq", "last_seq", "token_count", "message_count", "child_ids"}


# Stored under the first name of the field.
_SUMMARY_KEYS = {"pointers": "digs"}
_SUMMARY_FIELDS = {key: field for field, key in _SUMMARY_KEYS.items()}


class DamagedValueError(ValueError):
    """A stored value whose content no longer matches its digest. The database turns it into a `CorruptStoreError`."""

    def at(self, location: str) -> CorruptStoreError:
        """Return the error that users see, which names the database."""
        return CorruptStoreError(
            f"{self} in {location} is damaged: it is not what was stored. Everything else is readable; run `mnesis doctor` to"
            " see the extent, and `mnesis salvage` to copy all that is intact to a new database",
            db_path=location,
        )


class EncodedMessage(NamedTuple):
    """The stored form of a message. `meta` contains the rarer fields, or is None if all of them have their defaults.

    `digest` is computed from id, role, parts and meta. `stored_hash` is the hash in the store (`mnesis.store.chain`),
    or only the digest if a release before schema version 7 wrote it.
    """

    id: str
    role: str
    parts: bytes
    meta: bytes | None
    digest: bytes
    token_count: int
    tool_tokens: int
    created_at: int
    stored_hash: bytes = b""


def encode_message(message: Message) -> EncodedMessage:
    """Encode a message. Raises an `InvalidMessageError` that names the value that cannot be stored exactly."""
    check_id(message.id)
    if not (message.token_count in _INTEGERS and message.tool_tokens in _INTEGERS and message.created_at in _INTEGERS):
        raise _not_an_integer_error(message)
    parts, meta = _encode_parts(message), _encode_meta(message)
    digest = message_digest(message.id, message.role, parts, meta)
    return EncodedMessage(
        message.id, message.role, parts, meta, digest, message.token_count, message.tool_tokens, message.created_at
    )


def _not_an_integer_error(message: Message) -> InvalidMessageError:
    values = {name: getattr(message, name) for name in ("token_count", "tool_tokens", "created_at")}
    name, value = next((name, value) for name, value in values.items() if value not in _INTEGERS)
    return InvalidMessageError(f"message {message.id!r}: {name} must be a 64-bit integer, not {value}")


def decode_message(session_id: str, seq: int, stored: EncodedMessage, owner_id: str | None = None) -> Message:
    """Decode a message. Raises `DamagedValueError` if its content has changed.

    `owner_id` is the session that stores the message, if a fork shares it.
    """
    if not is_message_intact(owner_id or session_id, seq, stored):
        raise DamagedValueError(f"message {stored.id!r} (seq {seq}) of session {session_id!r}")
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
        raise DamagedValueError(f"message {stored.id!r} (seq {seq}) of session {session_id!r}") from error


def stored_message(row: Sequence[Any]) -> EncodedMessage:
    """Convert a stored row: id, role, parts, meta, hash, token count, tool tokens and creation time.

    A row with values of other types, as in a page of another table, gets an empty digest, which never matches.
    """
    message_id, role, parts, meta, stored_hash, token_count, tool_tokens, created_at = row
    try:
        digest = message_digest(message_id, role, parts, meta)
    except (TypeError, AttributeError):
        digest = b""
    return EncodedMessage(message_id, role, parts, meta, digest, token_count, tool_tokens, created_at, stored_hash)


def hash_of(session_id: str, seq: int, message: EncodedMessage) -> bytes:
    """Return the hash of a message at its place."""
    return message_hash(session_id, seq, message.created_at, message.token_count, message.tool_tokens, message.digest)


def is_message_intact(session_id: str, seq: int, stored: EncodedMessage) -> bool:
    """Return whether a message equals the one stored at this place."""
    try:
        return stored.digest != b"" and stored.stored_hash in (hash_of(session_id, seq, stored), stored.digest)
    except (struct.error, TypeError):
        return False


def encode_summary(summary: Summary) -> tuple[bytes, bytes]:
    """Encode the fields of a summary that have no column, and return them with their digest."""
    check_id(summary.id)
    if "\0" in summary.id:
        raise InvalidMessageError(
            f"the summary id {summary.id!r} contains a NUL, which SQLite's lists of ids cannot hold"
        )
    fields = {_SUMMARY_KEYS.get(n, n): field for n, field in _non_default_fields(summary, _SUMMARY_COLUMNS).items()}
    body = to_json({"kind": summary.kind, **fields}, f"summary {summary.id!r}")
    return body, summary_digest(summary.id, body)


def summary_digest(summary_id: str, body: bytes) -> bytes:
    """Compute the digest stored with a summary."""
    return hashlib.sha256(b"%b\0%b" % (summary_id.encode(), body)).digest()


def decode_summary(body: bytes, digest: bytes, **columns: Any) -> Summary:
    """Decode a summary. Raises `DamagedValueError` if its content has changed."""
    if summary_digest(columns["id"], body) != digest:
        raise DamagedValueError(f"summary {columns['id']!r} of session {columns['session_id']!r}")
    try:
        fields = {_SUMMARY_FIELDS.get(key, key): value for key, value in from_json(body).items()}
        return Summary(**fields, **columns)
    except (ValueError, ValidationError) as error:
        raise DamagedValueError(f"summary {columns['id']!r} of session {columns['session_id']!r}") from error


def check_id(id: str) -> None:
    """Raise `InvalidMessageError` if an id is empty or is not valid Unicode."""
    if not id:
        raise InvalidMessageError("an id must not be empty")
    if not _is_utf8(id):
        raise InvalidMessageError(f"the id {id!r} contains a lone surrogate; ids must be valid Unicode")


def to_json(value: object, label: str) -> bytes:
    """Encode a value as compact JSON. Raises `InvalidMessageError`, which starts with `label`, if JSON cannot hold it."""
    try:
        text = _encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidMessageError(f"{label} cannot be stored: {error}") from error
    return _utf8(text)


def from_json(data: bytes) -> Any:
    """Decode what `to_json` encoded. Raises ValueError for anything else."""
    return json.loads(data.decode("utf-8", "surrogatepass"))


def check_json(value: object, label: str, depth: int = 0) -> None:
    """Raise `InvalidMessageError`, which starts with `label`, if a value would not survive JSON unchanged."""
    if depth > MAX_DEPTH:
        raise InvalidMessageError(f"{label} is nested deeper than {MAX_DEPTH} levels; store it as text")
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise InvalidMessageError(f"{label} has the key {key!r}; keys must be strings")
            check_json(inner, f"{label}.{key}", depth + 1)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            check_json(inner, f"{label}[{index}]", depth + 1)
    elif value is not None and not isinstance(value, str | int | float):
        raise InvalidMessageError(
            f"{label} is a {type(value).__name__}, which JSON cannot hold unchanged;"
            " pass dicts, lists, strings, numbers, booleans and None"
        )


def _encode_parts(message: Message) -> bytes:
    parts = message.parts
    if len(parts) == 1 and type(parts[0]) is TextPart and parts[0].provider is None:
        return _utf8(encode_basestring(parts[0].text))
    label = f"message {message.id!r}, parts"
    return b"[" + b",".join(_encode_part(part, f"{label}[{index}]") for index, part in enumerate(parts)) + b"]"


def _decode_parts(data: bytes) -> Any:
    parts = from_json(data)
    return (TextPart(text=parts),) if isinstance(parts, str) else parts


def _encode_part(part: MessagePart, label: str) -> bytes:
    return to_json(_part_fields(part, label), label)


def _part_fields(part: MessagePart, label: str) -> dict[str, Any]:
    if isinstance(part, TextPart | ReasoningPart | ToolPart):
        check_json(part.provider, f"{label}.provider")
    if isinstance(part, ToolPart):
        check_json(part.input, f"{label}.input")
    if isinstance(part, DataPart):
        check_json(part.data, f"{label}.data")
    fields = {"type": part.type, **_non_default_fields(part)}
    if isinstance(part, ToolPart | ToolResultPart) and part.output_parts:
        outputs = enumerate(part.output_parts)
        fields["output_parts"] = [_part_fields(output, f"{label}.output_parts[{i}]") for i, output in outputs]
    return fields


def _encode_meta(message: Message) -> bytes | None:
    if not (message.extra or message.tokens or message.cost or message.is_summary):
        return _plain_meta(message.model_id, message.finish_reason)
    return _meta_json(message)


@lru_cache(maxsize=1_024)
def _plain_meta(model_id: str, finish_reason: str | None) -> bytes | None:
    """Encode the two fields that most replies have and that rarely differ."""
    return _meta_json(Message(id="plain", role="assistant", model_id=model_id, finish_reason=finish_reason))


def _meta_json(message: Message) -> bytes | None:
    fields = _non_default_fields(message, _MESSAGE_COLUMNS)
    if not fields:
        return None
    label = f"message {message.id!r}"
    check_json(message.extra, f"{label}, extra")
    return to_json(fields, f"{label}, its usage, cost or extra")


def _non_default_fields(value: BaseModel, excluded: set[str] | frozenset[str] = frozenset()) -> dict[str, Any]:
    defaults = _defaults(type(value))
    return {
        name: _non_default_fields(field) if isinstance(field, BaseModel) else field
        for name, field in value.__dict__.items()
        if field != defaults[name] and name not in excluded
    }


@cache
def _defaults(model: type[BaseModel]) -> dict[str, Any]:
    return {name: field.get_default(call_default_factory=True) for name, field in model.model_fields.items()}


def message_digest(id: str, role: str, parts: bytes, meta: bytes | None) -> bytes:
    """Return the digest of what a message says, without its place and its time."""
    return hashlib.sha256(b"%b\0%b\0%b\0%b" % (id.encode(), role.encode(), parts, meta or b"")).digest()


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        escaped = _LONE_SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
        return escaped.encode("utf-8", "surrogatepass")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
