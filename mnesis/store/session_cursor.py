"""Cursors of session listings: a position in the order of last use, as opaque text."""

from __future__ import annotations

from mnesis.errors import MnesisStoreError

FIRST_POSITION = (2**63 - 1, 2**63 - 1)


def format_cursor(last_used: int, key: int) -> str:
    """Return the cursor that continues after a session. `key` orders sessions that were used at the same moment."""
    return f"{last_used}.{key}"


def parse_cursor(cursor: str | None) -> tuple[int, int]:
    """Return the position of a cursor; None is the start. Raises `MnesisStoreError` if it is not a cursor."""
    if cursor is None:
        return FIRST_POSITION
    last_used, _, key = cursor.partition(".")
    try:
        return int(last_used), int(key)
    except ValueError as error:
        raise MnesisStoreError(f"{cursor!r} is not a cursor; pass next_cursor of the previous page, or None") from error
