"""Cursors of session listings: a place in the order of last use, as opaque text."""

from __future__ import annotations

from mnesis.errors import MnesisStoreError

START = (2**63 - 1, 2**63 - 1)


def format_cursor(last_used: int, key: int) -> str:
    """The cursor that continues after the session used then; `key` tells apart sessions used at the same moment."""
    return f"{last_used}.{key}"


def parse_cursor(cursor: str | None) -> tuple[int, int]:
    """The place a cursor names; None is the start. Raises `MnesisStoreError` for what is no cursor."""
    if cursor is None:
        return START
    last_used, _, key = cursor.partition(".")
    try:
        return int(last_used), int(key)
    except ValueError as error:
        raise MnesisStoreError(f"{cursor!r} is no cursor; pass next_cursor of the page before, or None") from error
