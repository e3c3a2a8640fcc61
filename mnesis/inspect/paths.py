"""Paths of pages. Ids may contain any character, so each id is one segment of unreserved characters. Pure functions, no I/O."""

from __future__ import annotations

import re
from urllib.parse import urlencode

_UNSAFE_BYTE = re.compile(rb"[^A-Za-z0-9_-]")
_ESCAPE = re.compile(r"~([0-9A-F]{2})")
_SEGMENT = re.compile(r"(?:[A-Za-z0-9_-]|~[0-9A-F]{2})+")


def encode_id(id: str) -> str:
    """Encode an id as one path segment. Letters, digits, "-" and "_" are kept; every other byte becomes "~XX".
    Percent-encoding does not work: servers decode "%2F" before they split the path, and browsers resolve "..".
    """
    return _UNSAFE_BYTE.sub(lambda match: b"~%02X" % match[0][0], id.encode("utf-8", "surrogatepass")).decode("ascii")


def decode_id(segment: str) -> str:
    """Decode a path segment. Raises ValueError if `encode_id` cannot have written it."""
    if not _SEGMENT.fullmatch(segment):
        raise ValueError(f"{segment!r} is not an encoded id")
    pieces = _ESCAPE.split(segment)
    data = b"".join(
        bytes([int(piece, 16)]) if index % 2 else piece.encode("ascii") for index, piece in enumerate(pieces)
    )
    return data.decode("utf-8", "surrogatepass")


def session_path(session_id: str, page: str = "", **query: object) -> str:
    """Return the path of a session's page. `query` values that are None or "" are left out."""
    path = f"/s/{encode_id(session_id)}"
    return with_query(f"{path}/{page}" if page else path, **query)


def message_path(session_id: str, message_id: str) -> str:
    """Return the path of a message."""
    return session_path(session_id, f"m/{encode_id(message_id)}")


def summary_path(session_id: str, summary_id: str, page: str = "") -> str:
    """Return the path of a summary."""
    path = session_path(session_id, f"summary/{encode_id(summary_id)}")
    return f"{path}/{page}" if page else path


def file_path(session_id: str, content_id: str, **query: object) -> str:
    """Return the path of a stored file, seen from a session that refers to it."""
    return session_path(session_id, f"files/{encode_id(content_id)}", **query)


def run_path(run_id: str, **query: object) -> str:
    """Return the path of a map run."""
    return with_query(f"/runs/{encode_id(run_id)}", **query)


def with_query(path: str, **query: object) -> str:
    """Append a query string. Values that are None or "" are left out."""
    pairs = [(name, str(value)) for name, value in query.items() if value is not None and value != ""]
    return f"{path}?{urlencode(pairs)}" if pairs else path
