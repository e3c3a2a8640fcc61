"""Hashes that prove a stored history unchanged. Pure functions, no I/O.

Every store hashes the same bytes, so a head can be compared across stores and recomputed by anyone. All hashes are SHA-256.
Integers are 64 bits, big-endian; texts are UTF-8:

- content of a message: of id, role, parts and meta, joined by NUL (`mnesis.store.codec`)
- hash of a message: of its content hash, seq, creation time, token count, tool tokens and session id
- head of a log after a message: of the head before it and the hash of the message. The head of an empty log is the hash of
  `log` and the session id
- hash of a session: of the four hashes that cover its profile, log, turns and other records, and of its accounts
- seal: HMAC-SHA256 of that hash with a key, in databases that are written with a key

A message hash alone proves the message and its place, so damage elsewhere does not affect that proof. The head proves
that no message was removed, added or reordered before it.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from itertools import chain, pairwise
from typing import Any, TypeAlias

Value: TypeAlias = int | float | str | bytes | None

# The form of each record, all big-endian. They are packed instead of written as text, because every append computes
# them.
_MESSAGE = struct.Struct(">4q").pack
_TURN = struct.Struct(">8q").pack
_SESSION = struct.Struct(">3q").pack
_ACCOUNTS = struct.Struct(">19q2d").pack

HASH_BYTES = 32
EMPTY_HEAD = bytes(HASH_BYTES)
"""The head of a chain, or the hash of a set, without records."""


def encode_record(label: str, *values: Value) -> bytes:
    """Write a label and its values as the bytes that are hashed. Different values give different bytes."""
    return ",".join((label, *map(_encode_value, values))).encode("utf-8", "surrogatepass")


def _encode_value(value: Value) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return f"{len(value.encode('utf-8', 'surrogatepass'))}:{value}"
    return value.hex() if isinstance(value, bytes) else repr(value)


def hash_bytes(data: bytes) -> bytes:
    """Return the SHA-256 hash of `data`."""
    return sha256(data).digest()


def extend_chain(head: bytes, record: bytes) -> bytes:
    """Return the head of a chain after one more record."""
    return sha256(head + record).digest()


def first_log_head(session_id: str) -> bytes:
    """Return the head of a log without messages."""
    return sha256(b"log" + session_id.encode()).digest()


def message_hash(
    session_id: str, seq: int, created_at: int, token_count: int, tool_tokens: int, content: bytes
) -> bytes:
    """Return the hash stored with a message. It covers the message, its session, its position and its time."""
    return sha256(content + _MESSAGE(seq, created_at, token_count, tool_tokens) + session_id.encode()).digest()


def encode_turn(row: Sequence[Any]) -> bytes:
    """Write the snapshot of a turn: turn index, seq, role, five token counts and the time.

    Values that only a damaged row can contain get another encoding, which never agrees with a hash.
    """
    try:
        turn_index, seq, role, *numbers = row
        return _TURN(turn_index, seq, *numbers) + str(role).encode()
    except (ValueError, struct.error):
        return b"damaged " + repr(tuple(row)).encode("utf-8", "backslashreplace")


def session_hash(session_id: str, parent_id: str | None, created_at: int, profile: bytes) -> bytes:
    """Return the hash of the names and the description of a session. `profile` is its stored JSON."""
    name, parent = session_id.encode(), None if parent_id is None else parent_id.encode()
    lengths = _SESSION(created_at, len(name), -1 if parent is None else len(parent))
    return sha256(lengths + name + (parent or b"") + profile).digest()


def accounts_hash(
    heads: bytes, numbers: Sequence[Any], request: bytes, added: Mapping[str, Value] | None = None
) -> bytes:
    """Return the hash of everything that an append changes in a session.

    `heads` joins the four hashes that cover its profile, log, turns and other records. `numbers` are its accounts in the
    order of their columns: 18 integers, the tokens of the last request (-1 if there is none), and two floats. `request` is the
    stored JSON of the last request, or empty. `added` are columns of later schema versions by name; values that are None or 0
    are left out, so that adding a column keeps the hashes of older rows.
    """
    *integers, last_request, calibration, cost = numbers
    data = heads + _ACCOUNTS(*integers, -1 if last_request is None else last_request, calibration, cost) + request
    if added:
        values = sorted((name, value) for name, value in added.items() if value is not None and value != 0)
        data += b"".join(encode_record(name, value) for name, value in values)
    return sha256(data).digest()


def seal(key: bytes, record_hash: bytes) -> bytes:
    """Return the seal of a hash: only the owner of the key can compute it."""
    return hmac.digest(key, record_hash, "sha256")


def is_seal(key: bytes, record_hash: bytes, stored_seal: bytes | None) -> bool:
    """Return whether a stored seal was computed from this hash with this key."""
    return stored_seal is not None and hmac.compare_digest(seal(key, record_hash), stored_seal)


def hash_set(label: str, rows: Iterable[Sequence[Value]]) -> bytes:
    """Return the hash of rows in their order, and `EMPTY_HEAD` if there are none."""
    values = tuple(chain.from_iterable(rows))
    return hash_bytes(encode_record(label, *values)) if values else EMPTY_HEAD


def compress_seqs(seqs: Iterable[int]) -> list[int]:
    """Return ascending seqs as first and last of each dense run: [1, 2, 3, 7] gives [1, 3, 7, 7]."""
    ordered = sorted(seqs)
    ends = [end for before, after in pairwise(ordered) if after != before + 1 for end in (before, after)]
    return [ordered[0], *ends, ordered[-1]] if ordered else []
