"""Cursors of searches: where a page ended and what it was a page of, as opaque text."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from mnesis.errors import ConfigurationError
from mnesis.models.search import Search
from mnesis.validation import check_integer

MAX_LIMIT = 1_000
MOST = 2**63
"""What a database holds as a number is less."""


@dataclass(frozen=True, slots=True)
class Place:
    """How many hits came before, and the end of the log that the first page saw (0: none yet)."""

    offset: int = 0
    last_seq: int = 0


def parse_place(search: Search) -> Place:
    """The place a search goes on from. Raises `ConfigurationError` for a cursor of another search, or none at all."""
    if search.cursor is None:
        return Place()
    parts = search.cursor.split(".") if isinstance(search.cursor, str) else []
    if (
        len(parts) != 3
        or not all(p.isascii() and p.isdigit() and len(p) < 19 for p in parts[:2])
        or parts[2] != _mark(search)
    ):
        raise ConfigurationError(
            f"{str(search.cursor)[:80]!r} is no cursor of this search; pass next_cursor of its page before, or None"
        )
    return Place(int(parts[0]), int(parts[1]))


def format_place(search: Search, place: Place) -> str:
    """The cursor that continues there."""
    return f"{place.offset}.{place.last_seq}.{_mark(search)}"


def page_limit(limit: int) -> int:
    """How many hits a page holds: at least 1, at most `MAX_LIMIT`. Raises `ConfigurationError` below 1."""
    check_integer("limit", limit, least=1)
    return min(limit, MAX_LIMIT)


def check_search(search: Search) -> None:
    """Raises `ConfigurationError` for a search that asks for nothing there is."""
    page_limit(search.limit)
    if not isinstance(search.query, str):
        raise ConfigurationError(f"a query is a string, not {search.query!r}")
    if search.mode not in ("words", "substring"):
        raise ConfigurationError(f"mode is 'words' or 'substring', not {search.mode!r}")
    for name, text in (("role", search.role), ("tool", search.tool)):
        if text is not None and (not isinstance(text, str) or not _is_writable(text)):
            raise ConfigurationError(f"{name} is a name, not {text!r}")
    for name, moment in (("after", search.after), ("before", search.before)):
        if moment is not None and not (isinstance(moment, int | float) and abs(moment) < MOST):
            raise ConfigurationError(f"{name} is a time in milliseconds since 1970, not {str(moment)[:80]!r}")


def _is_writable(text: str) -> bool:
    return text.encode("utf-8", "replace").decode() == text


def _mark(search: Search) -> str:
    asked = repr(replace(search, cursor=None, limit=0)).encode("utf-8", "surrogatepass")
    return hashlib.sha256(asked).hexdigest()[:12]
