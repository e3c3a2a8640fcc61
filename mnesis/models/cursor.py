"""Cursors: positions in paged results, as opaque text that the caller passes back."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from mnesis.errors import ConfigurationError

MAX_DIGITS = 18
"""Numbers of more digits do not fit a database integer of 64 bits."""
FINGERPRINT_CHARS = 12


@dataclass(frozen=True, slots=True)
class Cursor:
    """The end of a page: whole numbers, and the fingerprint of the request that they belong to ("" for any request).

    Its text is the numbers and the fingerprint, separated by dots.
    """

    numbers: tuple[int, ...]
    fingerprint: str = ""

    def __str__(self) -> str:
        return ".".join(filter(None, (*map(str, self.numbers), self.fingerprint)))


def parse_cursor(text: object, count: int, *, of: str, fingerprint: str = "") -> Cursor:
    """Parse a cursor of `count` numbers. `of` names the request in the error.

    Raises `ConfigurationError` if the text is not a cursor, or belongs to another request.
    """
    fields = text.split(".") if isinstance(text, str) else []
    digits, rest = fields[:count], fields[count:]
    if len(digits) == count and rest == ([fingerprint] if fingerprint else []) and all(map(_is_number, digits)):
        return Cursor(tuple(map(int, digits)), fingerprint)
    raise ConfigurationError(
        f"{str(text)[:80]!r} is not a cursor of {of}; pass the cursor of the previous page, or none to start at the"
        " beginning"
    )


def request_fingerprint(request: object) -> str:
    """Return a short hash of a request's `repr`, with which cursors of another request are rejected."""
    return hashlib.sha256(repr(request).encode("utf-8", "surrogatepass")).hexdigest()[:FINGERPRINT_CHARS]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS
