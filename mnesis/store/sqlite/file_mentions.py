"""Files that messages name, read from the messages themselves."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection

from mnesis.store.sqlite.database import Database
from mnesis.store.sqlite.queries import sql

PAGE_MESSAGES = 2_000
"""In one transaction, after which other callers continue."""


async def find_mentioned_files(
    database: Database, content_ids: Collection[str], without_sessions: Collection[str]
) -> set[str]:
    """Return which of the files any message outside `without_sessions` names. Reads the whole log in the worst case."""
    missing = {name.encode("utf-8", "surrogatepass"): name for name in content_ids}
    found: set[str] = set()
    after_pk: int | None = 0
    session_ids = json.dumps(list(without_sessions))
    while missing and after_pk is not None:
        after_pk, contents = await database.read(_page, after_pk, session_ids)
        for parts in contents:
            found |= {missing.pop(name) for name in list(missing) if name in parts}
    return found


def _page(connection: sqlite3.Connection, after_pk: int, session_ids: str) -> tuple[int | None, list[bytes]]:
    parameters = {"after_pk": after_pk, "session_ids": session_ids, "limit": PAGE_MESSAGES}
    rows = connection.execute(sql("messages_with_files"), parameters).fetchall()
    return (rows[-1][0] if rows else None), [parts for _, parts in rows if parts is not None]
