"""Parsing of the heads that callers pass: hexadecimal, one or several per session. Pure functions, no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mnesis.errors import ConfigurationError
from mnesis.store.chain import HASH_BYTES

Heads = Mapping[str, str | Sequence[str]]


def parse_heads(heads: Heads) -> dict[str, set[bytes]]:
    """Return heads by session as bytes. Raises `ConfigurationError` if one is not a hash in hexadecimal."""
    return {
        session_id: {_parse(session_id, head) for head in ([given] if isinstance(given, str) else given)}
        for session_id, given in heads.items()
    }


def _parse(session_id: str, head: str) -> bytes:
    try:
        parsed = bytes.fromhex(head)
    except ValueError:
        parsed = b""
    if len(parsed) != HASH_BYTES:
        raise ConfigurationError(
            f"{head!r} is not a head of session {session_id!r}; pass the {2 * HASH_BYTES} hexadecimal digits that"
            " verify() returned or `mnesis verify` printed"
        )
    return parsed
