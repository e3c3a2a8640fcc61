"""Pages of searches: limits, positions and their cursors. Pure functions, no I/O."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from mnesis.errors import ConfigurationError
from mnesis.models.cursor import Cursor, parse_cursor, request_fingerprint
from mnesis.models.search import Search
from mnesis.validation import check_integer

MAX_LIMIT = 1_000
MAX_DATABASE_INTEGER = 2**63
"""Databases store integers whose absolute value is below this."""


class SearchPosition(NamedTuple):
    """The beginning of a page: the number of hits before it, and the end of the log when page one was read (0: not yet
    read).

    `asked_at` is the time of the query in milliseconds since 1970 (0: none).
    """

    offset: int = 0
    last_seq: int = 0
    asked_at: int = 0


def search_position(search: Search) -> SearchPosition:
    """Return the position that a search continues from.

    Raises `ConfigurationError` if its cursor is malformed or belongs to another search.
    """
    if search.cursor is None:
        return SearchPosition()
    cursor = parse_cursor(search.cursor, 3, of="this search", fingerprint=_fingerprint(search))
    return SearchPosition(*cursor.numbers)


def format_search_cursor(search: Search, position: SearchPosition) -> str:
    """Return the cursor that continues a search at a position."""
    return str(Cursor(tuple(position), _fingerprint(search)))


def page_limit(limit: int) -> int:
    """Return the number of hits per page: `limit`, at most `MAX_LIMIT`. Raises `ConfigurationError` below 1."""
    check_integer("limit", limit, minimum=1)
    return min(limit, MAX_LIMIT)


def check_search(search: Search) -> None:
    """Raise `ConfigurationError` if a field of the search has an invalid value."""
    page_limit(search.limit)
    if not isinstance(search.query, str):
        raise ConfigurationError(f"query must be a string, not {search.query!r}")
    if search.mode not in ("words", "substring"):
        raise ConfigurationError(f"mode must be 'words' or 'substring', not {search.mode!r}")
    for name, text in (("role", search.role), ("tool", search.tool)):
        if text is not None and (not isinstance(text, str) or not _is_encodable(text)):
            raise ConfigurationError(f"{name} must be a string, not {text!r}")
    for name, moment in (("after", search.after), ("before", search.before)):
        if moment is not None and not (isinstance(moment, int | float) and abs(moment) < MAX_DATABASE_INTEGER):
            raise ConfigurationError(f"{name} must be a time in milliseconds since 1970, not {str(moment)[:80]!r}")


def _is_encodable(text: str) -> bool:
    return text.encode("utf-8", "replace").decode() == text


def _fingerprint(search: Search) -> str:
    return request_fingerprint(replace(search, cursor=None, limit=0, now=None, vector=None))
