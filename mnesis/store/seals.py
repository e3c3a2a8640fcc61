"""The refusal of writes whose seal would not be valid. Pure functions, no I/O."""

from __future__ import annotations

from mnesis.errors import IntegrityKeyError
from mnesis.store.chain import is_seal


def refuse_unsealed(key: bytes | None, record_hash: bytes, stored_seal: bytes | None, subject: str) -> None:
    """Raise `IntegrityKeyError` if a write with this key could not keep the seal valid, or would hide that it is not."""
    if key is None and stored_seal is None:
        return
    if key is None:
        raise IntegrityKeyError(
            f"{subject} is sealed with a key, and this process has none; pass StoreConfig(integrity_key=…), or set"
            " MNESIS_INTEGRITY_KEY_FILE for commands"
        )
    if stored_seal is None:
        raise IntegrityKeyError(
            f"{subject} is not sealed with a key yet; run `mnesis seal --key-file FILE` once, or omit integrity_key"
        )
    if not is_seal(key, record_hash, stored_seal):
        raise IntegrityKeyError(
            f"{subject} is sealed with another key, or was changed without the key; run `mnesis verify --key-file FILE`"
        )
