"""Files that messages name, read from the messages themselves."""

from __future__ import annotations

from collections.abc import Collection

from mnesis.store.postgres.database import PostgresDatabase
from mnesis.store.postgres.rows import Row, to_text
from mnesis.store.postgres.transaction import Transaction

PAGE_MESSAGES = 2_000


async def find_mentioned_files(
    database: PostgresDatabase, content_ids: Collection[str], without_sessions: Collection[str]
) -> set[str]:
    """Return which of the files any message outside `without_sessions` names. Reads the whole log in the worst case."""
    missing = {name.encode("utf-8", "surrogatepass"): name for name in content_ids}
    found: set[str] = set()
    after = (0, 0)
    session_ids = [to_text(session_id) for session_id in without_sessions]
    while missing:
        rows = await database.read(_page, after, session_ids)
        if not rows:
            break
        after = (rows[-1][0], rows[-1][1])
        for parts in (row[2] for row in rows if row[2] is not None):
            found |= {missing.pop(name) for name in list(missing) if name in bytes(parts)}
    return found


def _page(transaction: Transaction, after: tuple[int, int], session_ids: list[str]) -> list[Row]:
    parameters = {
        "session_pk": after[0],
        "seq": after[1],
        "session_ids": session_ids,
        "limit": PAGE_MESSAGES,
    }
    return transaction.rows("messages_with_files", parameters)
