"""Reads that continue after damage: invalid text is read as far as possible, and an error of a value does not end a
check.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Concatenate, ParamSpec, TypeVar

from mnesis.store.sqlite.database import Database

T = TypeVar("T")
P = ParamSpec("P")


async def read_leniently(
    database: Database, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Run `function` as `Database.read` does. Bytes of texts that are not UTF-8 become lone surrogates."""
    return await database.read(lambda connection: _read(connection, lambda: function(connection, *args, **kwargs)))


def _read(connection: sqlite3.Connection, function: Callable[[], T]) -> T:
    with lenient_text(connection):
        return function()


@contextmanager
def lenient_text(connection: sqlite3.Connection) -> Iterator[None]:
    """Read texts that are not UTF-8 with lone surrogates instead of the invalid bytes."""
    previous = connection.text_factory
    connection.text_factory = _decode_leniently
    try:
        yield
    finally:
        connection.text_factory = previous


def _decode_leniently(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
